/* mb_data.c - inputs that can be computed for any element, and the error of results.
 *
 * The normals repeat after a prime number of elements, so that an image of any size can be filled from one block and no
 * two images or rows of it are equal. */
#include "base/mem.h"
#include "math/bf16.h"
#include "mb.h"
#include "noise.h"

#include <math.h>
#include <stdio.h>

enum { PERIOD = 1048573, SEED = 17 };

static float normals[PERIOD + 3];
static bool drawn;

static double normal(int k, int64_t i)
{
    const uint32_t ab[2] = {0, 0};
    if (!drawn) noise_normals(SEED, 0, ab, 0, (PERIOD + 3) / 4, normals);
    drawn = true;
    return (double)normals[(i + 77783 * (int64_t)(k + 1)) % PERIOD];
}

static double value_as_stored(double v, dtype d)
{
    return (double)(d == DTYPE_BF16 ? bf16_to_f32(bf16_of((float)v)) : (float)v);
}

double mb_value(int k, int64_t i, dtype d) { return value_as_stored(normal(k, i), d); }
double mb_filled(fill f, int64_t i, dtype d) { return value_as_stored(f.scale * normal(f.stream, i) + f.shift, d); }

static void put(void *block, dtype d, int64_t at, double v)
{
    if (d == DTYPE_BF16)
        ((bf16 *)block)[at] = bf16_of((float)v);
    else
        ((float *)block)[at] = (float)v;
}

ddpm_status mb_fill(backend *be, void *to, dtype d, int64_t count, fill f, err *e)
{
    const int64_t length = count < PERIOD ? count : PERIOD, size = (int64_t)dtype_size(d);
    void *block;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&block, (size_t)length, (size_t)size, "values", e));
    for (int64_t i = 0; i < length; i++) put(block, d, i, f.scale * normal(f.stream, i) + f.shift);
    for (int64_t at = 0; at < count && st == DDPM_OK; at += length) {
        const int64_t part = count - at < length ? count - at : length;
        st = be->fn->upload(be, (char *)to + at * size, block, (size_t)(part * size), e);
    }
    mem_free(block);
    return st;
}

ddpm_status mb_read(backend *be, const void *data, dtype d, int64_t i, double *v, err *e)
{
    union {
        float f;
        bf16 low;
    } got;
    const size_t size = dtype_size(d);
    TRY(be->fn->download(be, &got, (const char *)data + i * (int64_t)size, size, e));
    *v = (double)(d == DTYPE_BF16 ? bf16_to_f32(got.low) : got.f);
    return DDPM_OK;
}

void agree(agreement *a, double got, double want)
{
    a->difference += isfinite(got) ? (got - want) * (got - want) : INFINITY;
    a->norm += want * want;
    a->n++;
}

double agreement_error(const agreement *a)
{
    const double scale = a->norm > 0 ? a->norm : 1;
    return a->n && a->difference < INFINITY ? sqrt(a->difference / scale) : 1e30;
}

/* bf16: stored values have 8 bits of significand, and a library may round once more in between. */
double mb_tolerance(dtype d, bool tf32) { return d == DTYPE_BF16 ? 1.5e-2 : tf32 ? 2e-3 : 2e-5; }

bool mb_check(mb_run *r, const char *key, const agreement *a, double tolerance)
{
    const double error = agreement_error(a);
    json_out_real(&r->json, key, error);
    if (error <= tolerance) return true;
    printf("WRONG: %s is off by %.3g, more than %.3g\n", key, error, tolerance);
    r->wrong++;
    return false;
}
