/* bits_per_dim.h - how many bits per value a model needs to code images: the variational bound of -log2 p(x_0).
 *
 *   total = prior + sum over the chain's steps of vb,  from every timestep, or fewer, to the image
 *   prior = KL(q(x_T | x_0) || N(0, I))
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), eq. 5; Nichol & Dhariwal 2021 (arXiv:2102.09672), section 3; each step is
 *   evaluated once, with one draw of noise, as calc_bpd_loop() of their code does
 *
 * The noise depends on (seed, image, step) alone: the result is the same for every batch size on the CPU. */
#ifndef DDPM_BITS_PER_DIM_H
#define DDPM_BITS_PER_DIM_H
#include "model/model.h"
#include <stdint.h>

typedef struct bits_spec {
    int batch; /* evaluations of the network at once: steps of one image, or of several */
    int steps; /* of the chain, evenly spaced over the timesteps, both ends included; 0: every timestep */
    uint64_t seed;
    scheduler_variance variance; /* fixed_small, fixed_large or learned_range */
    bool clip;                   /* clip x0_hat to [-1, 1] */
} bits_spec;

typedef struct bits_step {
    int t;
    double vb;              /* bits per dimension */
    double x0_mse, eps_mse; /* mean squared errors of the predicted x_0 and of the eps that follows from it */
} bits_step;

/* Means over the images. */
typedef struct bits_result {
    int64_t images;
    double total, prior;
    double deviation; /* standard error of the total; NaN of one image */
    bits_step *step;  /* [steps], the step to the image first; free with mem_free() */
    int steps;
} bits_result;

/* Reads pixels [h, w, c] of image `index`, and its label if the network has classes. */
typedef ddpm_status bits_read(void *context, int64_t index, uint8_t *pixels, int64_t *label, err *e);
/* Called after every batch with the number of images that are done. */
typedef void bits_tick(void *context, int64_t evaluations, int64_t images);

typedef struct bits_per_dim bits_per_dim;

/* Plan and allocate.  The weights are those of ARENA_PARAM.  DDPM_EINVAL: a model without such a bound (EDM, flow,
 * consistency, a variance that the network does not have); DDPM_ENOMEM: a batch that does not fit. */
DDPM_MUST_CHECK ddpm_status bits_create(model *m, const bits_spec *spec, bits_per_dim **out, err *e);
void bits_destroy(bits_per_dim *b);
int bits_steps(const bits_per_dim *b);

typedef struct bits_images {
    int64_t count; /* images 0 .. count - 1 */
    bits_read *read;
    bits_tick *tick; /* NULL: none */
    void *context;
} bits_images;

/* DDPM_EDIVERGED names the first image and timestep with a value that is not finite. */
DDPM_MUST_CHECK ddpm_status bits_run(bits_per_dim *b, const bits_images *images, bits_result *result, err *e);

#endif
