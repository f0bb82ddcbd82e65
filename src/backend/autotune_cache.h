/* autotune_cache.h - what was chosen by timing, kept in a file from one process to the next.
 *
 * A choice is a problem's text and a plan's name, under a key of the machine and the way of the search: other
 * machines' lines in the file are left alone.  A file that is not there is begun; one that cannot be read or
 * written, or is something else, is said once and done without; several processes may share one (whole files
 * replace each other, with the lines of both). */
#ifndef DDPM_AUTOTUNE_CACHE_H
#define DDPM_AUTOTUNE_CACHE_H
#include "base/err.h"

typedef struct plan_cache plan_cache;

typedef struct plan_cache_spec {
    const char *file;    /* NULL or "": remember nothing beyond this process */
    const char *machine; /* library versions and device, as text without line breaks */
    const char *search;  /* what else the choices depend on */
} plan_cache_spec;

DDPM_MUST_CHECK ddpm_status plan_cache_create(const plan_cache_spec *spec, plan_cache **out, err *e);
void plan_cache_destroy(plan_cache *c); /* takes NULL; saves */

const char *plan_cache_find(const plan_cache *c, const char *problem); /* the plan's name; NULL: not chosen yet */
/* A new choice: `problem` and `plan` without tabs and line breaks, `us` microseconds of a run. */
DDPM_MUST_CHECK ddpm_status plan_cache_put(plan_cache *c, const char *problem, const char *plan, float us, err *e);

/* Write what is not in the file yet.  Before work begins whose repetition shall make the same choices: otherwise it
 * happens every few seconds, and at the end. */
void plan_cache_save(plan_cache *c);

/* The first trouble stays: one line is read, and the first trouble is the cause of the next. */
void plan_cache_remark(plan_cache *c, const char *text);
const char *plan_cache_trouble(const plan_cache *c); /* "": none */

#endif
