/* mb_sampling.c - mb9: whole sampling loops, by batch size and kind of loop. */
#include "mb.h"
#include "predictions.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <stdio.h>
#include <stdlib.h>

/* A sampling loop, on its own backend if its options differ. */
typedef struct loop_bench {
    backend *own;
    bench_sample rig;
} loop_bench;

static void loop_destroy(loop_bench *b)
{
    bench_sample_destroy(&b->rig);
    backend_destroy(b->own);
    *b = (loop_bench){.own = NULL};
}

static ddpm_status loop_create(const mb_run *r, unsigned disabled, int batch, loop_bench *b, err *e)
{
    backend_spec device = r->o->backend;
    ddpm_config c = r->o->config;
    double ms, wall_ms;
    ddpm_status st = DDPM_OK;
    c.sample.batch = batch;
    *b = (loop_bench){.own = NULL};
    if (disabled != device.disabled) {
        device.disabled = disabled;
        TRY_GOTO(backend_create(&device, &b->own, e));
    }
    TRY_GOTO(bench_sample_create(&c, NULL, b->own ? b->own : r->be, &b->rig, e));
    TRY_GOTO(bench_sample_iterations(&b->rig, 1, &ms, &wall_ms, e)); /* warm-up */
done:
    if (st != DDPM_OK) loop_destroy(b);
    return st;
}

static const struct {
    unsigned flag;
    const char *name;
} loops[] = {
    {0, "as_it_is"},
#ifdef MB_CUDA
    {CUDA_OPT_LOOP, "replayed"},
    {CUDA_OPT_GRAPH, "launched"},
#endif
};
enum { LOOP_KINDS = sizeof loops / sizeof loops[0] };

static ddpm_status sampling_row(mb_run *r, int batch, int kind, err *e)
{
    enum { LOOPS = 5 };
    loop_bench b;
    double ms[LOOPS], wall_ms;
    const predicted_step *p = mb_prediction(r);
    ddpm_status st = DDPM_OK;
    TRY(loop_create(r, r->o->backend.disabled | loops[kind].flag, batch, &b, e));
    TRY_GOTO(bench_sample_iterations(&b.rig, LOOPS, ms, &wall_ms, e));
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
    loop_destroy(&b);
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
