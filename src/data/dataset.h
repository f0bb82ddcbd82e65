/* dataset.h - an indexed set of images of one shape, from any kind of source.
 *
 *   kind      path                                             labels
 *   digits    none: drawn by the program itself                0..9
 *   idx       MNIST's format, a file or its folder, also .gz   from the labels file in the same folder
 *   cifar10   the binary version, a file or its folder         0..9
 *   folder    PNG and JPEG files, sub-folders included         see dataset_labels
 *   auto      the first of these kinds that recognises the path
 *
 * Images are resized and converted to one shape (image_resize(), image_to()).  If the whole set fits into cache_mb, it
 * is cached as u8 pixels, count * h * w * c bytes, and of its source only a folder's file names are kept.  Otherwise idx
 * and cifar10 keep the file's bytes, folder its file names, digits nothing, and every read decodes.
 *
 * Opening a folder decodes every file once, cached or not, and skips files that cannot be decoded: the set, and with
 * it the order of the training samples, is the same for every cache_mb.  This takes as long as decoding one epoch on
 * all cores.  A file that is lost later (noticed only if the set is not cached) is replaced by the next one
 * (dataset_read_or_next()) and counted as bad.  A resumed run then opens a set without this file, which differs from
 * that of its checkpoint. */
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

/* Where the labels come from.  All but AUTO and NONE are for folders, and label every image or fail. */
typedef enum dataset_labels {
    DATASET_LABELS_AUTO, /* folder: metadata files if they have labels, else the sub-folders unless an image is in none;
                            other kinds: as above */
    DATASET_LABELS_NONE,
    DATASET_LABELS_FOLDER,   /* the first-level sub-folder; all images equally deep */
    DATASET_LABELS_FILENAME, /* the file name up to the first '_' */
    DATASET_LABELS_METADATA  /* metadata.jsonl or metadata.csv, as in the imagefolder of Hugging Face's datasets */
} dataset_labels;

typedef struct dataset_spec {
    dataset_kind_id kind;
    const char *path; /* NULL or "" = none */
    int resolution;   /* h = w in pixels, 8..1024; 0 = that of the first image (digits: 28) */
    int channels;     /* 1, 3; 0 = 3 if any image has colour, else 1 */
    int64_t count;    /* use only the first `count` images, bad ones included; 0 = all (digits: 60000) */
    uint64_t seed;    /* digits: seed of the drawing */
    int64_t cache_mb; /* MiB for decoded images; 0 = 4096, negative = no cache */
    int64_t max_bad;  /* folder: bad files that are skipped; more are an error */
    bool shape_only;  /* only shape and count are needed: decode no image but the first, report none as bad */
    dataset_labels labels;
    const char *run; /* folder: the run folder, whose sample images are excluded; NULL or "" = none */
} dataset_spec;

typedef struct dataset dataset;

/* Open and check a set and, if it fits, cache all of it (on all cores).
 * DDPM_EINVAL: invalid spec, or images of several sizes.  DDPM_ENOINPUT: the path is missing or holds no data set; the
 * message lists the expected files.  DDPM_EIO: a folder cannot be listed.
 * DDPM_EDATA: damaged, or too many bad files; the message names the first and how to skip it. */
DDPM_MUST_CHECK ddpm_status dataset_open(const dataset_spec *spec, dataset **out, err *e);
void dataset_close(dataset *d); /* accepts NULL */

const char *dataset_kind_name(const dataset *d); /* the kind, for auto the chosen one */
int64_t dataset_count(const dataset *d);         /* at least 1 */
int64_t dataset_skipped(const dataset *d);       /* bad files skipped by dataset_open() */

int dataset_h(const dataset *d);
int dataset_w(const dataset *d);
int dataset_c(const dataset *d);       /* 1 or 3 */
int dataset_classes(const dataset *d); /* labels are in [0, classes); 0 = no labels */

/* Remark i = 0, 1, ... for the log, one line each: which files were skipped and why; NULL after the last. */
const char *dataset_remarked(const dataset *d, int i);

/* The name of class k, UTF-8; NULL if the classes are only numbers.  Names of folders, files and metadata are sorted
 * bytewise, so that class "10" precedes class "2". */
const char *dataset_class_name(const dataset *d, int k);

/* The class of image `index`, or -1. */
int dataset_label(const dataset *d, int64_t index);

/* The path of the file of image `index`, borrowed; NULL if the images have no files of their own. */
const char *dataset_file(const dataset *d, int64_t index);

/* Pixels [h, w, c] of image `index` in [0, count).  Thread-safe.
 * Fails only if the set is not cached: DDPM_EDATA, DDPM_ENOINPUT or DDPM_EIO name the file. */
DDPM_MUST_CHECK ddpm_status dataset_read(const dataset *d, int64_t index, uint8_t *pixels, err *e);

/* As dataset_read(), but if the image's file was lost since the set was opened, read the next readable image instead.
 * Every call tries the file again: the result depends on the disk alone, not on earlier calls.  label: that of the image
 * read, as dataset_label(); NULL: not wanted.
 * DDPM_EDATA, DDPM_ENOINPUT, DDPM_EIO: more than max_bad images are bad by now; the message names the file. */
DDPM_MUST_CHECK ddpm_status dataset_read_or_next(const dataset *d, int64_t index, uint8_t *pixels, int64_t *label,
                                                 err *e);

/* Were images lost since the last call?  If so, write a line for the log: how many, the first of them, and why. */
bool dataset_lost(const dataset *d, char *text, size_t cap);

/* All images in order, [count, h, w, c], borrowed; NULL if the set is not cached. */
const uint8_t *dataset_pixels(const dataset *d);

/* XXH3-64 to recognise the data set of an earlier run: over count, h, w, c, all labels, the pixels of 64 evenly spaced
 * images, and the source of the first `count` images: every byte of idx and cifar10 images, every name and file size of
 * a folder, the seed of digits.  Independent of machine, location and cache size.  The labels of a folder with
 * DATASET_LABELS_AUTO are those of its sub-folders, whatever its metadata files say. */
DDPM_MUST_CHECK ddpm_status dataset_hash(const dataset *d, uint64_t *out, err *e);

/* XXH3-64 of the labels and names of the classes, for trainings that use them; 0: no labels. */
uint64_t dataset_labels_hash(const dataset *d);

#endif
