/* generator.h - the reverse process: from noise to images, one batch at a time.
 *
 * The noise of an image depends on seed and id alone, so that the image does not depend on the batch. */
#ifndef DDPM_GENERATOR_H
#define DDPM_GENERATOR_H
#include "model/model.h"
#include <stdint.h>

typedef struct generator_spec {
    int batch, h, w;
    bool sketch; /* only compute the memory need: prepares and autotunes nothing, omits workspaces */
    int steps;   /* network evaluations per image; 0 = all timesteps */
    uint64_t seed;
    arena_kind weights;         /* ARENA_PARAM or ARENA_EMA of the model's store */
    scheduler_config scheduler; /* the model's, possibly with another variance, clipping or spacing */
} generator_spec;

typedef struct generator generator;

/* Plan the sampling loop without allocating large memory.  DDPM_ENOMEM (never for a sketch): less memory is free than
 * a sketch needs; the message names the batch that fits.  This is checked before any step is prepared. */
DDPM_MUST_CHECK ddpm_status generator_create(model *m, const generator_spec *spec, generator **out, err *e);
void generator_destroy(generator *g);
int generator_steps(const generator *g);         /* network evaluations per batch */
size_t generator_bytes(const generator *g);      /* activations, workspaces and inputs */
size_t generator_bytes_left(const generator *g); /* bytes it needs in all that are not allocated yet */
double generator_flops(const generator *g);      /* of one network evaluation for one image */
void generator_dump(const generator *g, FILE *to);
const plan *generator_plan(const generator *g); /* the plan of one sampling step, to inspect it or time its steps */
const plan *generator_first_plan(const generator *g); /* the plan that draws the initial noise */
DDPM_MUST_CHECK ddpm_status generator_allocate(generator *g, err *e);

/* Draw the initial noise and reset the state for images ids[n].  generator_run() does this itself. */
DDPM_MUST_CHECK ddpm_status generator_begin(generator *g, const int64_t *ids, int n, err *e);

/* Called after each step with the number of steps done; if it returns true, generator_run() returns DDPM_ESAVED. */
typedef bool generator_tick(void *context, int done, int total);

/* Sample images ids[n], 1 <= n <= batch, ids in [0, 2^32), into x [n, h, w, c], about [-1, 1].
 * DDPM_EDIVERGED names the first image with a non-finite pixel or network output, and the step.  Checked after every
 * step on the CPU; on a GPU before every tick and at the end. */
DDPM_MUST_CHECK ddpm_status generator_run(generator *g, const int64_t *ids, int n, float *x, err *e);
/* As generator_run(), into bytes u8 [n, h, w, c]. */
DDPM_MUST_CHECK ddpm_status generator_run_bytes(generator *g, const int64_t *ids, int n, uint8_t *bytes, err *e);
void generator_watch(generator *g, generator_tick *tick, void *context);

/* Convert `count` values: round(255 clamp(x / 2 + 1/2, 0, 1)), halves to even, as diffusers' image processor. */
void generator_to_bytes(const float *x, int64_t count, uint8_t *bytes);

#endif
