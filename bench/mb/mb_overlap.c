/* mb_overlap.c - mb7: ablations: what disabling one optimization costs in a training step. */
#include "base/mem.h"
#include "mb.h"
#include "predictions.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <stdio.h>

/* ---- training steps, on their own backend if its options differ ---- */

void step_destroy(step_bench *b)
{
    bench_train_destroy(&b->rig);
    backend_destroy(b->own);
    *b = (step_bench){.own = NULL};
}

ddpm_status step_create(const mb_run *r, unsigned disabled, step_bench *b, err *e)
{
    backend_spec device = r->o->backend;
    double ms, wall_ms;
    ddpm_status st = DDPM_OK;
    *b = (step_bench){.own = NULL};
    if (disabled != device.disabled) {
        device.disabled = disabled;
        TRY_GOTO(backend_create(&device, &b->own, e));
    }
    TRY_GOTO(bench_train_create(&r->o->config, b->own ? b->own : r->be, &b->rig, e));
    for (int i = 0; i < r->o->warmup; i++) TRY_GOTO(bench_train_iterations(&b->rig, 1, &ms, &wall_ms, e));
done:
    if (st != DDPM_OK) step_destroy(b);
    return st;
}

/* ---- mb7: with and without the optimization, alternating ---- */

static const struct {
    unsigned flag;
    const char *name;
} optimizations[] = {
#ifdef MB_CUDA
    {CUDA_OPT_SIDE, "side_stream"},
    {CUDA_OPT_GRAPH, "graph"},
    {CUDA_OPT_UPCONV, "folded_upconv"},
    {CUDA_OPT_SDPA, "fused_attention"},
    {CUDA_OPT_EPILOGUE, "epilogues"},
    {CUDA_OPT_TUNING, "tuning"},
    {CUDA_OPT_BIAS_SUMS, "bias_sums"},
    {CUDA_OPT_CONCAT, "virtual_concat"},
    {CUDA_OPT_PROJECTIONS, "joint_projections"},
    {CUDA_OPT_BETA, "beta"},
    {CUDA_OPT_GRAD_SUMS, "grad_sums"},
    {CUDA_OPT_TIME_MLP, "time_mlp"},
#else
    {1, "nothing"}, /* the same step twice: shows the noise of the measurement */
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
        TRY_GOTO(bench_train_iterations(&with->rig, n, ms[0] + (ptrdiff_t)round * n, &wall_ms, e));
        TRY_GOTO(bench_train_iterations(&without->rig, n, ms[1] + (ptrdiff_t)round * n, &wall_ms, e));
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
    TRY(step_create(r, r->o->backend.disabled | optimizations[k].flag, &without, e));
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
    TRY(step_create(r, r->o->backend.disabled, &with, e));
    json_out_open(&r->json, "rows", '[');
    for (int k = 0; k < OPTIMIZATIONS && st == DDPM_OK; k++)
        if (mb_wanted(r, optimizations[k].name)) st = ablate(r, &with, k, e);
    json_out_close(&r->json, ']');
    if (p) json_out_real(&r->json, "predicted_gain_of_side_stream_ms", p->overlap_ms);
    step_destroy(&with);
    return st;
}
