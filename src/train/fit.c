#include "train/fit.h"

size_t fit_total(trainer_memory need) { return need.weights + need.activations + need.inputs; }

int fit_batch(const fit_question *q)
{
    const size_t rest = q->there > q->fixed ? q->there - q->fixed : 0;
    size_t need = q->need;
    int batch = q->batch;
    while (batch > 1 && need > q->there) {
        const int guess = (int)((double)batch * (double)rest / (double)(need - q->fixed));
        batch = guess < batch ? guess : batch - 1;
        need = batch < 1 ? 0 : q->needs(q->context, batch);
        if (need == 0) return 0;
    }
    return need <= q->there ? batch : 0;
}

typedef struct smaller {
    model *m;
    trainer_spec spec;
} smaller;

static size_t trainer_total(void *context, int batch)
{
    smaller *s = context;
    trainer *t = NULL;
    err ignored = {0};
    s->spec.batch = batch;
    if (trainer_create(s->m, &s->spec, &t, &ignored) != DDPM_OK) return 0;
    const size_t total = fit_total(trainer_needs(t));
    trainer_destroy(t);
    return total;
}

ddpm_status fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e)
{
    const size_t there = m->be->fn->memory_free(m->be);
    const double gib = 1.0 / (1024.0 * 1024 * 1024);
    if (there == 0 || fit_total(need) <= there) return DDPM_OK;
    smaller other = {m, *spec};
    other.spec.recompute = RECOMPUTE_ON;
    const size_t lean = trainer_total(&other, spec->batch);
    if (lean > 0 && lean <= there)
        return err_set(e, DDPM_ENOMEM,
                       "training with batch %d needs %.2f GiB and %.2f are free: train.gradient_checkpointing=true "
                       "needs %.2f, for the same result",
                       spec->batch, (double)fit_total(need) * gib, (double)there * gib, (double)lean * gib);
    other.spec = *spec;
    const int fits = fit_batch(&(fit_question){.batch = spec->batch,
                                               .need = fit_total(need),
                                               .there = there,
                                               .fixed = need.weights,
                                               .needs = trainer_total,
                                               .context = &other});
    if (fits == 0)
        return err_set(e, DDPM_ENOMEM,
                       "training needs %.2f GiB and %.2f are free; no batch fits: take a narrower network "
                       "(model.block_out_channels) or smaller images (data.resolution)",
                       (double)fit_total(need) * gib, (double)there * gib);
    return err_set(e, DDPM_ENOMEM,
                   "training with batch %d needs %.2f GiB and %.2f are free: train.batch=%d fits, with "
                   "train.gradient_accumulation_steps=%d for the same step",
                   spec->batch, (double)fit_total(need) * gib, (double)there * gib, fits,
                   (spec->batch * spec->micro_batches + fits - 1) / fits);
}
