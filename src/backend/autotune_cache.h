/* autotune_cache.h - keeps the results of autotuning in a file, from one process to the next.
 *
 * An entry maps the text of a problem to the name of the chosen algo, under a key of the machine and the kind of
 * search; entries of other machines are left alone.  The file is created if it is missing.  On an I/O error, or if
 * the file is not an autotune cache, the cache warns once and continues without a file.  Several processes may share
 * a file: each save replaces the file as a whole and keeps the entries of both.
 *
 * A cache may have a second file, shared by all runs of a user: choices that the first does not have are read from it,
 * and new choices are written to both.
 *
 * Earlier versions named the file plans.txt: if autotune.txt is missing, plans.txt beside it is read. */
#ifndef DDPM_AUTOTUNE_CACHE_H
#define DDPM_AUTOTUNE_CACHE_H
#include "base/err.h"

typedef struct autotune_cache autotune_cache;

typedef struct autotune_cache_spec {
    const char *file;    /* NULL or "": keep results in this process only */
    const char *shared;  /* the second file; NULL or "": none */
    const char *machine; /* library versions and device, as text without line breaks */
    const char *search;  /* whatever else the choices depend on */
} autotune_cache_spec;

DDPM_MUST_CHECK ddpm_status autotune_cache_create(const autotune_cache_spec *spec, autotune_cache **out, err *e);
void autotune_cache_destroy(autotune_cache *c); /* accepts NULL; saves first */

const char *autotune_cache_find(autotune_cache *c, const char *problem); /* name of the algo; NULL: not chosen yet */
/* Adds a choice.  `problem` and `algo` have no tabs or line breaks; `us` is the time of one run in microseconds. */
DDPM_MUST_CHECK ddpm_status autotune_cache_put(autotune_cache *c, const char *problem, const char *algo, float us,
                                               err *e);

/* Writes new entries to the file.  Call it before work starts that must make the same choices when it is repeated;
 * without a call, entries are written every few seconds and at the end. */
void autotune_cache_save(autotune_cache *c);

/* Keeps only the first warning: one line is shown to the user, and the first error usually causes the later ones. */
void autotune_cache_warn(autotune_cache *c, const char *text);
const char *autotune_cache_warning(const autotune_cache *c); /* "": no warning */

#endif
