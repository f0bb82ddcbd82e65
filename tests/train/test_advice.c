/* Settings that cannot work are told, and those that can are not. */
#include "train/advice.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static ddpm_config c;
static char text[ADVICE_MOST][ADVICE_TEXT];

/* The settings of a run that nothing is to be said of, with these in their place. */
static int advise(const char *settings, int64_t steps, int64_t images)
{
    static const char *const sound[] = {"train.lr_warmup_steps=10", "ema.decay=0.99", "train.batch=8", "log.every=10"};
    char words[400];
    err e = {0};
    config_defaults(&c);
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++)
        cr_assert_eq(config_assign(&c, NULL, sound[i], &e), DDPM_OK, "%s", e.text);
    (void)snprintf(words, sizeof words, "%s", settings);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        cr_assert_eq(config_assign(&c, NULL, word, &e), DDPM_OK, "%s", e.text);
    return advice_of(&c, steps, images, text);
}

Test(advice, is_given_where_a_setting_cannot_work_faults_F18)
{
    static const struct {
        const char *settings;
        int64_t steps, images;
        const char *said; /* "": nothing */
    } runs[] = {
        {"", 1000, 50, ""},
        {"train.lr_warmup_steps=5000 ema.decay=0.5", 10, 50,
         "train.lr_warmup_steps=5000 is too long for 10 steps: the learning rate reaches only 3.6e-07 of 2.0e-04"},
        {"train.lr_warmup_steps=1000", 1000, 50, "at most a tenth of the steps, 100, is usual"},
        {"train.lr_warmup_steps=999", 1000, 50, ""},
        {"train.lr_warmup_steps=0 ema.decay=0", 1, 50, ""},
        {"train.lr_warmup_steps=4000 train.lr_scheduler=constant", 1000, 50, "=4000 has no effect"},
        {"train.lr_warmup_steps=5000 train.lr_scheduler=cosine", 1000, 50, "is too long for 1000 steps"},
        {"train.lr_warmup_steps=4000 train.lr_scheduler=piecewise_constant train.lr_step_rules=1", 1000, 50,
         "train.lr_scheduler=piecewise_constant has no warm-up"},
        {"train.adam_decay_norms=false", 1000, 50, "has no effect without train.adam_weight_decay"},
        {"train.adam_decay_norms=false train.adam_weight_decay=0.1", 1000, 50, ""},
        {"ema.decay=0.9999", 100, 50, ""}, /* with the warm-up, which is the default */
        {"ema.decay=0.9999 ema.use_ema_warmup=true ema.warmup=false", 100, 50, ""},
        {"ema.halflife_kimg=500 ema.warmup=false", 100, 50, ""},
        {"ema.halflife_kimg=500 ema.rampup_ratio=0", 100, 50,
         "ema.halflife_kimg=500: after 800 images the EMA weights, which sampling uses, still contain 100 % of"},
        {"ema.halflife_kimg=0.5 ema.rampup_ratio=0", 100, 50, ""}, /* 0.33 */
        {"ema.rampup_ratio=0.09", 100, 50, "ema.rampup_ratio has no effect without ema.halflife_kimg"},
        {"ema.warmup=false ema.more=[0.9999]", 1000, 50, "average of decay 0.9999 still contains 90 %"},
        {"ema.decay=0 ema.sigma_rel=[0.05,0.1]", 100, 50, ""},
        {"ema.update_after_step=100", 100, 50, "ema.update_after_step=100: in a run of 100 steps nothing is averaged"},
        {"ema.update_after_step=99", 100, 50, ""},
        {"ema.warmup=false ema.decay=0.9999", 100, 50,
         "after 100 steps the EMA weights, which sampling uses, still contain 99 % of the"},
        {"ema.warmup=false ema.decay=0.9999", 10000, 50, "still contain 37 %"}, /* 1/e */
        {"ema.warmup=false ema.decay=0.9999", 11000, 50, ""},                   /* 0.333 */
        {"ema.decay=0", 100, 50, ""},
        {"train.lr=0", 1000, 50, "the weights will not change"},
        {"train.batch=128", 1000, 5, "every batch contains each of the 5 images 25.6 times"},
        {"train.batch=128", 1000, 128, ""},
        {"sample.every=2000", 1000, 50, "a run of 1000 steps writes no preview"},
        {"sample.every=1000 ckpt.every=5000 train.max_grad_norm=0", 1000, 50, ""},
        {"log.every=2000", 1000, 50, "a run of 1000 steps writes a single line to metrics.jsonl"},
        {"train.epochs=20 train.steps=7", 125, 50, "train.steps=7 has no effect: train.epochs=20 sets 125 steps"},
        {"rewind=true resume=auto", 1000, 50, "rewind=true has no effect with resume=auto"},
        {"rewind=true", 1000, 50, "rewind=true has no effect with resume=never"},
        {"rewind=true resume=runs/a", 1000, 50, ""},
        {"train.epochs=20 train.steps=800000", 1000, 50, ""}, /* as a kept configuration has it */
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const int n = advise(runs[i].settings, runs[i].steps, runs[i].images);
        cr_expect_eq(n, runs[i].said[0] != '\0', "%s: %d: %s", runs[i].settings, n, n ? text[n - 1] : "");
        if (n) cr_expect_not_null(strstr(text[0], runs[i].said), "%s: %s", runs[i].settings, text[0]);
    }
}

Test(advice, of_everything_at_once_has_room)
{
    const int n = advise("train.epochs=9 train.steps=999999999999 train.lr_warmup_steps=1000000000000 "
                         "ema.decay=0.9999999 ema.warmup=false "
                         "train.batch=65536 sample.every=1000000000000 log.every=1000000",
                         99999, 1);
    cr_assert(n >= 6 && n <= ADVICE_MOST);
    for (int i = 0; i < n; i++) cr_expect_lt(strlen(text[i]), ADVICE_TEXT - 1, "cut: %s", text[i]);
}
