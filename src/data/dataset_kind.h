/* dataset_kind.h - what a kind of dataset provides; for src/data/dataset*.c alone. */
#ifndef DDPM_DATASET_KIND_H
#define DDPM_DATASET_KIND_H
#include "data/dataset.h"
#include "data/image.h"
#include <stdbool.h>

typedef struct dataset_kind dataset_kind;

struct dataset {
    const dataset_kind *kind;
    void *source;  /* the kind's own; NULL once all pixels are kept */
    int64_t count; /* usable images */
    int64_t *kept; /* [count] their numbers in the source; NULL = all of them */
    int64_t skipped;
    int h, w, c, classes;
    bool any_size;        /* a resolution was given: images are resized to it */
    int32_t *label;       /* [count], NULL = no labels */
    uint8_t *pixels;      /* [count, h, w, c], NULL = decoded at every read */
    uint64_t source_hash; /* of what the source holds, not of where it lies */
};

struct dataset_kind {
    const char *name, *looks_for; /* "idx", "a file ... or a folder that holds one" */

    /* Does `path` hold this kind?  A glance: names and first bytes.  NULL: auto never chooses it. */
    bool (*recognises)(const char *path);

    /* Set d->source, count, source_hash and, where there are labels, label and classes. */
    ddpm_status (*open)(const dataset_spec *spec, dataset *d, err *e);

    /* Image i of the source as it is; any number of threads.  DDPM_EDATA, DDPM_ENOINPUT: this image is bad. */
    ddpm_status (*read)(const void *source, int64_t i, image *out, err *e);

    /* As read, but only a glance, for sets too large to decode in advance; NULL: images are never bad. */
    ddpm_status (*check)(const void *source, int64_t i, err *e);

    void (*close)(void *source); /* takes NULL and the half-built */
};

extern const dataset_kind dataset_digits, dataset_idx, dataset_cifar, dataset_folder;

#endif
