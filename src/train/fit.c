#include "train/fit.h"

size_t fit_total(trainer_memory need) { return need.weights + need.activations + need.inputs; }

/* The largest batch that fits, found by planning: what a plan takes is not proportional to the batch. */
static int batch_that_fits(model *m, trainer_spec spec, trainer_memory need, size_t there)
{
    while (spec.batch > 1 && fit_total(need) > there) {
        const size_t fixed = need.weights, rest = there > fixed ? there - fixed : 0;
        const int guess = (int)((double)spec.batch * (double)rest / (double)(fit_total(need) - fixed));
        spec.batch = guess < spec.batch ? guess : spec.batch - 1;
        if (spec.batch < 1) return 0;
        trainer *t = NULL;
        err ignored = {0};
        if (trainer_create(m, &spec, &t, &ignored) != DDPM_OK) return 0;
        need = trainer_needs(t);
        trainer_destroy(t);
    }
    return fit_total(need) <= there ? spec.batch : 0;
}

ddpm_status fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e)
{
    const size_t there = m->be->fn->memory_free(m->be);
    const double gib = 1.0 / (1024.0 * 1024 * 1024);
    if (there == 0 || fit_total(need) <= there) return DDPM_OK;
    const int fits = batch_that_fits(m, *spec, need, there);
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
