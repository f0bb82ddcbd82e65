#include "train/advice.h"
#include "train/recipe_update.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Largest share of the initial weights in the EMA with which sampling makes sense. */
static const double START_MOST = 1.0 / 3;

typedef struct advice {
    const ddpm_config *c;
    int64_t steps, images;
    char (*text)[ADVICE_TEXT];
    int n;
} advice;

__attribute__((format(printf, 2, 3))) static void say(advice *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(a->text[a->n++], ADVICE_TEXT, fmt, ap);
    va_end(ap);
}

static void on_learning_rate(advice *a)
{
    const double lr = a->c->train.lr;
    const int64_t warmup = a->c->train.lr_warmup_steps;
    if (lr == 0) {
        say(a, "train.lr=0: the weights will not change");
        return;
    }
    const config_train_lr_scheduler kind = a->c->train.lr_scheduler;
    if (kind == TRAIN_LR_SCHEDULER_CONSTANT || kind == TRAIN_LR_SCHEDULER_PIECEWISE_CONSTANT) {
        if (config_is_chosen(a->c, OPTION_train_lr_warmup_steps))
            say(a, "train.lr_warmup_steps=%lld has no effect: train.lr_scheduler=%s has no warm-up", (long long)warmup,
                config_word_name(OPTION_train_lr_scheduler, kind));
    } else if (warmup > 0 && warmup >= a->steps) {
        say(a,
            "train.lr_warmup_steps=%lld is too long for %lld steps: the learning rate reaches only %.1e of %.1e; "
            "at most a tenth of the steps, %lld, is usual",
            (long long)warmup, (long long)a->steps, lr * (double)(a->steps - 1) / (double)warmup, lr,
            (long long)(a->steps / 10));
    }
}

/* An average after n updates contains the initial weights with the product of its decays as factor.  That is 0 after a
 * warm-up, which begins with a decay of 0. */
static void on_average_by_decay(advice *a, const ema_rule *r, bool first)
{
    const double start = pow(r->decay, fmax((double)(a->steps - r->update_after_step), 0));
    if (start <= START_MOST) return;
    if (first)
        say(a,
            "ema.decay=%.7g: after %lld steps the EMA weights, which sampling uses, still contain %.0f %% of the "
            "initial weights; set ema.warmup=true or ema.decay=0",
            r->decay, (long long)a->steps, 100 * start);
    else
        say(a, "ema.more: after %lld steps the average of decay %.7g still contains %.0f %% of the initial weights",
            (long long)a->steps, r->decay, 100 * start);
}

static void on_averages(advice *a)
{
    ema_rule rules[EMA_MOST];
    const int n = recipe_averages(a->c, rules);
    const double images = (double)a->steps * a->c->train.batch * a->c->train.gradient_accumulation_steps;
    for (int k = 0; k < n; k++) {
        if (rules[k].kind == EMA_CONSTANT && rules[k].update_after_step == 0) on_average_by_decay(a, &rules[k], k == 0);
        if (rules[k].kind != EMA_HALFLIFE || rules[k].rampup_ratio > 0) continue;
        const double start = exp2(-images / rules[k].halflife);
        if (start > START_MOST)
            say(a,
                "ema.halflife_kimg=%g: after %.0f images the EMA weights, which sampling uses, still contain %.0f %% "
                "of "
                "the initial weights; set ema.rampup_ratio=0.05",
                a->c->ema.halflife_kimg, images, 100 * start);
    }
    if (n > 0 && a->c->ema.update_after_step >= a->steps)
        say(a, "ema.update_after_step=%lld: in a run of %lld steps nothing is averaged",
            (long long)a->c->ema.update_after_step, (long long)a->steps);
}

/* Options of the optimizer that are set and need a number of another; those that need a word are in idle_options.c. */
static void on_idle_options(advice *a)
{
    const ddpm_config *c = a->c;
    const bool decays = c->ema.halflife_kimg == 0 && c->ema.decay > 0;
    const struct {
        config_id option;
        bool acts;
        const char *needs;
    } options[] = {
        {OPTION_train_rescale_learned_sigmas, !c->train.use_kl, "train.use_kl=false"},
        {OPTION_train_adam_decay_norms, c->train.adam_weight_decay > 0, "train.adam_weight_decay"},
        {OPTION_ema_use_ema_warmup, decays, "ema.decay"},
        {OPTION_ema_inv_gamma, decays && c->ema.use_ema_warmup, "ema.use_ema_warmup=true"},
        {OPTION_ema_power, decays && c->ema.use_ema_warmup, "ema.use_ema_warmup=true"},
        {OPTION_ema_snapshot_every, c->ema.sigma_rel.item[0] > 0, "ema.sigma_rel"},
        {OPTION_ema_rampup_ratio, c->ema.halflife_kimg > 0, "ema.halflife_kimg"},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (config_is_chosen(c, options[i].option) && !options[i].acts)
            say(a, "%s has no effect without %s", config_options[options[i].option].key, options[i].needs);
}

static void on_draws(advice *a)
{
    const ddpm_config *c = a->c;
    if (c->train.stratified && !c->data.shuffle)
        say(a,
            "train.stratified=true with data.shuffle=false: neighbours in the data set are trained with timesteps that "
            "depend on each other; set data.shuffle=true");
    if (c->train.label_dropout == 1) say(a, "train.label_dropout=1: no image is trained with its class");
}

static void on_images(advice *a)
{
    const int64_t batch = a->c->train.batch;
    if (a->images > 0 && batch > a->images)
        say(a, "train.batch=%lld: every batch contains each of the %lld images %.1f times", (long long)batch,
            (long long)a->images, (double)batch / (double)a->images);
}

static void on_what_is_written(advice *a)
{
    const ddpm_config *c = a->c;
    if (c->sample.every > a->steps)
        say(a, "sample.every=%lld: a run of %lld steps writes no preview", (long long)c->sample.every,
            (long long)a->steps);
    if (c->ema.snapshot_every > a->steps)
        say(a, "ema.snapshot_every=%lld: a run of %lld steps writes no snapshot for `ddpm ema`",
            (long long)c->ema.snapshot_every, (long long)a->steps);
    if (c->log.every > a->steps && a->steps > 1)
        say(a, "log.every=%d: a run of %lld steps writes a single line to metrics.jsonl, and loss.svg has no curve",
            c->log.every, (long long)a->steps);
}

int advice_of(const ddpm_config *c, int64_t steps, int64_t images, char text[ADVICE_MOST][ADVICE_TEXT])
{
    advice a = {c, steps, images, text, 0};
    if (c->train.epochs > 0 && config_is_chosen(c, OPTION_train_steps))
        say(&a, "train.steps=%lld has no effect: train.epochs=%d sets %lld steps", (long long)c->train.steps,
            c->train.epochs, (long long)steps);
    if (c->rewind && config_word_of(OPTION_resume, c->resume) >= 0)
        say(&a, "rewind=true has no effect with resume=%s, only with resume=FOLDER", c->resume);
    on_learning_rate(&a);
    on_averages(&a);
    on_idle_options(&a);
    on_draws(&a);
    on_images(&a);
    on_what_is_written(&a);
    return a.n;
}
