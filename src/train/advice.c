#include "train/advice.h"

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
    if (a->c->train.lr_scheduler == TRAIN_LR_SCHEDULER_CONSTANT) {
        if (config_is_chosen(a->c, OPTION_train_lr_warmup_steps))
            say(a, "train.lr_warmup_steps=%lld has no effect: train.lr_scheduler=constant has no warm-up",
                (long long)warmup);
    } else if (warmup > 0 && warmup >= a->steps) {
        say(a,
            "train.lr_warmup_steps=%lld is too long for %lld steps: the learning rate reaches only %.1e of %.1e; "
            "at most a tenth of the steps, %lld, is usual",
            (long long)warmup, (long long)a->steps, lr * (double)(a->steps - 1) / (double)warmup, lr,
            (long long)(a->steps / 10));
    }
}

/* The EMA after n updates contains the initial weights with the factor decay^n. */
static void on_average(advice *a)
{
    const double decay = a->c->ema.decay, start = pow(decay, (double)a->steps);
    if (decay <= 0 || a->c->ema.warmup || start <= START_MOST) return;
    say(a,
        "ema.decay=%.7g: after %lld steps the EMA weights, which sampling uses, still contain %.0f %% of the "
        "initial weights; set ema.warmup=true or ema.decay=0",
        decay, (long long)a->steps, 100 * start);
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
    on_average(&a);
    on_images(&a);
    on_what_is_written(&a);
    return a.n;
}
