/* sampler_step.h - one step of any sampler (sampler_row.h) on a batch, and what a step may do beside it:
 *
 *   dynamic thresholding    x0_hat = clip(x0_hat, limit) / limit, limit an image's own (sampler_limit.h)
 *   inpainting              where the mask keeps the image, x <- signal image + noise xi'
 *                           (Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1)
 *
 * The noise xi of an image is drawn from (seed, id of the image, row), xi' from another stream. */
#ifndef DDPM_SAMPLER_STEP_H
#define DDPM_SAMPLER_STEP_H
#include "noise.h"
#include "sampler_row.h"

typedef struct sampler_step_args {
    float *x;                /* [n, d]  updated in place; [2n, d] if guided: the second half is a copy of the first */
    sampler_output model;    /* F(x, t) */
    float *h[SAMPLER_SLOTS]; /* [n, d]  slots; NULL: no row uses it */
    float *x0;               /* [n, d]  x0_hat, for those who watch; NULL: not kept */
    const float *limit;      /* [n]     dynamic thresholds; NULL: the row's clip holds */
    const float *image;      /* [n, d]  what the mask keeps; NULL: no mask */
    const uint8_t *mask;     /* [h * w] 0: the image is kept, otherwise it is sampled */
    const sampler_row *rows; /* [rows] */
    const sampler_state *state; /* seed, row */
    const int64_t *ids;         /* [n]     ids of the images, in [0, 2^32) */
} sampler_step_args;

/* The slots' terms and the new entry of a slot, for a quad at element `at`; loops of a constant count, so that the row
 * and the pointers stay in registers. */
HD void sampler_slots_quad(const sampler_step_args *a, const sampler_row *r, int64_t at, int count, float *next)
{
    float h[4];
    for (int j = 0; j < SAMPLER_SLOTS; j++) {
        if (r->w[j] == 0.0f) continue;
        quad_load(h, a->h[j] + at, count);
        for (int k = 0; k < 4; k++) next[k] += r->w[j] * h[k];
    }
}

HD void sampler_keep_quad(const sampler_step_args *a, const sampler_row *r, int64_t at, int count, const float *h)
{
    for (int j = 0; j < SAMPLER_SLOTS; j++)
        if (r->slot == j) quad_store(a->h[j] + at, h, count);
}

/* What the mask keeps is the image at the level after the row; xi is not read at level 0. */
HD void sampler_paste_quad(const sampler_step_args *a, const sampler_row *r, int64_t at, int q, const float *xi,
                           float *x)
{
    float image[4];
    const int count = quad_count(a->model.d, q);
    quad_load(image, a->image + at, count);
    for (int k = 0; k < 4; k++)
        if (k < count && !a->mask[(4 * q + k) / a->model.c])
            x[k] = r->noise > 0.0f ? r->signal * image[k] + r->noise * xi[k] : r->signal * image[k];
}

/* Updates quad q of image b.  xi: its four draws, not read if r->s is 0; paste: those of the mask. */
HD void sampler_step_quad(const sampler_step_args *a, const sampler_row *r, int b, int q, const float *xi,
                          const float *paste, storage type)
{
    const int count = quad_count(a->model.d, q);
    const int64_t at = (int64_t)b * a->model.d + 4 * (int64_t)q;
    const float top = a->limit ? a->limit[b] : r->clip;
    float x[4], F[4], x0[4], next[4], V[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    quad_load(x, a->x + at, count);
    sampler_model_quad(&a->model, r, b, q, type, F);
    for (int k = 0; k < 4; k++) {
        x0[k] = r->c_skip * x[k] + r->c_out * F[k];
        if (top > 0.0f) x0[k] = clip_to(x0[k], top);
        if (a->limit) x0[k] /= top;
        next[k] = r->a * x[k] + r->b * x0[k];
        if (r->e != 0.0f) next[k] += r->e * F[k];
    }
    sampler_slots_quad(a, r, at, count, next);
    if (r->s != 0.0f) {
        if (r->v != 0.0f) sampler_output_quad(&a->model, b, q, 1, type, V);
        for (int k = 0; k < 4; k++) next[k] += r->s * (r->v != 0.0f ? exp_f32(r->v * V[k]) : 1.0f) * xi[k];
    }
    if (r->slot >= 0) {
        float h[4];
        for (int k = 0; k < 4; k++) h[k] = r->p * x[k] + r->q * x0[k];
        sampler_keep_quad(a, r, at, count, h);
    }
    if (a->mask) sampler_paste_quad(a, r, at, q, paste, next);
    quad_store(a->x + at, next, count);
    if (a->model.guided) quad_store(a->x + (int64_t)a->model.n * a->model.d + at, next, count);
    if (a->x0) quad_store(a->x0 + at, x0, count);
}

/* Image b on a CPU, where the output is float, with noise drawn in vectorized loops. */
static inline void sampler_step_one(const sampler_step_args *a, int b)
{
    enum { BLOCK = 64 };
    float xi[4 * BLOCK] = {0.0f}, paste[4 * BLOCK] = {0.0f};
    const sampler_row r = a->rows[a->state->row];
    const uint32_t draw[2] = {(uint32_t)a->ids[b], (uint32_t)a->state->row};
    const int quads = (int)quads_of(a->model.d);
    for (int first = 0; first < quads; first += BLOCK) {
        const int block = quads - first < BLOCK ? quads - first : BLOCK;
        if (r.s != 0.0f) noise_normals(a->state->seed, NOISE_SAMPLE_STEP, draw, (uint32_t)first, block, xi);
        if (a->mask && r.noise > 0.0f)
            noise_normals(a->state->seed, NOISE_SAMPLE_PASTE, draw, (uint32_t)first, block, paste);
        for (int q = 0; q < block; q++) sampler_step_quad(a, &r, b, first + q, xi + 4 * q, paste + 4 * q, STORE_F32);
    }
}

C_API ddpm_status k_sampler_step(void *stream, const sampler_step_args *a); /* asynchronous */

#endif
