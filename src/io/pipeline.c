#include "io/pipeline.h"
#include "base/mem.h"
#include "io/checkpoint_dir.h"
#include "io/json_in.h"
#include "io/json_out.h"

#include <stdio.h>
#include <string.h>

/* dir/name into out; *found: it exists. */
static ddpm_status look(char *out, const char *dir, const char *name, bool *found, err *e)
{
    TRY(path_join(out, dir, name, e));
    *found = path_exists(out);
    return DDPM_OK;
}

static ddpm_status find_scheduler(pipeline *p, err *e)
{
    bool found;
    TRY(look(p->scheduler, p->root, "scheduler/scheduler_config.json", &found, e));
    if (!found) TRY(look(p->scheduler, p->root, "scheduler_config.json", &found, e));
    if (!found)
        return err_set(e, DDPM_ENOINPUT,
                       "%s: no scheduler/scheduler_config.json and no scheduler_config.json in this folder", p->root);
    return DDPM_OK;
}

/* The part `key` of an index is ["diffusers", CLASS]: diffusers instantiates this class, whatever the folder's own
 * config says. */
static void check_part(json_in *j, const char *key, const char *const *classes, int n)
{
    const json_t *part = json_in_get(j, key);
    const char *class = json_string_value(json_array_get(part, 1));
    if (!part) return;
    for (int i = 0; class && i < n; i++)
        if (!strcmp(class, classes[i])) return;
    json_in_fail(j, "%s = %.60s is not supported; supported: %s", key, class ? class : "(no class)", classes[0]);
}

/* Other pipelines may contain the same U-Net but use it differently (in a latent space, for an SDE, with DDIM
 * steps). */
static ddpm_status check_index(const char *path, notes *n, err *e)
{
    static const char *const pipelines[] = {"DDPMPipeline"};
    static const char *const schedulers[] = {"DDPMScheduler", "GaussianDDPMScheduler"};
    static const char *const networks[] = {"UNet2DModel", "UNetModel", "UNetUnconditionalModel"};
    json_in j = json_in_file(path, e);
    (void)json_in_choice(&j, "_class_name", 0, pipelines, 1);
    check_part(&j, "scheduler", schedulers, 2);
    check_part(&j, "unet", networks, 3);
    return json_in_close(&j, n);
}

/* Is `dir` a pipeline folder, of either layout? */
static ddpm_status find_here(const char *dir, pipeline *p, bool *found, notes *n, err *e)
{
    char index[PATH_CAP], config[PATH_CAP];
    bool has_index;
    TRY(look(index, dir, "model_index.json", &has_index, e));
    TRY(look(config, dir, "unet/config.json", found, e));
    TRY(path_join(p->unet, dir, "unet", e));
    if (!*found) {
        TRY(look(config, dir, "config.json", found, e));
        (void)snprintf(p->unet, sizeof p->unet, "%s", dir);
    }
    if (!*found) return DDPM_OK;
    if (has_index) TRY(check_index(index, n, e));
    (void)snprintf(p->root, sizeof p->root, "%s", dir);
    return find_scheduler(p, e);
}

static ddpm_status find_checkpoint(const char *dir, char *out, bool *found, notes *n, err *e)
{
    int64_t *steps;
    int count;
    *found = false;
    if (!path_is_dir(dir)) return DDPM_OK;
    TRY(checkpoint_list(dir, &steps, &count, e));
    mem_free(steps);
    if (count == 0) return DDPM_OK;
    *found = true;
    return checkpoint_newest_good(dir, out, n, e);
}

/* A checkpoint that is given explicitly may have been changed on purpose: only note the change. */
static void note_changes(const char *dir, notes *n)
{
    bool sealed;
    char seal[PATH_CAP];
    err why = {0};
    if (!n || look(seal, dir, "training/integrity.json", &sealed, &why) != DDPM_OK || !sealed) return;
    if (checkpoint_verify(dir, &why) != DDPM_OK) notes_add(n, "WARNING: %s", why.text);
}

ddpm_status pipeline_find(const char *path, pipeline *p, notes *n, err *e)
{
    char ckpt[PATH_CAP], newest[PATH_CAP];
    bool found;
    memset(p, 0, sizeof *p);
    if (strlen(path) >= PATH_CAP) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
    if (!path_exists(path)) return err_set(e, DDPM_ENOINPUT, "%s: no such folder", path);
    if (!path_is_dir(path))
        return err_set(e, DDPM_ENOINPUT, "%s: is a file; give the folder of a pipeline or run", path);
    TRY(find_here(path, p, &found, n, e));
    if (found) {
        note_changes(path, n);
        return DDPM_OK;
    }
    TRY(path_join(ckpt, path, "ckpt", e));
    TRY(find_checkpoint(ckpt, newest, &found, n, e));
    if (!found) TRY(find_checkpoint(path, newest, &found, n, e));
    if (found) {
        TRY(find_here(newest, p, &found, n, e));
        if (found) return DDPM_OK;
        return err_set(e, DDPM_EDATA, "%s: incomplete checkpoint: no unet/config.json", newest);
    }
    return err_set(e, DDPM_ENOINPUT,
                   "%s: neither a pipeline folder (unet/config.json or config.json) nor a run folder "
                   "(ckpt/step_XXXXXXXX)",
                   path);
}

ddpm_status pipeline_read_configs(const pipeline *p, unet_config *net, scheduler_config *scheduler, notes *n, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, p->unet, "config.json", e));
    TRY(unet_config_read(path, net, n, e));
    return scheduler_config_read(p->scheduler, scheduler, n, e);
}

ddpm_status pipeline_read_weights(const pipeline *p, const named_tensor *tensors, int n_tensor, notes *n, err *e)
{
    char path[PATH_CAP];
    TRY(weights_find(p->unet, path, e));
    return weights_read(path, tensors, n_tensor, n, e);
}

static void put_part(json_out *j, const char *key, const char *class_name)
{
    json_out_open(j, key, '[');
    json_out_text(j, NULL, "diffusers");
    json_out_text(j, NULL, class_name);
    json_out_close(j, ']');
}

static ddpm_status write_index(const char *path, err *e)
{
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, "_class_name", "DDPMPipeline");
    json_out_text(&j, "_diffusers_version", DIFFUSERS_VERSION);
    put_part(&j, "scheduler", "DDPMScheduler");
    put_part(&j, "unet", "UNet2DModel");
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}

ddpm_status pipeline_write_parts(const char *dir, const scheduler_config *scheduler, const named_tensor *tensors,
                                 int n_tensor, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, dir, "unet", e));
    TRY(dir_make(path, e));
    TRY(path_join(path, dir, "scheduler", e));
    TRY(dir_make(path, e));
    TRY(path_join(path, dir, "scheduler/scheduler_config.json", e));
    TRY(scheduler_config_write(scheduler, path, e));
    TRY(path_join(path, dir, "unet/diffusion_pytorch_model.safetensors", e));
    return weights_write(path, tensors, n_tensor, false, e);
}

ddpm_status pipeline_write(const char *dir, const unet_config *net, const scheduler_config *scheduler,
                           const named_tensor *tensors, int n_tensor, err *e)
{
    char path[PATH_CAP];
    TRY(pipeline_write_parts(dir, scheduler, tensors, n_tensor, e));
    TRY(path_join(path, dir, "unet/config.json", e));
    TRY(unet_config_write(net, path, e));
    TRY(path_join(path, dir, "model_index.json", e));
    return write_index(path, e);
}
