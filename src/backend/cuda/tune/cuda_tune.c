#include "backend/cuda/tune/cuda_tune.h"
#include "backend/cuda/tune/tune_race.h"
#include "backend/autotune_cache.h"
#include "base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct kept {
    char *problem, *algo; /* algo: its name, NULL where the library has none */
    primitive *p;
    float us;   /* 0: not timed */
    int tried;  /* number of timed algos */
    bool fresh; /* chosen by timing in this process: goes to the cache file */
} kept;

struct tuner {
    tuner_spec spec;
    autotune_cache *cache;
    bool warm; /* a race has kept the device busy */
    kept *kept;
    int n_kept, cap_kept;
};

static kept *find_kept(const tuner *c, const char *problem)
{
    for (int i = 0; i < c->n_kept; i++)
        if (!strcmp(c->kept[i].problem, problem)) return &c->kept[i];
    return NULL;
}

ddpm_status tuner_create(const tuner_spec *spec, tuner **out, err *e)
{
    ddpm_status st = DDPM_OK;
    tuner *c = NULL;
    char search[80];
    *out = NULL;
    TRY(mem_array(&c, 1, sizeof *c, "tuner", e));
    c->spec = *spec;
    c->spec.file = c->spec.shared = c->spec.machine = NULL; /* valid during this call only */
    (void)snprintf(search, sizeof search, "deterministic=%d workspace=%zu eager=%d", spec->deterministic,
                   spec->workspace_cap, spec->eager);
    TRY_GOTO(autotune_cache_create(&(autotune_cache_spec){.file = spec->untimed ? NULL : spec->file,
                                                          .shared = spec->untimed ? NULL : spec->shared,
                                                          .machine = spec->machine,
                                                          .search = search},
                                   &c->cache, e));
    *out = c;
done:
    if (st != DDPM_OK) tuner_destroy(c);
    return st;
}

void tuner_destroy(tuner *c)
{
    if (!c) return;
    autotune_cache_destroy(c->cache);
    for (int i = 0; i < c->n_kept; i++) {
        free(c->kept[i].problem);
        free(c->kept[i].algo);
        primitive_destroy(c->kept[i].p);
    }
    free(c->kept);
    mem_free(c);
}

void tuner_save(tuner *c) { autotune_cache_save(c->cache); }

const char *tuner_warning(const tuner *c) { return autotune_cache_warning(c->cache); }

static int algo_of_name(const primitive *p, const char *cached)
{
    char name[PRIMITIVE_NAME];
    for (int i = 0; cached && i < p->fn->count(p); i++) {
        p->fn->name(p, i, name);
        if (!strcmp(name, cached)) return i;
    }
    return -1;
}

/* Times the algos; *algo is the fastest. */
static ddpm_status time_algos(tuner *c, kept *k, int *algo, err *e)
{
    const race_spec how = {c->spec.stream, c->spec.l2, c->spec.workspace_cap, c->spec.eager,
                           c->warm ? 0 : c->spec.warm_seconds};
    err wrong, why;
    c->warm = true;
    TRY(tune_race(&how, k->p, algo, &k->us, &wrong, e));
    if (wrong.text[0]) {
        err_set(&why, DDPM_EBACKEND, "%s: %s", k->problem, wrong.text);
        autotune_cache_warn(c->cache, why.text);
    }
    if (k->us >= 0.0f) {
        k->tried = k->p->fn->count(k->p);
        k->fresh = true;
        return DDPM_OK;
    }
    k->us = 0.0f;
    err_set(&why, DDPM_ENOMEM, "%s: out of memory for autotuning; the first algo is used", k->problem);
    autotune_cache_warn(c->cache, why.text);
    return DDPM_OK;
}

/* Creates the primitive and selects its algo.  k owns the primitive and the name, also after a failure. */
static ddpm_status settle(tuner *c, kept *k, primitive_maker *make, void *context, const void *q, err *e)
{
    char name[PRIMITIVE_NAME];
    const primitive_search how = {c->spec.deterministic, c->spec.workspace_cap,
                                  autotune_cache_find(c->cache, k->problem)};
    TRY(make(context, q, &how, &k->p, e));
    if (!k->p) {
        err why;
        err_set(&why, DDPM_OK, "%s: slower matrix products are used: %s", k->problem, e->text);
        if (e->text[0]) autotune_cache_warn(c->cache, why.text);
        return DDPM_OK;
    }
    int algo = c->spec.untimed ? 0 : algo_of_name(k->p, how.cached_algo);
    if (algo < 0) TRY(time_algos(c, k, &algo, e));
    k->p->fn->name(k->p, algo, name);
    TRY(mem_text(&k->algo, name, e));
    return k->p->fn->keep(k->p, algo, e);
}

ddpm_status tuner_get(tuner *c, const char *problem, primitive_maker *make, void *context, const void *q,
                      primitive **out, err *e)
{
    ddpm_status st = DDPM_OK;
    kept new = {0};
    err why = {0};
    assert(problem[0] && !strpbrk(problem, "\t\n"));
    const kept *known = find_kept(c, problem);
    *out = known ? known->p : NULL;
    if (known) return DDPM_OK;
    TRY_GOTO(mem_grow(&c->kept, &c->cap_kept, c->n_kept + 1, sizeof *c->kept, "tuner", &why));
    TRY_GOTO(mem_text(&new.problem, problem, &why));
    TRY_GOTO(settle(c, &new, make, context, q, &why));
    if (new.fresh) TRY_GOTO(autotune_cache_put(c->cache, problem, new.algo, new.us, &why));
    c->kept[c->n_kept++] = new;
    *out = new.p;
done:
    if (st != DDPM_OK) {
        free(new.problem);
        free(new.algo);
        primitive_destroy(new.p);
        err_set(e, st, "%s: %s", problem, why.text);
    }
    return st;
}

size_t tuner_workspace(const primitive *p) { return p->fn->workspace(p, 0); }

void tuner_report(const tuner *c, FILE *to)
{
    for (int i = 0; i < c->n_kept; i++) {
        const kept *k = &c->kept[i];
        fprintf(to, "%s\t%s\t%.2f\t%d\n", k->problem, k->algo ? k->algo : "none", (double)k->us, k->tried);
    }
}
