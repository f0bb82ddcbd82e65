#include "model/model.h"
#include "base/mem.h"
#include "diffusion/schedule.h"
#include "model/simple_config.h"

enum { SIZE_UNKNOWN = 32 }; /* pixels per side if the config has no sample_size */

void model_image_size(const model *m, int *h, int *w)
{
    const int unit = 1 << (m->net.unet.n_block - 1), size = unit > SIZE_UNKNOWN ? unit : SIZE_UNKNOWN;
    *h = m->net.unet.sample_size_h ? m->net.unet.sample_size_h : size;
    *w = m->net.unet.sample_size_w ? m->net.unet.sample_size_w : size;
}

/* Names and shapes do not depend on batch or image size, so they are taken from a plan that is never finished. */
static ddpm_status declare(model *m, err *e)
{
    plan *p = NULL;
    int h, w;
    ddpm_status st = DDPM_OK;
    model_image_size(m, &h, &w);
    TRY(plan_create(m->be, &p, e));
    const network_inputs in = network_input_tensors(&m->net, p, 1, h, w);
    (void)network_build(&m->net, p, &in);
    if (!plan_ok(p)) TRY_GOTO(err_set(e, p->first.status, "%s", p->first.text));
    TRY_GOTO(params_declare(m->store, p, e));
done:
    plan_destroy(p);
    return st;
}

ddpm_status model_create(backend *be, const network *net, const scheduler_config *scheduler, model **out, err *e)
{
    model *m = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    if (net->kind == NETWORK_UNET && unet_config_check(&net->unet, "model", e) != DDPM_OK) {
        if (e) e->status = DDPM_EINVAL; /* files were validated when read, so the fault is in the options */
        return DDPM_EINVAL;
    }
    TRY_GOTO(mem_array(&m, 1, sizeof *m, "model", e));
    m->be = be;
    m->net = *net;
    m->scheduler = *scheduler;
    TRY_GOTO(params_create(be, &m->store, e));
    TRY_GOTO(declare(m, e));
    *out = m;
    m = NULL;
done:
    model_destroy(m);
    return st;
}

void model_destroy(model *m)
{
    if (!m) return;
    params_destroy(m->store);
    class_names_free(&m->classes);
    mem_free(m);
}

static ddpm_status read_configs(const pipeline *p, network *net, scheduler_config *scheduler, notes *remarks, err *e)
{
    char path[PATH_CAP];
    bool is_simple;
    TRY(path_join(path, p->unet, "config.json", e));
    TRY(simple_config_read(path, &net->unet, &is_simple, remarks, e));
    net->kind = is_simple ? NETWORK_SIMPLE : NETWORK_UNET;
    if (is_simple) return scheduler_config_read(p->scheduler, NULL, scheduler, remarks, e);
    return pipeline_read_configs(p, &net->unet, scheduler, remarks, e);
}

/* Betas in range one by one that make no process together are a fault of the file. */
static ddpm_status check_process(const pipeline *p, const scheduler_config *scheduler, err *e)
{
    schedule *s;
    err why = {0};
    const ddpm_status st = schedule_create(scheduler, &s, &why);
    schedule_destroy(s);
    if (st == DDPM_OK) return DDPM_OK;
    return err_set(e, st == DDPM_EINVAL ? DDPM_EDATA : st, "%s: %s", p->scheduler, why.text);
}

ddpm_status model_read_process(const char *path, scheduler_config *scheduler, err *e)
{
    pipeline p;
    network ignored;
    TRY(pipeline_find(path, &p, NULL, e));
    TRY(read_configs(&p, &ignored, scheduler, NULL, e));
    return check_process(&p, scheduler, e);
}

ddpm_status model_read_configs(const char *path, network *net, scheduler_config *scheduler, notes *remarks, err *e)
{
    pipeline p;
    TRY(pipeline_find(path, &p, remarks, e));
    return read_configs(&p, net, scheduler, remarks, e);
}

ddpm_status model_read_classes(const char *path, int *rows, class_names *out, err *e)
{
    pipeline p;
    network net;
    scheduler_config ignored;
    *rows = 0;
    *out = (class_names){0};
    TRY(pipeline_find(path, &p, NULL, e));
    TRY(read_configs(&p, &net, &ignored, NULL, e));
    *rows = unet_config_classes(&net.unet);
    return *rows > 0 ? class_names_read(p.root, *rows, out, e) : DDPM_OK;
}

ddpm_status model_load(backend *be, const char *path, model **out, notes *remarks, err *e)
{
    pipeline p;
    network net;
    scheduler_config scheduler;
    char weights[PATH_CAP];
    model *m = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY(pipeline_find(path, &p, remarks, e));
    TRY(read_configs(&p, &net, &scheduler, remarks, e));
    TRY(check_process(&p, &scheduler, e));
    TRY(weights_find(p.unet, weights, e));
    TRY_GOTO(model_create(be, &net, &scheduler, &m, e));
    TRY_GOTO(params_allocate(m->store, false, false, e));
    TRY_GOTO(params_load(m->store, ARENA_PARAM, weights, remarks, e));
    if (unet_config_classes(&net.unet) > 0)
        TRY_GOTO(class_names_read(p.root, unet_config_classes(&net.unet), &m->classes, e));
    *out = m;
    m = NULL;
done:
    model_destroy(m);
    return st;
}

static ddpm_status save_simple(const model *m, const char *dir, const named_tensor *tensors, err *e)
{
    char path[PATH_CAP];
    TRY(pipeline_write_parts(dir, &m->scheduler, tensors, m->store->n, e));
    TRY(path_join(path, dir, "unet/config.json", e));
    return simple_config_write(&m->net.unet, path, e);
}

ddpm_status model_save(const model *m, arena_kind weights, const char *dir, err *e)
{
    float *host, *copy = NULL;
    named_tensor *tensors = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(params_view(m->store, weights, &host, &copy, e));
    TRY_GOTO(params_name(m->store, host, &tensors, e));
    TRY_GOTO(m->net.kind == NETWORK_SIMPLE ? save_simple(m, dir, tensors, e)
                                           : pipeline_write(dir, &m->net.unet, &m->scheduler, tensors, m->store->n, e));
    if (unet_config_classes(&m->net.unet) > 0) TRY_GOTO(class_names_write(&m->classes, dir, e));
done:
    mem_free(tensors);
    mem_free(copy);
    return st;
}
