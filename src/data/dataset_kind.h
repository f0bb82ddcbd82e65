/* dataset_kind.h - the interface that every kind of data set implements; for src/data/dataset*.c only. */
#ifndef DDPM_DATASET_KIND_H
#define DDPM_DATASET_KIND_H
#include "data/dataset.h"
#include "data/file_list.h"
#include "data/image.h"
#include <stdbool.h>

typedef struct dataset_kind dataset_kind;
typedef struct dataset_losses dataset_losses;

enum { REMARKS_MAX = 8, REMARK_BYTES = 800 };

struct dataset {
    const dataset_kind *kind;
    void *source;  /* private to the kind; NULL once all pixels are cached, unless the images have files of their own */
    int64_t count; /* usable images */
    int64_t *kept; /* [count] their indices in the source; NULL = all images of the source */
    int64_t skipped;         /* bad images that were left out, with the absent ones */
    int64_t max_bad, absent; /* most bad images; those of them that metadata lists, but that are not there */
    err first_absent;        /* why the first of these is bad */
    int h, w, c, classes;
    int64_t model;         /* index in the source of the image that decided h and w, if no resolution was given */
    bool has_colour;       /* at least one image is stored in colour */
    bool any_size;         /* a resolution was given: images of any size are resized to it */
    int32_t *label;        /* [count], NULL = no labels */
    file_list class_names; /* [classes], or none */
    struct {
        bool instead;   /* dataset_hash() takes these labels instead */
        int32_t *label; /* [count], NULL = no labels */
        int classes;
    } hashed;
    uint8_t *pixels;      /* [count, h, w, c], NULL = decoded at every read */
    uint64_t source_hash; /* of the source's contents, not of its location */
    char remark[REMARKS_MAX][REMARK_BYTES];
    int remarks;
    dataset_losses *losses; /* NULL if no image can be lost */
};

struct dataset_kind {
    const char *name, *looks_for; /* "idx", "a file ... or a folder that holds one" */

    /* Does `path` hold this kind?  A quick check of names and first bytes.  NULL: auto never chooses this kind. */
    bool (*recognises)(const char *path);

    /* Set d->source and d->count (dataset_first()); for the first `count` images also source_hash and, if there are
     * labels, label, classes and class_names. */
    ddpm_status (*open)(const dataset_spec *spec, dataset *d, err *e);

    /* Image i of the source in its stored shape; thread-safe.  DDPM_EDATA, DDPM_ENOINPUT, DDPM_EIO: this image
     * is bad. */
    ddpm_status (*read)(const void *source, int64_t i, image *out, err *e);

    /* Channels of image i from its header alone, 0 = unknown; NULL: all images have those of the first. */
    int (*channels)(const void *source, int64_t i);

    /* The path of the file of image i; NULL: all images are in one file and have one size. */
    const char *(*file)(const void *source, int64_t i);

    bool can_be_bad; /* can read() find an image bad? */

    void (*close)(void *source); /* accepts NULL and a partly constructed source */
};

/* The number of images used out of `there` in the source: data.count, or all. */
static inline int64_t dataset_first(const dataset_spec *s, int64_t there)
{
    return s->count && s->count < there ? s->count : there;
}

/* Add a remark for the log: truncated to REMARK_BYTES, dropped after REMARKS_MAX remarks. */
__attribute__((format(printf, 2, 3))) void dataset_remark(dataset *d, const char *fmt, ...);

/* src/data/dataset_losses.c: counts images that are lost after the set was opened.  `bad` images were skipped already;
 * more than `max_bad` in all are an error. */
DDPM_MUST_CHECK ddpm_status dataset_losses_create(int64_t count, int64_t bad, int64_t max_bad, dataset_losses **out,
                                                  err *e);
void dataset_losses_destroy(dataset_losses *l); /* accepts NULL */

/* Does the status concern one image only?  Any other failure concerns the whole set. */
static inline bool is_bad_image(ddpm_status st) { return st == DDPM_EDATA || st == DDPM_ENOINPUT || st == DDPM_EIO; }

extern const dataset_kind dataset_digits, dataset_idx, dataset_cifar, dataset_folder;

#endif
