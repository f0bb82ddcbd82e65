/* dataset.h - a numbered set of images of one shape, whatever it was read from.
 *
 *   kind      path                                             labels
 *   digits    none: drawn by the program itself                0..9
 *   idx       MNIST's format, a file or its folder, also .gz   from the labels file beside it
 *   cifar10   the binary version, a file or its folder         0..9
 *   folder    PNG and JPEG files, sub-folders included         the first-level sub-folder
 *   auto      whichever of these the path holds
 *
 * Images are cut to one shape (image_resize(), image_to()).  Where the whole set fits into cache_mb it is kept as u8
 * pixels, count * h * w * c bytes, and its source is let go.  Beyond that, idx and cifar10 keep the file's bytes,
 * folder its file names, digits nothing, and every read decodes.
 *
 * A folder's files are all decoded once when it is opened, whether their pixels are kept or not, and those that cannot
 * be are left out: the set, and with it the order of a training, is the same for every cache_mb.  That takes as long as
 * a first epoch's decoding on all cores.  A file that is lost later, which only a set that is not kept can notice, is
 * replaced by the next one (dataset_read_or_next()) and counted with those; a run that is resumed then opens a set
 * without it, another set than that of its checkpoint. */
#ifndef DDPM_DATASET_H
#define DDPM_DATASET_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum dataset_kind_id {
    DATASET_AUTO,
    DATASET_DIGITS,
    DATASET_IDX,
    DATASET_CIFAR10,
    DATASET_FOLDER,
    DATASET_KINDS
} dataset_kind_id;

typedef struct dataset_spec {
    dataset_kind_id kind;
    const char *path; /* NULL or "" = none */
    int resolution;   /* h = w in pixels, 8..1024; 0 = that of the first image (digits: 28) */
    int channels;     /* 1, 3; 0 = 3 where any image has colour, else 1 */
    int64_t count;    /* use only the first so many, bad ones among them; 0 = all (digits: 60000) */
    uint64_t seed;    /* digits: another seed, other digits */
    int64_t cache_mb; /* MiB of decoded images to keep; 0 = 4096, negative = none */
    int64_t max_bad;  /* folder: files that cannot be used and are left out before it is an error */
    bool shape_only;  /* shape and count are all that is asked: no image but the first is decoded, none is bad */
    const char *run;  /* folder: that of the training, whose pictures are no data; NULL or "" = none */
} dataset_spec;

typedef struct dataset dataset;

/* Open, check and, where it fits, keep the whole set (on all cores).
 * DDPM_EINVAL: the spec, or images of several sizes.  DDPM_ENOINPUT: nothing there, or no set; the message lists what
 * was looked for.  DDPM_EIO: a folder cannot be listed.
 * DDPM_EDATA: damaged, or too many bad files; the message names the first and how to skip it. */
DDPM_MUST_CHECK ddpm_status dataset_open(const dataset_spec *spec, dataset **out, err *e);
void dataset_close(dataset *d); /* takes NULL */

const char *dataset_kind_name(const dataset *d); /* what auto chose */
int64_t dataset_count(const dataset *d);         /* at least 1 */
int64_t dataset_skipped(const dataset *d);       /* bad files left out when it was opened */

int dataset_h(const dataset *d);
int dataset_w(const dataset *d);
int dataset_c(const dataset *d);       /* 1 or 3 */
int dataset_classes(const dataset *d); /* labels are in [0, classes); 0 = none has a label */

/* Remark i = 0, 1, ... for the log: what was left out and why, one line each; NULL behind the last. */
const char *dataset_remarked(const dataset *d, int i);

/* The class of image `index`, or -1. */
int dataset_label(const dataset *d, int64_t index);

/* Pixels [h, w, c] of image `index` in [0, count).  Any number of threads at once.
 * Fails only where the set did not fit the cache: DDPM_EDATA, DDPM_ENOINPUT or DDPM_EIO name the file. */
DDPM_MUST_CHECK ddpm_status dataset_read(const dataset *d, int64_t index, uint8_t *pixels, err *e);

/* As dataset_read(), but the next image that can be read takes the place of one whose file was lost since the set was
 * opened, for as long as it is: what is read depends on the disk alone, not on what was met before.
 * DDPM_EDATA, DDPM_ENOINPUT, DDPM_EIO: more are bad by now than max_bad; the message names the file. */
DDPM_MUST_CHECK ddpm_status dataset_read_or_next(const dataset *d, int64_t index, uint8_t *pixels, err *e);

/* Were images lost since this was asked last?  Then a line for the log: how many, the first of them, and why. */
bool dataset_lost(const dataset *d, char *text, size_t cap);

/* All images in order, [count, h, w, c], or NULL when they are not kept.  Borrowed. */
const uint8_t *dataset_pixels(const dataset *d);

/* XXH3-64 that tells whether this is the set of an earlier run: over count, h, w, c, all labels, the pixels of
 * 64 images spread evenly, and the source, as far as count takes it: every byte of idx and cifar10 images, every name
 * and file size of a folder, the seed of digits.  The same on any machine, wherever the set lies and however large the cache. */
DDPM_MUST_CHECK ddpm_status dataset_hash(const dataset *d, uint64_t *out, err *e);

#endif
