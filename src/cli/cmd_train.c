/* cmd_train.c - ddpm train: runs src/train/training_run.c with progress output and signal handling. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "base/clock.h"
#include "base/process.h"
#include "train/recipe.h"
#include "train/self_test.h"
#include "train/training_run.h"

typedef struct view {
    progress bar;
    double seconds; /* between two lines if there is no terminal */
    double memory;  /* bytes available to the run */
} view;

static void show_note(void *context, const char *text)
{
    view *v = context;
    if (v->bar.out)
        progress_note(&v->bar, text);
    else
        printf("%s\n", text);
    (void)fflush(stdout);
}

static void begin(void *context, const run_status *s)
{
    view *v = context;
    interrupt_at_once(false);
    v->memory = (double)s->memory + (double)machine_memory_left("");
    progress_begin(&v->bar, stdout, v->seconds, s->images_per_step, clock_seconds(), (int64_t)s->state->step);
}

static void step_done(void *context, const run_status *s)
{
    view *v = context;
    const double now = clock_seconds();
    const bool last = s->state->step == (uint64_t)s->steps;
    if (!progress_step(&v->bar, now, (int64_t)s->state->step) && !last) return;
    progress_line line = progress_unknown;
    line.done = (int64_t)s->state->step;
    line.total = s->steps;
    line.loss = (double)s->state->loss;
    line.grad_norm = (double)s->state->grad_norm;
    line.lr = (double)s->state->lr;
    line.memory_used = (double)s->memory;
    line.memory_total = v->memory;
    progress_show(&v->bar, now, line);
}

static run_request request(void *context)
{
    if (interrupt_stop()) return RUN_STOP;
    return interrupt_save() ? RUN_SAVE : RUN_CONTINUE;
}

ddpm_status cmd_train(const cli_args *args, err *e)
{
    backend *be = NULL;
    backend_spec spec;
    autotune_files files;
    view v = {.seconds = args->config.log.seconds};
    const run_hooks hooks = {.context = &v, .note = show_note, .begin = begin, .step = step_done, .request = request};
    TRY(interrupt_install(e));
    interrupt_at_once(true); /* planning and autotuning may take long */
    TRY(recipe_backend(&args->config, args->config.out, &files, &spec, e));
    TRY(self_test_open(&spec, &be, e));
    const ddpm_status st = run_train(be, &args->config, &hooks, e);
    if (v.bar.out) progress_end(&v.bar);
    backend_destroy(be);
    if (st == DDPM_OK) printf("done: %s\n", args->config.out);
    return st;
}
