/* autotune_cache.h - what autotuning chose, kept in a file from one process to the next.
 *
 * A choice is the text of a problem and the name of an algo, under a key of the machine and the kind of search: lines
 * of other machines are left alone.  The file is created if it is missing; on an I/O error, or where the file is
 * something else, the cache warns once and goes on without a file.  Several processes may share a file (whole files
 * replace each other, with the lines of both).
 *
 * A file called autotune.txt was plans.txt in earlier versions: where it is missing, plans.txt beside it is read. */
#ifndef DDPM_AUTOTUNE_CACHE_H
#define DDPM_AUTOTUNE_CACHE_H
#include "base/err.h"

typedef struct autotune_cache autotune_cache;

typedef struct autotune_cache_spec {
    const char *file;    /* NULL or "": remember nothing beyond this process */
    const char *machine; /* library versions and device, as text without line breaks */
    const char *search;  /* what else the choices depend on */
} autotune_cache_spec;

DDPM_MUST_CHECK ddpm_status autotune_cache_create(const autotune_cache_spec *spec, autotune_cache **out, err *e);
void autotune_cache_destroy(autotune_cache *c); /* takes NULL; saves */

const char *autotune_cache_find(const autotune_cache *c,
                                const char *problem); /* the name of the algo; NULL: not chosen yet */
/* A new choice: `problem` and `algo` without tabs and line breaks, `us` microseconds of a run. */
DDPM_MUST_CHECK ddpm_status autotune_cache_put(autotune_cache *c, const char *problem, const char *algo, float us,
                                               err *e);

/* Write what is not in the file yet.  Before work begins whose repetition shall make the same choices: otherwise it
 * happens every few seconds, and at the end. */
void autotune_cache_save(autotune_cache *c);

/* The first trouble stays: one line is read, and the first trouble is the cause of the next. */
void autotune_cache_warn(autotune_cache *c, const char *text);
const char *autotune_cache_warning(const autotune_cache *c); /* "": none */

#endif
