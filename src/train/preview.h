/* preview.h - sample images during training: RUN/samples/step_XXXXXXXX.png.
 *
 * Folder, memory and image size are checked before the first training step. */
#ifndef DDPM_PREVIEW_H
#define DDPM_PREVIEW_H
#include "sample/generator.h"
#include "train/recipe.h"

typedef struct preview preview;

typedef struct preview_spec {
    const ddpm_config *config; /* options sample.*; borrowed during preview_create() only */
    model *m;                  /* borrowed */
    const char *folder;        /* created if missing */
    generator_tick *tick;      /* returns true to abort the preview */
    void *context;
} preview_spec;

/* Plan the preview without allocating large memory.  DDPM_EIO: the folder cannot be written to. */
DDPM_MUST_CHECK ddpm_status preview_create(const preview_spec *spec, preview **out, err *e);
void preview_destroy(preview *p); /* accepts NULL */
size_t preview_bytes(const preview *p);
/* Allocate the memory; the model's must be allocated before. */
DDPM_MUST_CHECK ddpm_status preview_allocate(preview *p, err *e);

/* Sample with the current weights, those after `after` steps.  DDPM_ESAVED: aborted by the tick function. */
DDPM_MUST_CHECK ddpm_status preview_draw(preview *p, uint64_t after, err *e);

#endif
