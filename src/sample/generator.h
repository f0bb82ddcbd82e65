/* generator.h - the reverse process: from noise to images, a batch at a time.
 *
 * Image `id` of a seed is the same picture whatever the batch: its noise depends on nothing else. */
#ifndef DDPM_GENERATOR_H
#define DDPM_GENERATOR_H
#include "model/model.h"
#include <stdint.h>

typedef struct generator_spec {
    int batch, h, w;
    bool sketch; /* only say what it takes, at once: nothing is prepared or timed, workspaces are left out */
    int steps;   /* network evaluations an image; 0 = all timesteps */
    uint64_t seed;
    arena_kind weights;         /* ARENA_PARAM or ARENA_EMA of the model's store */
    scheduler_config scheduler; /* the model's, or with another variance, clipping or spacing */
} generator_spec;

typedef struct generator generator;

/* Plans the loop; no large memory is touched.  DDPM_ENOMEM, but not of a sketch: there is less memory than it takes at
 * least, with the batch that fits; that is found before anything is prepared. */
DDPM_MUST_CHECK ddpm_status generator_create(model *m, const generator_spec *spec, generator **out, err *e);
void generator_destroy(generator *g);
int generator_steps(const generator *g);         /* network evaluations a batch */
size_t generator_bytes(const generator *g);      /* activations, workspaces and inputs */
size_t generator_bytes_left(const generator *g); /* of all it needs, what is not taken yet */
double generator_flops(const generator *g);      /* of one image and one evaluation */
void generator_dump(const generator *g, FILE *to);
const plan *generator_plan(const generator *g); /* of one step of the loop, to look at or to time its parts */
DDPM_MUST_CHECK ddpm_status generator_allocate(generator *g, err *e);

/* Noise, and the state before the first step, for images ids[n] as generator_run() takes them.  It begins so itself. */
DDPM_MUST_CHECK ddpm_status generator_begin(generator *g, const int64_t *ids, int n, err *e);

/* Called after each step with the number done; true: stop, and generator_run() returns DDPM_ESAVED. */
typedef bool generator_tick(void *context, int done, int total);

/* Images ids[n], 1 <= n <= batch, ids in [0, 2^32), into x [n, h, w, c], about [-1, 1].
 * DDPM_EDIVERGED names the first image that is not finite, or for which the network's output is not, and the step: looked
 * at after every step on the cpu, on a device between the ticks and at the end. */
DDPM_MUST_CHECK ddpm_status generator_run(generator *g, const int64_t *ids, int n, float *x, err *e);
/* The same as bytes u8 [n, h, w, c]. */
DDPM_MUST_CHECK ddpm_status generator_run_bytes(generator *g, const int64_t *ids, int n, uint8_t *bytes, err *e);
void generator_watch(generator *g, generator_tick *tick, void *context);

/* round(255 clamp(x / 2 + 1/2, 0, 1)), halves to even, as diffusers' image processor: `count` values. */
void generator_to_bytes(const float *x, int64_t count, uint8_t *bytes);

#endif
