/* image_feed.h - the images' way from a data set to the training steps.
 *
 * A device that can hold the whole set gets it at once, and is told indices; else a loader's threads decode
 * ahead.  Either way the order is that of loader_image_index(). */
#ifndef DDPM_IMAGE_FEED_H
#define DDPM_IMAGE_FEED_H
#include "train/recipe.h"

typedef struct feed feed;

/* Should the whole set lie in the backend's memory?  Then trainer_spec.resident is its count. */
bool feed_wants_resident(const backend *be, const ddpm_config *c, const dataset *data);

/* Micro-batches that the host keeps: trainer_spec.ahead.  What an image cache takes is taken when the set is opened. */
int feed_ahead(const ddpm_config *c, bool resident);

typedef struct feed_spec {
    const ddpm_config *config; /* borrowed, as all of these */
    const dataset *data;
    trainer *trainer;
    uint64_t first_sample; /* ordinal of the first image */
} feed_spec;

/* Uploads the set, or starts the loader; the trainer has its memory. */
DDPM_MUST_CHECK ddpm_status feed_create(const feed_spec *spec, feed **out, err *e);
void feed_destroy(feed *f); /* takes NULL */

/* One step: its micro-batches and the update.  A device may still be at it.  Where an image cannot be had (the status
 * and message of dataset_read_or_next()), the trainer's state is that of before the step, and can be saved. */
DDPM_MUST_CHECK ddpm_status feed_step(feed *f, err *e);

/* Seconds that steps have waited for images in all; 0 where the set is resident. */
double feed_waited_seconds(const feed *f);

/* The loader of a run. */
loader_spec feed_loader(const ddpm_config *c, const dataset *data, uint64_t first_sample);

#endif
