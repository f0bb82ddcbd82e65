#include "train/trainer_fit.h"
#include "base/arith.h"
#include "base/bytes.h"
#include "sample/memory_fit.h"

size_t trainer_fit_total(trainer_memory need) { return need.weights + need.activations + need.inputs + need.ahead; }

/* A smaller training to suggest, estimated by a sketch plus workspaces. */
typedef struct smaller {
    model *m;
    trainer_spec spec;
    memory_fit_workspaces work;
    bool guessed; /* `work` is a guess */
} smaller;

static ddpm_status sketch(model *m, trainer_spec spec, trainer_memory *need, err *e)
{
    trainer *t = NULL;
    spec.sketch = true;
    TRY(trainer_create(m, &spec, &t, e));
    *need = trainer_needs(t);
    trainer_destroy(t);
    return DDPM_OK;
}

static size_t trainer_total(void *context, int batch)
{
    smaller *s = context;
    trainer_memory need;
    err ignored = {0};
    s->spec.batch = batch;
    if (sketch(s->m, s->spec, &need, &ignored) != DDPM_OK) return 0;
    return trainer_fit_total(need) + memory_fit_workspace_bytes(s->work, batch);
}

static ddpm_status refuse(const smaller *s, trainer_memory need, size_t there, err *e)
{
    char needed[BYTES_CAP], free_now[BYTES_CAP], lean_text[BYTES_CAP];
    const int batch = s->spec.batch;
    const size_t total = trainer_fit_total(need);
    (void)bytes_text(needed, total);
    (void)bytes_text(free_now, there);
    smaller other = *s;
    other.spec.recompute = RECOMPUTE_ON;
    if (s->guessed)
        other.work = (memory_fit_workspaces){0}; /* recomputing is the first suggestion, even if it may not suffice */
    const size_t lean = trainer_total(&other, batch);
    if (lean > 0 && lean <= there)
        return err_set(e, DDPM_ENOMEM,
                       "train.batch=%d: training needs %s, but %s are free: train.gradient_checkpointing=true "
                       "needs only %s, with the same result",
                       batch, needed, free_now, bytes_text(lean_text, lean));
    other = *s;
    const int fits = memory_fit_batch(&(memory_fit_question){.batch = batch,
                                                             .need = total,
                                                             .there = there,
                                                             .fixed = need.weights + s->work.fixed,
                                                             .needs = trainer_total,
                                                             .context = &other});
    if (fits == 0)
        return err_set(
            e, DDPM_ENOMEM,
            "train.batch: training needs %s, but %s are free; not even a batch of 1 fits: use a narrower network "
            "(model.block_out_channels) or smaller images (data.resolution)",
            needed, free_now);
    return err_set(e, DDPM_ENOMEM,
                   "train.batch=%d: training needs %s, but %s are free: train.batch=%d fits, with "
                   "train.gradient_accumulation_steps=%d for the same number of images per step",
                   batch, needed, free_now, fits, (int)ceil_div(batch * s->spec.micro_batches, fits));
}

ddpm_status trainer_fit_sketch(model *m, const trainer_spec *spec, err *e)
{
    const size_t there = m->be->fn->memory_free(m->be);
    trainer_memory need;
    if (there == 0) return DDPM_OK;
    TRY(sketch(m, *spec, &need, e));
    if (trainer_fit_total(need) <= there) return DDPM_OK;
    const smaller s = {m, *spec, memory_fit_guess(m, need.activations, spec->batch), true};
    need.activations += memory_fit_workspace_bytes(s.work, spec->batch);
    return refuse(&s, need, there, e);
}

ddpm_status trainer_fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e)
{
    const size_t there = m->be->fn->memory_free(m->be);
    trainer_memory least;
    if (there == 0 || trainer_fit_total(need) <= there) return DDPM_OK;
    TRY(sketch(m, *spec, &least, e));
    const size_t all = trainer_fit_total(need), some = trainer_fit_total(least);
    return refuse(&(smaller){m, *spec, {.fixed = all > some ? all - some : 0}, false}, need, there, e);
}
