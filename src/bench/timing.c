#include "bench/timing.h"
#include "base/clock.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

/* ---- statistics -------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

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

double roofline_ms(double flops, double bytes, const machine_peak *peak)
{
    const double computing = peak->tflop_per_s > 0 ? 1e-9 * flops / peak->tflop_per_s : 0;
    const double moving = peak->gb_per_s > 0 ? 1e-6 * bytes / peak->gb_per_s : 0;
    return computing > moving ? computing : moving;
}

/* ---- timestamps -------------------------------------------------------------------------------------- */

ddpm_status stamps_create(stamp **out, int n, err *e)
{
    return mem_array(out, (size_t)n, sizeof **out, "stamps", e); /* events are created by the first stamp_set() */
}

void stamps_destroy(backend *be, stamp *stamps, int n)
{
    for (int i = 0; stamps && be && be->fn->event_free && i < n; i++) be->fn->event_free(be, stamps[i].event);
    mem_free(stamps);
}

ddpm_status stamp_set(backend *be, stamp *s, err *e)
{
    s->seconds = clock_seconds();
    return be->fn->event_record ? be->fn->event_record(be, &s->event, e) : DDPM_OK;
}

ddpm_status stamp_ms(backend *be, const stamp *from, const stamp *to, double *ms, err *e)
{
    if (be->fn->event_record) return be->fn->event_elapsed_ms(be, from->event, to->event, ms, e);
    *ms = 1e3 * (to->seconds - from->seconds);
    return DDPM_OK;
}

ddpm_status backend_wait(backend *be, err *e) { return be->fn->wait ? be->fn->wait(be, e) : DDPM_OK; }
