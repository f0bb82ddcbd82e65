#include "support/golden.h"
#include "base/file.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

char *golden_path(char *out, const char *name)
{
    const int length = snprintf(out, PATH_CAP, "%s/golden/%s", DDPM_TESTS, name);
    cr_assert(length > 0 && length < PATH_CAP, "%s: the path is too long", name);
    return out;
}

safetensors *golden_open(const char *name)
{
    char path[PATH_CAP];
    safetensors *st = NULL;
    err e = {0};
    cr_assert_eq(safetensors_open(golden_path(path, name), &st, &e), DDPM_OK, "%s", e.text);
    return st;
}

const safetensors_tensor *golden_find(const safetensors *st, const char *name)
{
    const safetensors_tensor *t = safetensors_find(st, name);
    cr_assert_not_null(t, "no tensor %s", name);
    return t;
}

int64_t golden_count(const safetensors *st, const char *name)
{
    const safetensors_tensor *t = golden_find(st, name);
    return (int64_t)(t->bytes / safetensors_dtype_size(t->dtype));
}

/* A new array for the values of `name`, `size` bytes each. */
static void *new_values(const safetensors *st, const char *name, size_t size, int64_t *n)
{
    const int64_t count = golden_count(st, name);
    void *values = NULL;
    err e = {0};
    cr_assert_eq(mem_array(&values, (size_t)count, size, name, &e), DDPM_OK, "%s", e.text);
    if (n) *n = count;
    return values;
}

static void *copy_values(const safetensors *st, const char *name, safetensors_dtype dtype, int64_t *n)
{
    const safetensors_tensor *t = golden_find(st, name);
    cr_assert_eq(t->dtype, dtype, "%s is %s, not %s", name, safetensors_dtype_name(t->dtype),
                 safetensors_dtype_name(dtype));
    void *values = new_values(st, name, safetensors_dtype_size(dtype), n);
    memcpy(values, t->data, t->bytes);
    return values;
}

float *golden_f32(const safetensors *st, const char *name, int64_t *n)
{
    float *values = new_values(st, name, sizeof *values, n);
    err e = {0};
    cr_assert_eq(safetensors_to_f32(golden_find(st, name), values, &e), DDPM_OK, "%s", e.text);
    return values;
}

double *golden_f64(const safetensors *st, const char *name, int64_t *n)
{
    return copy_values(st, name, SAFETENSORS_F64, n);
}

int64_t *golden_i64(const safetensors *st, const char *name, int64_t *n)
{
    return copy_values(st, name, SAFETENSORS_I64, n);
}

uint8_t *golden_u8(const safetensors *st, const char *name, int64_t *n)
{
    return copy_values(st, name, SAFETENSORS_U8, n);
}

double rel_l2(const float *a, const float *b, int64_t n)
{
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        difference += d * d;
        norm += (double)b[i] * (double)b[i];
    }
    return norm == 0 ? sqrt(difference) : sqrt(difference / norm);
}
