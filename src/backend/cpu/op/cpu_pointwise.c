/* cpu_pointwise.c - column sums and elementwise ops. */
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/lib/cpu_layout.h"

#include <string.h>

enum { SUM_ROWS = 256 }; /* rows per partial sum: fixed, so that results do not depend on the threads */

/* Partial sums over fixed blocks of rows are in f32; they are added in order in f64. */
void cpu_column_sums(const float *x, int64_t rows, int64_t c, bool add, float *sums)
{
    enum { WIDTH = 64 };
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < c; from += WIDTH) {
        const int64_t width = c - from < WIDTH ? c - from : WIDTH;
        double total[WIDTH] = {0};
        for (int64_t block = 0; block < rows; block += SUM_ROWS) {
            float part[WIDTH] = {0};
            const int64_t end = block + SUM_ROWS < rows ? block + SUM_ROWS : rows;
            for (int64_t r = block; r < end; r++) {
                const float *row = x + r * c + from;
#pragma omp simd
                for (int64_t i = 0; i < width; i++) part[i] += row[i];
            }
            for (int64_t i = 0; i < width; i++) total[i] += (double)part[i];
        }
        for (int64_t i = 0; i < width; i++) sums[from + i] = (add ? sums[from + i] : 0.0f) + (float)total[i];
    }
}

void cpu_fill_rows(float *y, int64_t rows, int64_t c, const float *bias, const float *residual)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        float *to = y + r * c;
        for (int64_t i = 0; i < c; i++) to[i] = (bias ? bias[i] : 0.0f) + (residual ? residual[r * c + i] : 0.0f);
    }
}

void cpu_add_bias(float *y, int64_t rows, int64_t c, const float *bias)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < c; i++) y[r * c + i] += bias[i];
}

static ddpm_status relu_run(cpu_backend *be, const step *s, err *e)
{
    const float *x = s->in[POINT_X]->data;
    float *y = s->out[POINT_Y]->data;
    const int64_t count = tensor_count(s->out[POINT_Y]);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) y[i] = x[i] > 0 ? x[i] : 0;
    return DDPM_OK;
}

static ddpm_status relu_bwd_run(cpu_backend *be, const step *s, err *e)
{
    const float *dy = s->in[RELU_BWD_DY]->data, *y = s->in[RELU_BWD_Y]->data;
    float *dx = s->out[RELU_BWD_DX]->data;
    const int64_t count = tensor_count(s->out[RELU_BWD_DX]);
    const float keep = step_adds(s, RELU_BWD_DX) ? 1 : 0;
    if (keep == 0) memset(dx, 0, (size_t)count * sizeof *dx);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < count; i++) dx[i] += y[i] > 0 ? dy[i] : 0;
    return DDPM_OK;
}

static void affine(const step *s, float scale, float shift)
{
    const float *x = s->in[POINT_X]->data;
    float *y = s->out[POINT_Y]->data;
    const int64_t count = tensor_count(s->out[POINT_Y]);
    if (step_adds(s, POINT_Y)) {
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < count; i++) y[i] += scale * x[i] + shift;
    } else {
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < count; i++) y[i] = scale * x[i] + shift;
    }
}

static ddpm_status affine_run(cpu_backend *be, const step *s, err *e)
{
    affine(s, s->a.affine.scale, s->a.affine.shift);
    return DDPM_OK;
}

static ddpm_status copy_run(cpu_backend *be, const step *s, err *e)
{
    const tensor *x = s->in[POINT_X], *y = s->out[POINT_Y];
    cpu_relayout(y, x->data, x->layout, y->data, y->layout, step_adds(s, POINT_Y));
    return DDPM_OK;
}

const cpu_op cpu_relu = {NULL, relu_run, NULL};
const cpu_op cpu_relu_bwd = {NULL, relu_bwd_run, NULL};
const cpu_op cpu_affine = {NULL, affine_run, NULL};
const cpu_op cpu_copy = {NULL, copy_run, NULL};
