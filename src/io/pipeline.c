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

/* The class of the part `key` of an index, which is ["diffusers", CLASS]; NULL: there is no such part. */
static const char *class_of_part(json_in *j, const char *key)
{
    const json_t *part = json_in_get(j, key);
    const char *class = json_string_value(json_array_get(part, 1));
    return part && !class ? "(no class)" : class;
}

static void refuse_part(json_in *j, const char *key, const char *class, const char *supported)
{
    json_in_fail(j, "%s = %.60s is not supported; supported: %s", key, class, supported);
}

/* diffusers instantiates the index's scheduler class, whatever the scheduler's own config says; two pipelines replace it
 * by their own. */
static void take_scheduler(json_in *j, pipeline *p, int pipeline_class)
{
    static const char *const implied[] = {NULL, "DDIMScheduler", "PNDMScheduler", NULL};
    const char *class = class_of_part(j, "scheduler");
    p->has_class = class != NULL || implied[pipeline_class] != NULL;
    if (class && !scheduler_class_find(class, &p->class_of))
        refuse_part(j, "scheduler", class, "DDPMScheduler and the others of docs/usage.md");
    if (implied[pipeline_class]) (void)scheduler_class_find(implied[pipeline_class], &p->class_of);
}

/* Other pipelines may contain the same U-Net but use it differently (in a latent space, or for an SDE). */
static ddpm_status check_index(const char *path, pipeline *p, notes *n, err *e)
{
    static const char *const pipelines[] = {"DDPMPipeline", "DDIMPipeline", "PNDMPipeline", "ConsistencyModelPipeline"};
    static const char *const networks[] = {"UNet2DModel", "UNetModel", "UNetUnconditionalModel"};
    json_in j = json_in_file(path, e);
    const int class = json_in_choice(&j, "_class_name", 0, pipelines, 4);
    take_scheduler(&j, p, class);
    const char *unet = class_of_part(&j, "unet");
    if (unet && strcmp(unet, networks[0]) != 0 && strcmp(unet, networks[1]) != 0 && strcmp(unet, networks[2]) != 0)
        refuse_part(&j, "unet", unet, networks[0]);
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
    if (has_index) TRY(check_index(index, p, n, e));
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
    return scheduler_config_read(p->scheduler, p->has_class ? &p->class_of : NULL, scheduler, n, e);
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

static ddpm_status write_index(const char *path, scheduler_class scheduler, err *e)
{
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, "_class_name", "DDPMPipeline");
    json_out_text(&j, "_diffusers_version", DIFFUSERS_VERSION);
    put_part(&j, "scheduler", scheduler_class_name(scheduler));
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
    return write_index(path, scheduler->type, e);
}
