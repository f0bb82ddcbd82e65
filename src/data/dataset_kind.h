/* dataset_kind.h - what a kind of dataset provides; for src/data/dataset*.c alone. */
#ifndef DDPM_DATASET_KIND_H
#define DDPM_DATASET_KIND_H
#include "data/dataset.h"
#include "data/image.h"
#include <stdbool.h>

typedef struct dataset_kind dataset_kind;
typedef struct dataset_losses dataset_losses;

enum { REMARKS_MAX = 8, REMARK_BYTES = 800 };

struct dataset {
    const dataset_kind *kind;
    void *source;  /* the kind's own; NULL once all pixels are kept */
    int64_t count; /* usable images */
    int64_t *kept; /* [count] their numbers in the source; NULL = all of them */
    int64_t skipped;
    int h, w, c, classes;
    int64_t model;        /* the image in the source that h and w are of, where no resolution was given */
    bool has_colour;      /* has any image, as it is stored? */
    bool any_size;        /* a resolution was given: images are resized to it */
    int32_t *label;       /* [count], NULL = no labels */
    uint8_t *pixels;      /* [count, h, w, c], NULL = decoded at every read */
    uint64_t source_hash; /* of what the source holds, not of where it lies */
    char remark[REMARKS_MAX][REMARK_BYTES];
    int remarks;
    dataset_losses *losses; /* NULL where no image can be lost */
};

struct dataset_kind {
    const char *name, *looks_for; /* "idx", "a file ... or a folder that holds one" */

    /* Does `path` hold this kind?  A glance: names and first bytes.  NULL: auto never chooses it. */
    bool (*recognises)(const char *path);

    /* Set d->source, count (dataset_first()) and, of so many images alone, source_hash and, where there are labels,
     * label and classes. */
    ddpm_status (*open)(const dataset_spec *spec, dataset *d, err *e);

    /* Image i of the source as it is; any number of threads.  DDPM_EDATA, DDPM_ENOINPUT, DDPM_EIO: this image
     * is bad. */
    ddpm_status (*read)(const void *source, int64_t i, image *out, err *e);

    /* Channels of image i from its header alone, 0 = it cannot be told; NULL: all have those of the first. */
    int (*channels)(const void *source, int64_t i);

    /* The file that image i is in, for messages; NULL: they are all in one and of one size. */
    const char *(*file)(const void *source, int64_t i);

    bool can_be_bad; /* can read() find an image bad? */

    void (*close)(void *source); /* takes NULL and the half-built */
};

/* How many of the images that are there the set takes: data.count, or all. */
static inline int64_t dataset_first(const dataset_spec *s, int64_t there)
{
    return s->count && s->count < there ? s->count : there;
}

/* Add a remark for the log; what does not fit is cut, what are too many is dropped. */
__attribute__((format(printf, 2, 3))) void dataset_remark(dataset *d, const char *fmt, ...);

/* src/data/dataset_losses.c: images that are lost while they are read.  `bad` were left out already, and `max_bad` may
 * be. */
DDPM_MUST_CHECK ddpm_status dataset_losses_create(int64_t count, int64_t bad, int64_t max_bad, dataset_losses **out,
                                                  err *e);
void dataset_losses_destroy(dataset_losses *l); /* takes NULL */

/* Of an image alone, whatever the reason; another failure is one of the whole set. */
static inline bool is_bad_image(ddpm_status st) { return st == DDPM_EDATA || st == DDPM_ENOINPUT || st == DDPM_EIO; }

extern const dataset_kind dataset_digits, dataset_idx, dataset_cifar, dataset_folder;

#endif
