/* mb_step.c - whole training steps, through the interface that the program itself uses; and mb7, what
 * leaving one optimization out costs. */
#include "core/clock.h"
#include "core/mem.h"
#include "mb.h"
#include "predictions.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <stdio.h>

/* ---- a training step ---- */

void step_destroy(step_bench *b)
{
    trainer_destroy(b->t);
    model_destroy(b->m);
    images_close(&b->images);
    if (b->own) backend_destroy(b->be);
    *b = (step_bench){.be = NULL};
}

static ddpm_status one_step(step_bench *b, err *e)
{
    TRY(trainer_accumulate_stored(b->t, images_next(&b->images), e));
    return trainer_update(b->t, e);
}

ddpm_status step_create(const mb_run *r, unsigned debug, step_bench *b, err *e)
{
    trainer_spec spec = mb_trainer_spec(r);
    backend_spec device = r->o->backend;
    ddpm_status st = DDPM_OK;
    *b = (step_bench){.be = r->be};
    if (debug != device.debug) {
        device.debug = debug;
        b->be = NULL;
        b->own = true;
        TRY_GOTO(backend_create(&device, &b->be, e));
    }
    TRY_GOTO(images_open(r, &b->images, e));
    spec.resident = b->images.count;
    TRY_GOTO(mb_model(r, b->be, &b->m, e));
    TRY_GOTO(trainer_create(b->m, &spec, &b->t, e));
    TRY_GOTO(trainer_allocate(b->t, e));
    TRY_GOTO(mb_load(r, b->m, r->o->config.ema.decay > 0, e));
    TRY_GOTO(trainer_store(b->t, 0, b->images.count, b->images.bytes, e));
    for (int i = 0; i < r->o->warmup; i++) TRY_GOTO(one_step(b, e));
    TRY_GOTO(trainer_state(b->t, &b->state, e));
done:
    if (st != DDPM_OK) step_destroy(b);
    return st;
}

static ddpm_status time_turns(step_bench *b, stamp *stamps, int n, double *ms, err *e)
{
    TRY(stamp_set(b->be, &stamps[0], e));
    for (int i = 0; i < n; i++) {
        TRY(one_step(b, e));
        TRY(stamp_set(b->be, &stamps[i + 1], e));
    }
    for (int i = 0; i < n; i++) TRY(stamp_ms(&stamps[i], &stamps[i + 1], &ms[i], e));
    return DDPM_OK;
}

ddpm_status step_time(void *context, int n, double *ms, double *wall_ms, err *e)
{
    step_bench *b = context;
    stamp *stamps;
    TRY(stamps_create(b->be, &stamps, n + 1, e));
    const double begin = clock_seconds();
    ddpm_status st = time_turns(b, stamps, n, ms, e);
    *wall_ms = 1e3 * (clock_seconds() - begin);
    if (st == DDPM_OK) st = trainer_state(b->t, &b->state, e);
    stamps_destroy(stamps, n + 1);
    return st;
}

static void step_more(void *context, json_out *j)
{
    const step_bench *b = context;
    const trainer_memory need = trainer_needs(b->t);
    json_out_int(j, "step", (int64_t)b->state.step);
    json_out_int(j, "skipped", (int64_t)b->state.skipped);
    json_out_real(j, "loss", (double)b->state.loss < 1e30 ? (double)b->state.loss : -1);
    json_out_int(j, "parameters", b->m->store->values);
    json_out_int(j, "memory_bytes", (int64_t)(need.weights + need.activations + need.inputs));
    json_out_real(j, "gflop_per_image", 1e-9 * need.flops);
}

static ddpm_status report_step(mb_run *r, step_bench *b, err *e)
{
    const predicted_step *p = mb_prediction(r);
    const int n = r->o->repeats, batch = r->o->config.train.batch;
    double *ms, wall_ms;
    TRY(mem_array(&ms, (size_t)n, sizeof *ms, "timings", e));
    const ddpm_status st = step_time(b, n, ms, &wall_ms, e);
    const timing t = timing_of(ms, st == DDPM_OK ? n : 0);
    mem_free(ms);
    TRY(st);
    timing_put(&r->json, "step", &t);
    json_out_real(&r->json, "wall_ms", wall_ms / n);
    json_out_real(&r->json, "images_per_second", 1e3 * batch / t.median);
    step_more(b, &r->json);
    printf("batch %d: %.3f ms (p10 %.3f, p90 %.3f; wall %.3f), %.0f images/s, loss %.4f\n", batch, t.median, t.p10,
           t.p90, wall_ms / n, 1e3 * batch / t.median, (double)b->state.loss);
    if (p && p->batch == batch) {
        json_out_real(&r->json, "predicted_ms", p->training_ms);
        json_out_real(&r->json, "floor_ms", p->floor_ms);
        printf("predicted %.2f ms, floor %.2f ms\n", p->training_ms, p->floor_ms);
    }
    return DDPM_OK;
}

ddpm_status mb_step(mb_run *r, err *e)
{
    step_bench b;
    TRY(step_create(r, r->o->backend.debug, &b, e));
    const server s = {step_time, &b, step_more};
    const ddpm_status st = r->o->serve ? mb_serve(r, &s, e) : report_step(r, &b, e);
    step_destroy(&b);
    return st;
}

/* ---- mb7: with and without, by turns ---- */

static const struct {
    unsigned flag;
    const char *name;
} optimizations[] = {
#ifdef MB_CUDA
    {CUDA_NO_SIDE, "side_stream"},
    {CUDA_NO_GRAPH, "graph"},
    {CUDA_NO_UPCONV, "folded_upconv"},
    {CUDA_NO_SDPA, "fused_attention"},
    {CUDA_NO_EPILOGUE, "epilogues"},
    {CUDA_NO_TUNING, "tuning"},
    {CUDA_NO_BIAS_SUMS, "bias_sums"},
    {CUDA_NO_CONCAT, "virtual_concat"},
    {CUDA_NO_PROJECTIONS, "joint_projections"},
    {CUDA_NO_BETA, "beta"},
    {CUDA_NO_TIME_MLP, "time_mlp"},
#else
    {1, "nothing"}, /* the same twice: what noise there is */
#endif
};
enum { OPTIMIZATIONS = sizeof optimizations / sizeof optimizations[0], ROUNDS = 6 };

static ddpm_status by_turns(const mb_run *r, step_bench *with, step_bench *without, timing out[2], err *e)
{
    const int n = r->o->repeats;
    double *ms[2] = {NULL, NULL}, wall_ms;
    ddpm_status st = DDPM_OK;
    for (int k = 0; k < 2; k++) TRY_GOTO(mem_array(&ms[k], (size_t)n * ROUNDS, sizeof(double), "timings", e));
    for (int round = 0; round < ROUNDS; round++) {
        TRY_GOTO(step_time(with, n, ms[0] + (ptrdiff_t)round * n, &wall_ms, e));
        TRY_GOTO(step_time(without, n, ms[1] + (ptrdiff_t)round * n, &wall_ms, e));
    }
    for (int k = 0; k < 2; k++) out[k] = timing_of(ms[k], n * ROUNDS);
done:
    mem_free(ms[0]);
    mem_free(ms[1]);
    return st;
}

static ddpm_status ablate(mb_run *r, step_bench *with, int k, err *e)
{
    step_bench without;
    timing t[2];
    ddpm_status st = DDPM_OK;
    TRY(step_create(r, r->o->backend.debug | optimizations[k].flag, &without, e));
    TRY_GOTO(by_turns(r, with, &without, t, e));
    json_out_open(&r->json, NULL, '{');
    json_out_text(&r->json, "without", optimizations[k].name);
    timing_put(&r->json, "with", &t[0]);
    timing_put(&r->json, "without_ms", &t[1]);
    json_out_real(&r->json, "gain_ms", t[1].median - t[0].median);
    json_out_close(&r->json, '}');
    printf("%-16s with %.3f ms, without %.3f ms: %+.3f ms\n", optimizations[k].name, t[0].median, t[1].median,
           t[1].median - t[0].median);
done:
    step_destroy(&without);
    return st;
}

ddpm_status mb_overlap(mb_run *r, err *e)
{
    step_bench with;
    const predicted_step *p = mb_prediction(r);
    ddpm_status st = DDPM_OK;
    TRY(step_create(r, r->o->backend.debug, &with, e));
    json_out_open(&r->json, "rows", '[');
    for (int k = 0; k < OPTIMIZATIONS && st == DDPM_OK; k++)
        if (mb_wanted(r, optimizations[k].name)) st = ablate(r, &with, k, e);
    json_out_close(&r->json, ']');
    if (p) json_out_real(&r->json, "predicted_gain_of_side_stream_ms", p->overlap_ms);
    step_destroy(&with);
    return st;
}

/* ---- the weights that the rivals start from ---- */

ddpm_status mb_weights(mb_run *r, err *e)
{
    model *m = NULL;
    ddpm_status st = DDPM_OK;
    if (!r->o->out[0]) return err_set(e, DDPM_EINVAL, "weights: --out FOLDER is missing");
    TRY_GOTO(mb_model(r, r->be, &m, e));
    TRY_GOTO(params_allocate(m->store, false, false, e));
    TRY_GOTO(mb_load(r, m, false, e));
    TRY_GOTO(dir_make(r->o->out, e));
    TRY_GOTO(model_save(m, ARENA_PARAM, r->o->out, e));
    json_out_int(&r->json, "parameters", m->store->values);
    printf("%lld parameters in %s\n", (long long)m->store->values, r->o->out);
done:
    model_destroy(m);
    return st;
}
