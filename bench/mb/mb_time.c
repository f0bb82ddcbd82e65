/* mb_time.c - when work on a device began and ended. */
#include "core/clock.h"
#include "core/mem.h"
#include "mb.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Between the two nearest of the sorted values. */
static double quantile(const double *sorted, int n, double q)
{
    const double at = q * (n - 1);
    const int below = (int)floor(at);
    const int above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

timing timing_of(double *ms, int n)
{
    if (n < 1) return (timing){0};
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    return (timing){n, quantile(ms, n, 0.5), quantile(ms, n, 0.1), quantile(ms, n, 0.9), ms[0], ms[n - 1]};
}

void timing_put(json_out *j, const char *key, const timing *t)
{
    json_out_open(j, key, '{');
    json_out_real(j, "median", t->median);
    json_out_real(j, "p10", t->p10);
    json_out_real(j, "p90", t->p90);
    json_out_real(j, "min", t->min);
    json_out_real(j, "max", t->max);
    json_out_int(j, "n", t->n);
    json_out_close(j, '}');
}

#ifdef MB_CUDA
static void *stream_of(const backend *be) { return mb_on_cuda(be) ? ((const cuda_backend *)be)->main : NULL; }

static ddpm_status event_create(backend *be, stamp *s, err *e)
{
    return mb_on_cuda(be) ? rt_event_create(true, &s->event, e) : DDPM_OK;
}

static void event_destroy(stamp *s) { rt_event_destroy(s->event); }

static ddpm_status event_set(backend *be, stamp *s, err *e) { return rt_event_record(s->event, stream_of(be), e); }

static ddpm_status event_ms(const stamp *from, const stamp *to, double *ms, err *e)
{
    float f;
    TRY(rt_event_ms(from->event, to->event, &f, e));
    *ms = (double)f;
    return DDPM_OK;
}

ddpm_status mb_wait(backend *be, err *e) { return mb_on_cuda(be) ? rt_sync(stream_of(be), e) : DDPM_OK; }
#else
static ddpm_status event_create(backend *be, stamp *s, err *e)
{
    (void)be, (void)s, (void)e;
    return DDPM_OK;
}

static void event_destroy(stamp *s) { (void)s; }

static ddpm_status event_set(backend *be, stamp *s, err *e)
{
    (void)be, (void)s;
    return err_set(e, DDPM_EDEVICE, "built without the cuda backend");
}

static ddpm_status event_ms(const stamp *from, const stamp *to, double *ms, err *e)
{
    (void)from, (void)to, (void)ms;
    return err_set(e, DDPM_EDEVICE, "built without the cuda backend");
}

ddpm_status mb_wait(backend *be, err *e)
{
    (void)be, (void)e;
    return DDPM_OK;
}
#endif

ddpm_status stamps_create(backend *be, stamp **out, int n, err *e)
{
    TRY(mem_array(out, (size_t)n, sizeof **out, "stamps", e));
    for (int i = 0; i < n; i++) {
        const ddpm_status st = event_create(be, &(*out)[i], e);
        if (st == DDPM_OK) continue;
        stamps_destroy(*out, n);
        *out = NULL;
        return st;
    }
    return DDPM_OK;
}

void stamps_destroy(stamp *stamps, int n)
{
    if (!stamps) return;
    for (int i = 0; i < n; i++) event_destroy(&stamps[i]);
    mem_free(stamps);
}

ddpm_status stamp_set(backend *be, stamp *s, err *e)
{
    s->seconds = clock_seconds();
    return s->event ? event_set(be, s, e) : DDPM_OK;
}

ddpm_status stamp_ms(const stamp *from, const stamp *to, double *ms, err *e)
{
    if (from->event) return event_ms(from, to, ms, e);
    *ms = 1e3 * (to->seconds - from->seconds);
    return DDPM_OK;
}

ddpm_status time_steps(const mb_run *r, backend *be, step *const *steps, int n, timing *out, err *e)
{
    const int repeats = r->o->repeats;
    stamp *stamps = NULL;
    double *ms = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(stamps_create(be, &stamps, repeats + 1, e));
    TRY_GOTO(mem_array(&ms, (size_t)repeats, sizeof *ms, "timings", e));
    for (int i = 0; i < r->o->warmup; i++) TRY_GOTO(be->fn->run(be, steps, n, 1, e));
    TRY_GOTO(mb_wait(be, e));
    TRY_GOTO(stamp_set(be, &stamps[0], e));
    for (int i = 0; i < repeats; i++) {
        TRY_GOTO(be->fn->run(be, steps, n, 1, e));
        TRY_GOTO(stamp_set(be, &stamps[i + 1], e));
    }
    for (int i = 0; i < repeats; i++) TRY_GOTO(stamp_ms(&stamps[i], &stamps[i + 1], &ms[i], e));
    *out = timing_of(ms, repeats);
done:
    stamps_destroy(stamps, repeats + 1);
    mem_free(ms);
    return st;
}
