/* ddpm.c - the public interface, a thin coat over the layers below. */
#include "ddpm.h"
#include "core/mem.h"
#include "ops/nn.h"
#include "train/generator.h"
#include "train/run.h"

#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BATCH = 16 };

struct ddpm_ctx {
    err last;
    backend *be;
    char description[200];
};

struct ddpm_model {
    ddpm_ctx *ctx; /* borrowed */
    model *m;
    plan *p; /* for the batch of the last prediction */
    tensor *x, *t;
    network_outputs net;
};

struct ddpm_sampler {
    ddpm_model *model; /* borrowed */
    generator *g;
    int batch;
    size_t values; /* of one image */
};

int ddpm_abi_version(void) { return DDPM_ABI_VERSION; }
const char *ddpm_version(void) { return DDPM_VERSION; }
const char *ddpm_status_text(ddpm_status status) { return err_meaning(status); }

/* ---- context ---- */

static int threads_from_environment(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    const long n = text ? strtol(text, NULL, 10) : 0;
    return n > 0 && n <= 1024 ? (int)n : 0;
}

ddpm_status ddpm_ctx_create(ddpm_ctx **ctx, const char *device)
{
    TRY(mem_array(ctx, 1, sizeof **ctx, "context", NULL));
    ddpm_ctx *c = *ctx;
    if (!device) return err_set(&c->last, DDPM_EINVAL, "device is NULL; use \"auto\" or \"cpu\"");
    TRY(backend_create(&(backend_spec){.device = device, .threads = threads_from_environment()}, &c->be, &c->last));
    c->be->fn->describe(c->be, c->description, sizeof c->description);
    return DDPM_OK;
}

void ddpm_ctx_destroy(ddpm_ctx *ctx)
{
    if (!ctx) return;
    backend_destroy(ctx->be);
    mem_free(ctx);
}

const char *ddpm_last_error(const ddpm_ctx *ctx) { return ctx ? ctx->last.text : err_meaning(DDPM_ENOMEM); }
const char *ddpm_ctx_describe(const ddpm_ctx *ctx) { return ctx->description; }

static ddpm_status check_ctx(ddpm_ctx *ctx)
{
    return ctx->be ? DDPM_OK : err_set(&ctx->last, DDPM_EINVAL, "the context has no device: its creation failed");
}

/* ---- model ---- */

ddpm_status ddpm_model_load(ddpm_ctx *ctx, const char *pipeline_dir, ddpm_model **out)
{
    ddpm_model *m;
    *out = NULL;
    TRY(check_ctx(ctx));
    if (!pipeline_dir) return err_set(&ctx->last, DDPM_EINVAL, "pipeline_dir is NULL");
    TRY(mem_array(&m, 1, sizeof *m, "model", &ctx->last));
    m->ctx = ctx;
    const ddpm_status st = model_load(ctx->be, pipeline_dir, &m->m, NULL, &ctx->last);
    if (st != DDPM_OK) {
        mem_free(m);
        return st;
    }
    *out = m;
    return DDPM_OK;
}

void ddpm_model_destroy(ddpm_model *m)
{
    if (!m) return;
    plan_destroy(m->p);
    model_destroy(m->m);
    mem_free(m);
}

void ddpm_model_get_info(const ddpm_model *m, ddpm_model_info *info)
{
    *info = (ddpm_model_info){.c = m->m->net.unet.in_channels,
                              .c_out = m->m->net.unet.out_channels,
                              .timesteps = m->m->scheduler.num_train_timesteps,
                              .parameters = m->m->store->values};
    model_image_size(m->m, &info->h, &info->w);
}

static ddpm_status plan_prediction(ddpm_model *m, int n, err *e)
{
    int h, w;
    model_image_size(m->m, &h, &w);
    plan_destroy(m->p);
    m->p = NULL;
    TRY(plan_create(m->ctx->be, &m->p, e));
    m->x = plan_input(m->p, DTYPE_F32, "x", n, h, w, m->m->net.unet.in_channels);
    m->t = plan_input(m->p, DTYPE_F32, "t", n, 1, 1, 1);
    m->net = network_build(&m->m->net, m->p, &(network_inputs){.x = m->x, .t = m->t});
    m->net.y = nn_cast(m->p, m->net.y, DTYPE_F32);
    plan_keep(m->p, m->net.y);
    TRY(plan_finish(m->p, e));
    TRY(plan_allocate(m->p, e));
    TRY(params_bind(m->m->store, m->p, ARENA_PARAM, e));
    return network_fill(&m->m->net, m->p, &m->net, e);
}

ddpm_status ddpm_model_predict(ddpm_model *m, int n, const float *x, const float *t, float *out)
{
    err *e = &m->ctx->last;
    if (n < 1 || !x || !t || !out)
        return err_set(e, DDPM_EINVAL, "predict: n = %d images, and x, t, out must not be NULL", n);
    if (!m->p || m->x->n != n) {
        const ddpm_status st = plan_prediction(m, n, e);
        if (st != DDPM_OK) {
            plan_destroy(m->p);
            m->p = NULL;
            return st;
        }
    }
    TRY(plan_write(m->p, m->x, x, e));
    TRY(plan_write(m->p, m->t, t, e));
    TRY(params_refresh(m->m->store, ARENA_PARAM, e));
    TRY(plan_run(m->p, e));
    return plan_read(m->p, m->net.y, out, e);
}

/* ---- sampler ---- */

static ddpm_status create_sampler(ddpm_model *m, const ddpm_sampler_options *o, ddpm_sampler *s, err *e)
{
    generator_spec spec = {.batch = o->batch ? o->batch : DEFAULT_BATCH,
                           .steps = o->num_inference_steps,
                           .seed = o->seed,
                           .weights = ARENA_PARAM,
                           .scheduler = m->m->scheduler};
    model_image_size(m->m, &spec.h, &spec.w);
    if (spec.batch < 1) return err_set(e, DDPM_EINVAL, "batch %d: at least 1, or 0 for %d", spec.batch, DEFAULT_BATCH);
    s->model = m;
    s->batch = spec.batch;
    s->values = (size_t)spec.h * (size_t)spec.w * (size_t)m->m->net.unet.in_channels;
    TRY(generator_create(m->m, &spec, &s->g, e));
    return generator_allocate(s->g, e);
}

ddpm_status ddpm_sampler_create(ddpm_model *m, const ddpm_sampler_options *options, ddpm_sampler **out)
{
    const ddpm_sampler_options all_0 = {.struct_size = sizeof all_0};
    const ddpm_sampler_options *o = options ? options : &all_0;
    err *e = &m->ctx->last;
    ddpm_sampler *s;
    *out = NULL;
    if (o->struct_size != sizeof *o)
        return err_set(e, DDPM_EINVAL, "struct_size is %zu, this library's ddpm_sampler_options has %zu bytes",
                       o->struct_size, sizeof *o);
    TRY(mem_array(&s, 1, sizeof *s, "sampler", e));
    const ddpm_status st = create_sampler(m, o, s, e);
    if (st != DDPM_OK) {
        ddpm_sampler_destroy(s);
        return st;
    }
    *out = s;
    return DDPM_OK;
}

void ddpm_sampler_destroy(ddpm_sampler *s)
{
    if (!s) return;
    generator_destroy(s->g);
    mem_free(s);
}

ddpm_status ddpm_sampler_run(ddpm_sampler *s, int n, const int64_t *ids, float *images)
{
    err *e = &s->model->ctx->last;
    if (n < 1 || !ids || !images)
        return err_set(e, DDPM_EINVAL, "sample: n = %d images, and ids, images must not be NULL", n);
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] > UINT32_MAX)
            return err_set(e, DDPM_EINVAL, "sample: ids[%d] = %lld is not in [0, 2^32)", i, (long long)ids[i]);
    for (int at = 0; at < n; at += s->batch)
        TRY(generator_run(s->g, ids + at, n - at < s->batch ? n - at : s->batch, images + (size_t)at * s->values, e));
    return DDPM_OK;
}

/* ---- training ---- */

typedef struct watcher {
    ddpm_step_function *step;
    void *user;
    ddpm_wish wish;
} watcher;

static void watch_step(void *context, const run_status *s)
{
    watcher *w = context;
    const ddpm_progress progress = {.step = s->state->step,
                                    .steps = (uint64_t)s->steps,
                                    .skipped = s->state->skipped,
                                    .loss = s->state->loss,
                                    .grad_norm = s->state->grad_norm,
                                    .lr = s->state->lr};
    w->wish = w->step ? w->step(w->user, &progress) : DDPM_GO_ON;
}

static run_wish tell_wish(void *context)
{
    const watcher *w = context;
    return w->wish == DDPM_STOP ? RUN_STOP : w->wish == DDPM_SAVE ? RUN_SAVE : RUN_ON;
}

static ddpm_status read_settings(ddpm_config *config, int n, const char *const *settings, err *e)
{
    config_defaults(config);
    for (int i = 0; i < n; i++) {
        if (!settings || !settings[i]) return err_set(e, DDPM_EINVAL, "settings[%d] is NULL", i);
        TRY(strchr(settings[i], '=') ? config_assign(config, NULL, settings[i], e)
                                     : config_read_file(config, settings[i], e));
    }
    return config_check(config, e);
}

ddpm_status ddpm_train(ddpm_ctx *ctx, int n, const char *const *settings, ddpm_step_function *on_step, void *user)
{
    ddpm_config *config = NULL;
    watcher w = {.step = on_step, .user = user};
    const run_hooks hooks = {.context = &w, .step = watch_step, .wish = tell_wish};
    TRY(check_ctx(ctx));
    TRY(mem_array(&config, 1, sizeof *config, "options", &ctx->last));
    ddpm_status st = read_settings(config, n, settings, &ctx->last);
    if (st == DDPM_OK) st = run_train(ctx->be, config, &hooks, &ctx->last);
    mem_free(config);
    return st;
}
