/* preview.h - pictures of what a training has learned so far: RUN/samples/step_XXXXXXXX.png.
 *
 * All that can be known before the first step is checked by then: the folder, the memory, the size of the picture. */
#ifndef DDPM_PREVIEW_H
#define DDPM_PREVIEW_H
#include "sample/generator.h"
#include "train/recipe.h"

typedef struct preview preview;

typedef struct preview_spec {
    const ddpm_config *config; /* borrowed during the creation; sample.* */
    model *m;                  /* borrowed */
    const char *folder;        /* made where it is missing */
    generator_tick *tick;      /* true: give the preview up */
    void *context;
} preview_spec;

/* Plans the pictures; no large memory is touched.  DDPM_EIO: the folder cannot be written to. */
DDPM_MUST_CHECK ddpm_status preview_create(const preview_spec *spec, preview **out, err *e);
void preview_destroy(preview *p); /* takes NULL */
size_t preview_bytes(const preview *p);
/* Take the memory; the model has its own by then. */
DDPM_MUST_CHECK ddpm_status preview_allocate(preview *p, err *e);

/* Draw with the weights as they are after that many steps.  DDPM_ESAVED: given up. */
DDPM_MUST_CHECK ddpm_status preview_draw(preview *p, uint64_t after, err *e);

#endif
