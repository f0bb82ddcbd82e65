/* loader.h - batches of training images, decoded ahead of the training step by threads of their own.
 *
 * The order is a pure function: sample `ordinal` of a run is image
 *   loader_image_index(seed, count, ordinal, shuffle),
 * so to resume a run its ordinal is all one needs. */
#ifndef DDPM_LOADER_H
#define DDPM_LOADER_H
#include "data/dataset.h"
#include <stdbool.h>

typedef struct loader_spec {
    const dataset *data;   /* borrowed; must outlive the loader */
    int batch;             /* images, at least 1; may be more than the set has */
    uint64_t seed;         /* of the order */
    uint64_t first_sample; /* ordinal of the first image of the first batch */
    uint64_t stride;       /* from one batch's first ordinal to the next's; 0 = batch.  A rank that takes its
                              share of every step sets it to the batch of all ranks */
    bool shuffle;          /* a new order every epoch; otherwise 0, 1, 2... in each */
    int prefetch;          /* batches kept ready, at most 1024; 0 = 4 */
    int threads;           /* that decode, at most 256; 0 = 1 */
} loader_spec;

typedef struct loader loader;

DDPM_MUST_CHECK ddpm_status loader_create(const loader_spec *spec, loader **out, err *e);

/* Stop and join the threads, at any moment; takes NULL. */
void loader_destroy(loader *l);

/* The next batch, u8 [batch, h, w, c], valid until the next call.  One thread at a time.
 * An image whose file was lost is replaced as dataset_read_or_next() does; where it cannot be, that is reported here,
 * and again by every later call. */
DDPM_MUST_CHECK ddpm_status loader_next(loader *l, const uint8_t **batch, err *e);

/* Seconds that loader_next() has waited in all; about 0 when decoding keeps up. */
double loader_waited_seconds(const loader *l);

/* The image of sample `ordinal`: position ordinal % count of epoch ordinal / count.  With `shuffle`, a
 * permutation of [0, count) keyed by seed and epoch; count in [1, 2^52]. */
int64_t loader_image_index(uint64_t seed, int64_t count, uint64_t ordinal, bool shuffle);

#endif
