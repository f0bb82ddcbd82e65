/* generator.h - the reverse process: from noise, or an image, to images, one batch at a time.
 *
 * The noise of an image depends on seed and id alone, so that the image does not depend on the batch.  No sampler is
 * known here: the loop applies the rows of a table (diffusion/sampler.h). */
#ifndef DDPM_GENERATOR_H
#define DDPM_GENERATOR_H
#include "diffusion/sampler.h"
#include "model/model.h"
#include <stdint.h>

/* Classifier-free guidance (Ho & Salimans 2022); all 0: none. */
typedef struct generator_guidance {
    double scale; /* 0 or 1: none, and no evaluation more */
    /* noise levels sigma in (low, high] have it (Kynkaanniemi et al. 2024, arXiv:2404.07724); high 0: no limit.  The
     * others are evaluated with and without the class, too. */
    double low, high;
    double rescale; /* Lin et al. 2023, section 3.4, phi in [0, 1] */
    int null_class; /* label of the evaluation without a class; -1: no embedding is added (a table only) */
} generator_guidance;

typedef enum generator_start {
    GENERATOR_FROM_NOISE,
    GENERATOR_FROM_IMAGE, /* the images of each batch with noise, at the level of step sampler.skip */
    GENERATOR_FROM_X      /* the images of each batch are x itself */
} generator_start;

typedef struct generator_spec {
    int batch, h, w;
    bool sketch; /* only compute the memory need: prepares and autotunes nothing, omits workspaces */
    uint64_t seed;
    arena_kind weights;         /* ARENA_PARAM or ARENA_EMA of the model's store */
    scheduler_config scheduler; /* with which to sample: the model's, or sampler_config() of another sampler */
    sampler_spec sampler;
    generator_guidance guidance;
    generator_start start;          /* what x is before the first row */
    bool masked;                    /* keep what generator_set_mask() says of the images of each batch */
    int jump_length, jump_n_sample; /* of RePaint, if masked; 0: no jumps */
    bool watched;                   /* keep x0_hat, for generator_film() */
} generator_spec;

/* Start from images with noise, so strong that int(strength steps) steps are taken, as img2img pipelines of diffusers. */
void generator_spec_start(generator_spec *s, double strength);

/* The images to sample. */
typedef struct generator_batch {
    int n;              /* 1 <= n <= spec.batch */
    const int64_t *ids; /* [n] in [0, 2^32) */
    const int
        *labels; /* [n] in [0, num_class_embeds), or -1: no embedding; NULL: all -1, or if guided the null class */
    const float *images; /* [n, h, w, c], about [-1, 1]; NULL unless start or masked say so */
} generator_batch;

typedef struct generator generator;

/* Plan the sampling loop without allocating large memory.  DDPM_ENOMEM (never for a sketch): less memory is free than
 * a sketch needs; the message names the batch that fits.  This is checked before any step is prepared.
 * DDPM_EINVAL: a sampler that cannot do what is asked, a start that leaves no step, or guidance for a network without
 * classes. */
DDPM_MUST_CHECK ddpm_status generator_create(model *m, const generator_spec *spec, generator **out, err *e);
void generator_destroy(generator *g);
int generator_steps(const generator *g);         /* network evaluations per batch */
size_t generator_bytes(const generator *g);      /* activations, workspaces and inputs */
size_t generator_bytes_left(const generator *g); /* bytes it needs in all that are not allocated yet */
double generator_flops(const generator *g);      /* of one network evaluation for one image */
const plan *generator_plan(const generator *g);  /* the plan of one sampling step, to inspect it or time its steps */
const plan *generator_first_plan(const generator *g); /* the plan that draws the initial noise */
const sampler_table *generator_table(const generator *g);
const char *generator_advice(const generator *g); /* sampler_advice() */
DDPM_MUST_CHECK ddpm_status generator_allocate(generator *g, err *e);
/* mask [h, w]: 0 keeps the image, anything else is sampled.  After generator_allocate(), with spec.masked. */
DDPM_MUST_CHECK ddpm_status generator_set_mask(generator *g, const uint8_t *mask, err *e);

/* Set x and the state before the first row.  generator_run() does this itself. */
DDPM_MUST_CHECK ddpm_status generator_begin(generator *g, const generator_batch *batch, err *e);

/* Called after each step with the number of steps done; if it returns true, generator_run() returns DDPM_ESAVED. */
typedef bool generator_tick(void *context, int done, int total);
void generator_watch(generator *g, generator_tick *tick, void *context);

/* Called at `moments` moments of every batch, evenly spaced over the rows and the last of them at the end, with x and
 * x0_hat [n, h, w, c] of the last row; needs spec.watched.  A failure ends the run with its status. */
typedef ddpm_status generator_frame(void *context, int moment, int n, const float *x, const float *x0, err *e);
void generator_film(generator *g, int moments, generator_frame *frame, void *context);

/* Sample a batch into x [n, h, w, c], about [-1, 1].
 * DDPM_EDIVERGED names the first image with a non-finite pixel or network output, and the step.  Checked after every
 * step on the CPU; on a GPU before every tick and frame and at the end. */
DDPM_MUST_CHECK ddpm_status generator_run(generator *g, const generator_batch *batch, float *x, err *e);
/* As generator_run(), into bytes u8 [n, h, w, c]. */
DDPM_MUST_CHECK ddpm_status generator_run_bytes(generator *g, const generator_batch *batch, uint8_t *bytes, err *e);

/* Convert `count` values: round(255 clamp(x / 2 + 1/2, 0, 1)), halves to even, as diffusers' image processor. */
void generator_to_bytes(const float *x, int64_t count, uint8_t *bytes);

#endif
