/* cmd_ema.c - ddpm ema: an average of another width, made of the snapshots of a run (train/ema_snapshot.h). */
#include "cli/cli.h"
#include "cli/output.h"
#include "io/checkpoint_dir.h"
#include "train/ema_snapshot.h"

#include <stdlib.h>
#include <string.h>

/* The step of a checkpoint's folder, ckpt/step_NNN. */
static int64_t step_of(const char *checkpoint)
{
    const char *name = strrchr(checkpoint, '/');
    name = strstr(name ? name : checkpoint, "step_");
    return name ? strtoll(name + strlen("step_"), NULL, 10) : 0;
}

static ddpm_status check_options(const cli_args *args, bool *replace, err *e)
{
    const config_reals *width = &args->config.ema.sigma_rel;
    if (width->count != 1 || width->item[0] == 0)
        return err_set(e, DDPM_EINVAL, "ddpm ema: sigma_rel=WIDTH is missing, a number such as 0.15");
    if (!args->config.ema.out[0]) return err_set(e, DDPM_EINVAL, "ddpm ema: out=FOLDER is missing");
    return output_check_pipeline(args->config.ema.out, "out", cli_may_overwrite(args), replace, e);
}

ddpm_status cmd_ema(const cli_args *args, err *e)
{
    const ddpm_config *c = &args->config;
    ema_request q = {.run = args->argument[0], .sigma_rel = c->ema.sigma_rel.item[0], .at = c->ema.at};
    char ckpt[PATH_CAP], newest[PATH_CAP];
    backend *be = NULL;
    model *m = NULL;
    ema_made made;
    bool replace;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(check_options(args, &replace, e));
    TRY_GOTO(path_join(ckpt, q.run, "ckpt", e));
    TRY_GOTO(checkpoint_newest_good(ckpt, newest, NULL, e));
    q.last = step_of(newest);
    TRY_GOTO(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, e));
    TRY_GOTO(model_load(be, newest, &m, NULL, e));
    TRY_GOTO(ema_synthesize(&q, m, &made, e));
    TRY_GOTO(output_save_pipeline(m, c->ema.out, replace, e));
    printf("%s: the average of step %lld with sigma_rel=%g, from %d averages with weights %.3f to %.3f\n", c->ema.out,
           (long long)made.step, q.sigma_rel, made.snapshots, made.least, made.most);
done:
    model_destroy(m);
    backend_destroy(be);
    return st;
}
