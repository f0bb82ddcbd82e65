/* sampler_step.h - one step of any sampler: a row of coefficients applied to a batch.
 *
 *   x0_hat  = clip(c_skip x + c_out F(x, t))
 *   x      <- a x + b x0_hat + c x0_prev + d x_saved + s xi,   xi ~ N(0, I)
 *   x0_prev <- x0_hat;  with SAMPLER_SAVE_X  x_saved <- the x before the step
 *
 * The rows of DDPM (Ho et al. 2020, algorithm 2) are computed in src/diffusion/sampler_ddpm.c.  DDIM (Song et al. 2021,
 * eq. 12), Euler, Heun and DPM-Solver++(2M) can be written as such rows too; none of them is there yet.  A term whose
 * coefficient is 0 is not read, so its buffer may be uninitialized.  The noise xi of an image is drawn from (seed, id of
 * the image, row). */
#ifndef DDPM_SAMPLER_STEP_H
#define DDPM_SAMPLER_STEP_H
#include "noise.h"
#include "storage.h"

enum { SAMPLER_SAVE_X = 1 };

typedef struct sampler_row {
    float t;             /* timestep for the network */
    float c_skip, c_out; /* for x0_hat, from x and the network's output */
    float a, b, c, d, s; /* coefficients of the update */
    float clip;          /* x0_hat is clamped to [-clip, clip]; 0: no clamping */
    uint32_t flags;      /* SAMPLER_SAVE_X */
} sampler_row;

typedef struct sampler_state {
    uint64_t seed;
    int32_t row; /* row of the current step; -1 before the first */
    int32_t pad_;
} sampler_state;

typedef struct sampler_step_args {
    float *x;                   /* [n, d]  updated in place */
    const void *model;          /* [n, d]  F(x, t), of model_type */
    float *x0_prev, *x_saved;   /* [n, d]  NULL if no row needs them (c, d = 0, no flag) */
    const sampler_row *rows;    /* [rows] */
    const sampler_state *state; /* seed, row */
    const int64_t *ids;         /* [n]     ids of the images, in [0, 2^32) */
    int n, d;                   /* d = h * w * c */
    storage model_type;
} sampler_step_args;

HD float clip_to(float v, float limit) { return v < -limit ? -limit : v > limit ? limit : v; } /* NaN stays NaN */

/* Updates quad q of image b. xi are its four draws, not read if r->s is 0.  `type` is model_type, a parameter so
 * that compilers can specialize on a constant. */
HD void sampler_step_quad(const sampler_step_args *a, const sampler_row *r, int b, int q, const float *xi, storage type)
{
    const int count = quad_count(a->d, q);
    const int64_t at = (int64_t)b * a->d + 4 * (int64_t)q;
    float x[4], x0[4], next[4], other[4];
    quad_load(x, a->x + at, count);
    quad_load_as(x0, a->model, type, at, count);
    for (int k = 0; k < 4; k++) {
        x0[k] = r->c_skip * x[k] + r->c_out * x0[k];
        if (r->clip > 0.0f) x0[k] = clip_to(x0[k], r->clip);
        next[k] = r->a * x[k] + r->b * x0[k];
    }
    if (r->c != 0.0f) {
        quad_load(other, a->x0_prev + at, count);
        for (int k = 0; k < 4; k++) next[k] += r->c * other[k];
    }
    if (r->d != 0.0f) {
        quad_load(other, a->x_saved + at, count);
        for (int k = 0; k < 4; k++) next[k] += r->d * other[k];
    }
    if (r->s != 0.0f)
        for (int k = 0; k < 4; k++) next[k] += r->s * xi[k];
    quad_store(a->x + at, next, count);
    if (a->x0_prev) quad_store(a->x0_prev + at, x0, count);
    if (a->x_saved && (r->flags & SAMPLER_SAVE_X)) quad_store(a->x_saved + at, x, count);
}

/* Image b on a CPU, where model is float, with noise drawn in vectorized loops. */
static inline void sampler_step_one(const sampler_step_args *a, int b)
{
    enum { BLOCK = 64 };
    float xi[4 * BLOCK] = {0.0f};
    const sampler_row r = a->rows[a->state->row];
    const uint32_t draw[2] = {(uint32_t)a->ids[b], (uint32_t)a->state->row};
    const int quads = (int)quads_of(a->d);
    for (int first = 0; first < quads; first += BLOCK) {
        const int block = quads - first < BLOCK ? quads - first : BLOCK;
        if (r.s != 0.0f) noise_normals(a->state->seed, NOISE_SAMPLE_STEP, draw, (uint32_t)first, block, xi);
        for (int q = 0; q < block; q++) sampler_step_quad(a, &r, b, first + q, xi + 4 * q, STORE_F32);
    }
}

C_API ddpm_status k_sampler_step(void *stream, const sampler_step_args *a); /* asynchronous */

#endif
