/* cpu_concat.c - concatenation of two images along the channels, and the gradients of both. */
#include "backend/cpu/cpu_backend.h"

#include <string.h>

static int64_t rows_of(const tensor *t) { return t->n * tensor_hw(t); }

static ddpm_status concat_run(cpu_backend *be, const step *s, err *e)
{
    const float *x = s->in[CONCAT_X]->data, *x2 = s->in[CONCAT_X2]->data;
    float *y = s->out[CONCAT_Y]->data;
    const int64_t c1 = s->in[CONCAT_X]->c, c2 = s->in[CONCAT_X2]->c, rows = rows_of(s->out[CONCAT_Y]);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        memcpy(y + r * (c1 + c2), x + r * c1, (size_t)c1 * sizeof *y);
        memcpy(y + r * (c1 + c2) + c1, x2 + r * c2, (size_t)c2 * sizeof *y);
    }
    return DDPM_OK;
}

/* Copies or adds columns [column, column + dx->c) of dy to dx. */
static void give(const tensor *dy, int64_t column, const tensor *dx, bool add)
{
    const int64_t rows = rows_of(dy), c = dx->c;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const float *from = (const float *)dy->data + r * dy->c + column;
        float *to = (float *)dx->data + r * c;
        if (!add) {
            memcpy(to, from, (size_t)c * sizeof *to);
            continue;
        }
        for (int64_t i = 0; i < c; i++) to[i] += from[i];
    }
}

static ddpm_status concat_bwd_run(cpu_backend *be, const step *s, err *e)
{
    const tensor *dy = s->in[CONCAT_BWD_DY], *dx = s->out[CONCAT_BWD_DX], *dx2 = s->out[CONCAT_BWD_DX2];
    if (dx) give(dy, 0, dx, step_adds(s, CONCAT_BWD_DX));
    if (dx2) give(dy, dy->c - dx2->c, dx2, step_adds(s, CONCAT_BWD_DX2));
    return DDPM_OK;
}

const cpu_op cpu_concat = {NULL, concat_run, NULL};
const cpu_op cpu_concat_bwd = {NULL, concat_bwd_run, NULL};
