/* sample_description.h - the text of sampling.json: everything that decides the pixels of a set of pictures. */
#ifndef DDPM_SAMPLE_DESCRIPTION_H
#define DDPM_SAMPLE_DESCRIPTION_H
#include "config/config.h"
#include "sample/generator.h"
#include "sample/picture_source.h"

typedef struct sample_description {
    const ddpm_config *config;
    const model *m;
    const generator_spec *spec;
    const picture_source *source;
} sample_description;

/* Not the batch, nor the count, nor the number of threads (with which oneDNN 3 may change a last bit).  The most common
 * options come first, because an error message names the first differences.  free() the text. */
DDPM_MUST_CHECK ddpm_status sample_describe(const sample_description *d, char **text, size_t *size, err *e);

#endif
