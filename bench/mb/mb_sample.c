/* mb_sample.c - mb9: whole sampling loops, through the interface that the program itself uses. */
#include "core/clock.h"
#include "core/mem.h"
#include "mb.h"
#include "predictions.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <stdio.h>
#include <stdlib.h>

typedef struct sample_bench {
    backend *be;
    bool own;
    model *m;
    generator *g;
    int64_t *ids;
    float *x;
    int batch;
} sample_bench;

static void sample_destroy(sample_bench *b)
{
    generator_destroy(b->g);
    model_destroy(b->m);
    mem_free(b->ids);
    mem_free(b->x);
    if (b->own) backend_destroy(b->be);
    *b = (sample_bench){.be = NULL};
}

static ddpm_status sample_plan(const mb_run *r, sample_bench *b, err *e)
{
    generator_spec spec = recipe_generator(&r->o->config, b->m, ARENA_PARAM);
    const size_t values = (size_t)r->image.h * (size_t)r->image.w * (size_t)r->image.c;
    spec.batch = b->batch;
    TRY(params_allocate(b->m->store, false, false, e));
    TRY(mb_load(r, b->m, false, e));
    TRY(generator_create(b->m, &spec, &b->g, e));
    TRY(generator_allocate(b->g, e));
    TRY(mem_array(&b->ids, (size_t)b->batch, sizeof *b->ids, "ids", e));
    for (int i = 0; i < b->batch; i++) b->ids[i] = i;
    TRY(mem_array(&b->x, (size_t)b->batch * values, sizeof *b->x, "images", e));
    return generator_run(b->g, b->ids, b->batch, b->x, e); /* warm */
}

static ddpm_status sample_create(const mb_run *r, unsigned debug, int batch, sample_bench *b, err *e)
{
    backend_spec device = r->o->backend;
    ddpm_status st = DDPM_OK;
    *b = (sample_bench){.be = r->be, .batch = batch};
    if (debug != device.debug) {
        device.debug = debug;
        b->be = NULL;
        b->own = true;
        TRY_GOTO(backend_create(&device, &b->be, e));
    }
    TRY_GOTO(mb_model(r, b->be, &b->m, e));
    TRY_GOTO(sample_plan(r, b, e));
done:
    if (st != DDPM_OK) sample_destroy(b);
    return st;
}

/* ms[i] of one network evaluation in the i-th loop, noise and copies included; a loop ends in a download, so
 * the clock tells. */
static ddpm_status sample_time(void *context, int n, double *ms, double *wall_ms, err *e)
{
    sample_bench *b = context;
    const double begin = clock_seconds();
    for (int i = 0; i < n; i++) {
        const double from = clock_seconds();
        TRY(generator_run(b->g, b->ids, b->batch, b->x, e));
        ms[i] = 1e3 * (clock_seconds() - from) / generator_steps(b->g);
    }
    *wall_ms = 1e3 * (clock_seconds() - begin);
    return DDPM_OK;
}

static void sample_more(void *context, json_out *j)
{
    const sample_bench *b = context;
    json_out_int(j, "steps", generator_steps(b->g));
    json_out_int(j, "parameters", b->m->store->values);
    const size_t weights = b->m->store->count * sizeof(float) + params_copy_bytes(b->m->store);
    json_out_int(j, "memory_bytes", (int64_t)(generator_bytes(b->g) + weights));
}

ddpm_status mb_sample(mb_run *r, err *e)
{
    enum { LOOPS = 64 };
    sample_bench b;
    double ms[LOOPS], wall_ms;
    ddpm_status st = DDPM_OK;
    const int loops = r->o->repeats < LOOPS ? r->o->repeats : LOOPS;
    TRY(sample_create(r, r->o->backend.debug, r->o->config.sample.batch, &b, e));
    const server s = {sample_time, &b, sample_more};
    if (r->o->serve)
        TRY_GOTO(mb_serve(r, &s, e));
    else {
        TRY_GOTO(sample_time(&b, loops, ms, &wall_ms, e));
        const timing t = timing_of(ms, loops);
        timing_put(&r->json, "evaluation", &t);
        sample_more(&b, &r->json);
        printf("batch %d: %.4f ms a network evaluation of %d, %.2f images/s\n", b.batch, t.median, generator_steps(b.g),
               1e3 * b.batch / t.median / generator_steps(b.g));
    }
done:
    sample_destroy(&b);
    return st;
}

/* ---- every batch, by every kind of loop ---- */

static const struct {
    unsigned flag;
    const char *name;
} loops[] = {
    {0, "as_it_is"},
#ifdef MB_CUDA
    {CUDA_NO_LOOP, "replayed"},
    {CUDA_NO_GRAPH, "launched"},
#endif
};
enum { LOOP_KINDS = sizeof loops / sizeof loops[0] };

static ddpm_status sampling_row(mb_run *r, int batch, int kind, err *e)
{
    enum { LOOPS = 5 };
    sample_bench b;
    double ms[LOOPS], wall_ms;
    const predicted_step *p = mb_prediction(r);
    ddpm_status st = DDPM_OK;
    TRY(sample_create(r, r->o->backend.debug | loops[kind].flag, batch, &b, e));
    TRY_GOTO(sample_time(&b, LOOPS, ms, &wall_ms, e));
    const timing t = timing_of(ms, LOOPS);
    json_out_open(&r->json, NULL, '{');
    json_out_text(&r->json, "loop", loops[kind].name);
    json_out_int(&r->json, "batch", batch);
    timing_put(&r->json, "evaluation", &t);
    printf("batch %4d %-9s %.4f ms an evaluation", batch, loops[kind].name, t.median);
    for (int k = 0; p && k < 3; k++)
        if (batch > 0 && p->sample_batch[k] == batch) {
            json_out_real(&r->json, "predicted_ms", p->sample_ms[k]);
            printf(", predicted %.2f", p->sample_ms[k]);
        }
    printf("\n");
    json_out_close(&r->json, '}');
done:
    sample_destroy(&b);
    return st;
}

ddpm_status mb_sampling(mb_run *r, err *e)
{
    ddpm_status st = DDPM_OK;
    json_out_open(&r->json, "rows", '[');
    for (const char *at = r->o->batches; *at && st == DDPM_OK;) {
        char *end;
        const long batch = strtol(at, &end, 10);
        if (end == at || batch < 1 || batch > 65536) {
            st = err_set(e, DDPM_EINVAL, "--batches %s: numbers with commas between them were expected", r->o->batches);
            break;
        }
        for (int k = 0; k < LOOP_KINDS && st == DDPM_OK; k++)
            if (mb_wanted(r, loops[k].name)) st = sampling_row(r, (int)batch, k, e);
        at = *end == ',' ? end + 1 : end;
    }
    json_out_close(&r->json, ']');
    return st;
}
