/* image_feed.h - feeding images from a data set to the training steps.
 *
 * A GPU that can hold the whole set receives it once, and then only indices (resident); otherwise a loader's
 * threads decode batches ahead.  In both cases the order is that of loader_image_index(). */
#ifndef DDPM_IMAGE_FEED_H
#define DDPM_IMAGE_FEED_H
#include "train/recipe.h"

typedef struct feed feed;

/* Should the whole set be resident in the backend's memory?  If so, trainer_spec.resident is its count. */
bool feed_wants_resident(const backend *be, const ddpm_config *c, const dataset *data);

/* Micro-batches that the loader buffers on the host: trainer_spec.ahead.  (The data set's cache is not included: it is
 * allocated when the set is opened.) */
int feed_ahead(const ddpm_config *c, bool resident);

typedef struct feed_spec {
    const ddpm_config *config; /* borrowed, like data and trainer */
    const dataset *data;
    trainer *trainer;
    uint64_t first_sample; /* ordinal of the first image */
} feed_spec;

/* Upload the set, or start the loader.  The trainer's memory must be allocated. */
DDPM_MUST_CHECK ddpm_status feed_create(const feed_spec *spec, feed **out, err *e);
void feed_destroy(feed *f); /* accepts NULL */

/* Run one training step: its micro-batches and the update; a GPU may still be computing on return.  If an image cannot
 * be read (status and message of dataset_read_or_next()), the trainer's state is that before the step and can be
 * saved. */
DDPM_MUST_CHECK ddpm_status feed_step(feed *f, err *e);

/* Give the next micro-batch to the trainer, without the update (for trainer_watch()). */
DDPM_MUST_CHECK ddpm_status feed_micro_batch(feed *f, err *e);

/* Continue with the sample of this ordinal.  Batches that were loaded ahead are dropped.  On failure the feed can only
 * be destroyed. */
DDPM_MUST_CHECK ddpm_status feed_seek(feed *f, uint64_t sample, err *e);

/* Total seconds that steps have waited for images; 0 if the set is resident. */
double feed_waited_seconds(const feed *f);

/* The loader's specification for a run. */
loader_spec feed_loader(const ddpm_config *c, const dataset *data, uint64_t first_sample);

#endif
