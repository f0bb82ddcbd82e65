#include "train/recipe_update.h"
#include "config/lr_step_rules.h"
#include "diffusion/power_average.h"
#include "train/recipe_words.h"

#include <string.h>

_Static_assert((int)LR_STEP_RULES == (int)LR_PIECES, "config_check() accepts what the kernel has room for");

static lr_rule learning_rate(const ddpm_config *c, int64_t steps)
{
    lr_step_rules pieces = {0};
    char ignored[8];
    lr_rule r = {.peak = c->train.lr,
                 .schedule = recipe_to_lr_schedule(c->train.lr_scheduler),
                 .num_cycles = c->train.lr_num_cycles,
                 .warmup_steps = c->train.lr_warmup_steps,
                 .total_steps = steps,
                 .end = c->train.lr_end,
                 .power = c->train.lr_power};
    if (r.schedule != LR_PIECEWISE_CONSTANT) return r;
    (void)lr_step_rules_read(c->train.lr_step_rules, &pieces, ignored, sizeof ignored);
    r.pieces = pieces.pieces;
    memcpy(r.until, pieces.until, sizeof r.until);
    memcpy(r.factor, pieces.factor, sizeof r.factor);
    return r;
}

static ema_rule average_by_decay(const ddpm_config *c, double decay)
{
    const int kind = c->ema.use_ema_warmup ? EMA_POWER_WARMUP : c->ema.warmup ? EMA_WARMUP : EMA_CONSTANT;
    return (ema_rule){.kind = kind,
                      .decay = decay,
                      .min_decay = kind == EMA_CONSTANT ? 0 : c->ema.min_decay,
                      .inv_gamma = c->ema.inv_gamma,
                      .power = c->ema.power,
                      .update_after_step = c->ema.update_after_step};
}

int recipe_averages(const ddpm_config *c, ema_rule rules[EMA_MOST])
{
    int n = 0;
    memset(rules, 0, EMA_MOST * sizeof *rules);
    if (c->ema.halflife_kimg > 0)
        rules[n++] = (ema_rule){
            .kind = EMA_HALFLIFE, .halflife = 1000 * c->ema.halflife_kimg, .rampup_ratio = c->ema.rampup_ratio};
    else if (c->ema.decay > 0)
        rules[n++] = average_by_decay(c, c->ema.decay);
    for (int i = 0; i < c->ema.more.count && n < EMA_MOST; i++)
        if (c->ema.more.item[i] > 0) rules[n++] = average_by_decay(c, c->ema.more.item[i]);
    for (int i = 0; i < c->ema.sigma_rel.count && n < EMA_MOST; i++)
        if (c->ema.sigma_rel.item[i] > 0)
            rules[n++] = (ema_rule){.kind = EMA_POWER, .gamma = power_average_gamma(c->ema.sigma_rel.item[i])};
    return n;
}

void recipe_update(const ddpm_config *c, int64_t steps, trainer_spec *spec)
{
    step_attr *a = &spec->update;
    a->update.lr = learning_rate(c, steps);
    a->update.beta1 = c->train.adam_beta1;
    a->update.beta2 = c->train.adam_beta2;
    a->update.eps = c->train.adam_epsilon;
    a->update.weight_decay = c->train.adam_weight_decay;
    a->update.max_grad_norm = c->train.max_grad_norm;
    a->update.adam = c->train.optimizer == TRAIN_OPTIMIZER_ADAM;
    a->update.no_vector_decay = !c->train.adam_decay_norms;
    (void)recipe_averages(c, a->update.ema);
}
