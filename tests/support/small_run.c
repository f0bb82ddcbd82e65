#include "support/small_run.h"
#include "base/file.h"
#include "support/ok.h"

#include <stdio.h>
#include <string.h>

void config_put(ddpm_config *c, const char *setting)
{
    err why = {0};
    OK(config_assign(c, NULL, setting, &why));
}

void config_put_all(ddpm_config *c, const char *const *settings)
{
    while (*settings) config_put(c, *settings++);
}

void small_run(ddpm_config *c, const char *root, const char *name, const char *const *settings)
{
    static const char *const common[] = {"data.kind=digits",
                                         "data.resolution=8",
                                         "data.channels=1",
                                         "data.flip=true",
                                         "model.down_block_types=DownBlock2D,AttnDownBlock2D",
                                         "model.up_block_types=AttnUpBlock2D,UpBlock2D",
                                         "model.layers_per_block=1",
                                         "train.lr=2e-3",
                                         "train.lr_warmup_steps=3",
                                         "ema.decay=0.9",
                                         "ckpt.every=0",
                                         "log.every=1",
                                         NULL};
    err why = {0};
    char out[PATH_CAP];
    config_defaults(c);
    config_put_all(c, common);
    config_put_all(c, settings);
    OK(path_join(out, root, name, &why));
    (void)snprintf(c->out, sizeof c->out, "%s", out);
}

static void add_note(void *context, const char *text)
{
    run_record *r = context;
    const size_t used = strlen(r->notes);
    (void)snprintf(r->notes + used, sizeof r->notes - used, "%s\n", text);
}

static void add_step(void *context, const run_status *status)
{
    run_record *r = context;
    r->now = status->state->step;
    if (r->steps < RUN_RECORD_LOSSES) r->loss[r->steps] = status->state->loss;
    r->steps++;
}

static run_request stop_there(void *context)
{
    const run_record *r = context;
    return r->stop_at && r->now >= r->stop_at ? RUN_STOP : RUN_CONTINUE;
}

run_hooks run_record_hooks(run_record *r)
{
    return (run_hooks){.context = r, .note = add_note, .step = add_step, .request = stop_there};
}
