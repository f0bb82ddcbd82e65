/* autotune_cache.h - what was chosen by timing, kept in a file from one process to the next.
 *
 * A choice is a problem's text and a plan's name, under a key of the machine and the way of the search: other
 * machines' lines in the file are left alone.  A file that is not there is begun; one that cannot be read or
 * written, or is something else, is said once and done without; several processes may share one (whole files
 * replace each other, with the lines of both). */
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
                                const char *problem); /* the plan's name; NULL: not chosen yet */
/* A new choice: `problem` and `plan` without tabs and line breaks, `us` microseconds of a run. */
DDPM_MUST_CHECK ddpm_status autotune_cache_put(autotune_cache *c, const char *problem, const char *plan, float us,
                                               err *e);

/* Write what is not in the file yet.  Before work begins whose repetition shall make the same choices: otherwise it
 * happens every few seconds, and at the end. */
void autotune_cache_save(autotune_cache *c);

/* The first trouble stays: one line is read, and the first trouble is the cause of the next. */
void autotune_cache_warn(autotune_cache *c, const char *text);
const char *autotune_cache_warning(const autotune_cache *c); /* "": none */

#endif
