/* loader.h - batches of training images, decoded ahead of the training step by worker threads.
 *
 * The order is a pure function: sample `ordinal` of a run is image
 *   loader_image_index(seed, count, ordinal, shuffle),
 * so the ordinal is all that is needed to resume a run. */
#ifndef DDPM_LOADER_H
#define DDPM_LOADER_H
#include "data/dataset.h"
#include <stdbool.h>

typedef struct loader_spec {
    const dataset *data;   /* borrowed; must outlive the loader */
    int batch;             /* images, at least 1; may exceed the size of the set */
    uint64_t seed;         /* of the shuffled order */
    uint64_t first_sample; /* ordinal of the first image of the first batch */
    uint64_t stride;       /* from the first ordinal of one batch to that of the next; 0 = batch.  For
                              data-parallel training: the batch of all ranks together */
    bool shuffle;          /* a new random order every epoch; otherwise 0, 1, 2... */
    int prefetch;          /* batches decoded ahead, at most 1024; 0 = 4 */
    int threads;           /* decoding threads, at most 256; 0 = 1 */
} loader_spec;

typedef struct loader loader;

DDPM_MUST_CHECK ddpm_status loader_create(const loader_spec *spec, loader **out, err *e);

/* Stop and join the threads, at any time; accepts NULL. */
void loader_destroy(loader *l);

/* The next batch: images u8 [batch, h, w, c] and their labels [batch], both valid until the next call.  *labels is NULL
 * if the set has none; labels = NULL: not wanted.  One thread at a time.
 * An image whose file was lost is replaced, with its label, as in dataset_read_or_next(); if that fails, this call and
 * every later one return the error. */
DDPM_MUST_CHECK ddpm_status loader_next(loader *l, const uint8_t **images, const int64_t **labels, err *e);

/* Total seconds that loader_next() has waited; about 0 if decoding keeps up. */
double loader_waited_seconds(const loader *l);

/* The image of sample `ordinal`: position ordinal % count of epoch ordinal / count.  With `shuffle`, a
 * permutation of [0, count) keyed by seed and epoch; count in [1, 2^52]. */
int64_t loader_image_index(uint64_t seed, int64_t count, uint64_t ordinal, bool shuffle);

#endif
