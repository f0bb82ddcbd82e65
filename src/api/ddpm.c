/* ddpm.c - the public interface (ddpm.h), a thin layer over the modules. */
#include "ddpm.h"
#include "base/mem.h"
#include "nn/nn.h"
#include "sample/generator.h"
#include "train/self_test.h"
#include "train/training_run.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_BATCH = 16, MOST_BATCH = 65536 };

/* A handle is freed once it and everything created from it is destroyed: `users` counts both. */
struct ddpm_ctx {
    int users;
    err last;
    backend *be;
    config_device device; /* as requested; "" if that is not a valid device */
    int threads;          /* as requested; 0: all */
    char description[200];
};

struct ddpm_model {
    int users;
    ddpm_ctx *ctx; /* counted in ctx->users */
    model *m;
    plan *p; /* for the batch size of the last prediction */
    tensor *x, *t;
    network_outputs net;
};

struct ddpm_sampler {
    ddpm_model *model; /* counted in model->users */
    generator *g;
    int batch;
    size_t values; /* per image */
};

int ddpm_abi_version(void) { return DDPM_ABI_VERSION; }
const char *ddpm_version(void) { return DDPM_VERSION; }
const char *ddpm_status_text(ddpm_status status) { return err_meaning(status); }

/* ---- the caller's locale ---- */

/* The library reads and writes numbers with a decimal point, also if the caller's locale uses a comma: the calling
 * thread is in the C locale from enter() to leave(), except during callbacks. */
static locale_t enter(void)
{
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return uselocale(c); /* if newlocale() failed, c is 0 and the locale stays unchanged */
}

static ddpm_status leave(locale_t caller, ddpm_status st)
{
    const locale_t ours = uselocale(caller);
    if (ours != caller) freelocale(ours);
    return st;
}

/* ---- context ---- */

static int threads_from_environment(void)
{
    const char *text = getenv("OMP_NUM_THREADS");
    const long n = text ? strtol(text, NULL, 10) : 0;
    return n > 0 && n <= 1024 ? (int)n : 0;
}

static ddpm_status create_context(ddpm_ctx *c, const char *device)
{
    if (!device) return err_set(&c->last, DDPM_EINVAL, "device is NULL; use \"auto\" or \"cpu\"");
    c->threads = threads_from_environment();
    TRY(self_test_open(&(backend_spec){.device = device, .threads = c->threads}, &c->be, &c->last));
    (void)snprintf(c->device, sizeof c->device, "%s", device);
    c->be->fn->describe(c->be, c->description, sizeof c->description);
    return DDPM_OK;
}

ddpm_status ddpm_ctx_create(ddpm_ctx **ctx, const char *device)
{
    if (!ctx) return DDPM_EINVAL;
    *ctx = NULL;
    TRY(mem_array(ctx, 1, sizeof **ctx, "context", NULL));
    (*ctx)->users = 1;
    const locale_t caller = enter();
    return leave(caller, create_context(*ctx, device));
}

void ddpm_ctx_destroy(ddpm_ctx *ctx)
{
    if (!ctx || --ctx->users > 0) return;
    const locale_t caller = enter();
    backend_destroy(ctx->be);
    mem_free(ctx);
    (void)leave(caller, DDPM_OK);
}

const char *ddpm_last_error(const ddpm_ctx *ctx) { return ctx ? ctx->last.text : err_meaning(DDPM_ENOMEM); }
const char *ddpm_ctx_describe(const ddpm_ctx *ctx) { return ctx ? ctx->description : ""; }

static ddpm_status check_ctx(ddpm_ctx *ctx)
{
    if (!ctx) return DDPM_EINVAL; /* no context to hold a message */
    return ctx->be ? DDPM_OK
                   : err_set(&ctx->last, DDPM_EINVAL, "the context has no device, because ddpm_ctx_create() failed");
}

/* ---- model ---- */

static ddpm_status load_model(ddpm_ctx *ctx, const char *dir, ddpm_model **out)
{
    ddpm_model *m;
    TRY(mem_array(&m, 1, sizeof *m, "model", &ctx->last));
    m->ctx = ctx;
    const ddpm_status st = model_load(ctx->be, dir, &m->m, NULL, &ctx->last);
    if (st != DDPM_OK) {
        mem_free(m);
        return st;
    }
    m->users = 1;
    ctx->users++;
    *out = m;
    return DDPM_OK;
}

ddpm_status ddpm_model_load(ddpm_ctx *ctx, const char *pipeline_dir, ddpm_model **out)
{
    if (out) *out = NULL;
    TRY(check_ctx(ctx));
    if (!pipeline_dir) return err_set(&ctx->last, DDPM_EINVAL, "pipeline_dir is NULL");
    if (!out) return err_set(&ctx->last, DDPM_EINVAL, "model is NULL");
    const locale_t caller = enter();
    return leave(caller, load_model(ctx, pipeline_dir, out));
}

void ddpm_model_destroy(ddpm_model *m)
{
    if (!m || --m->users > 0) return;
    plan_destroy(m->p);
    model_destroy(m->m);
    ddpm_ctx_destroy(m->ctx);
    mem_free(m);
}

ddpm_status ddpm_model_get_info(const ddpm_model *m, ddpm_model_info *info)
{
    if (info) *info = (ddpm_model_info){.c = 0};
    if (!m) return DDPM_EINVAL;
    if (!info) return err_set(&m->ctx->last, DDPM_EINVAL, "info is NULL");
    *info = (ddpm_model_info){.c = m->m->net.unet.in_channels,
                              .c_out = m->m->net.unet.out_channels,
                              .timesteps = m->m->scheduler.num_train_timesteps,
                              .parameters = m->m->store->values};
    model_image_size(m->m, &info->h, &info->w);
    return DDPM_OK;
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
    TRY(plan_fits(m->p, e));
    TRY(plan_finish(m->p, e));
    TRY(plan_allocate(m->p, e));
    TRY(params_bind(m->m->store, m->p, ARENA_PARAM, e));
    return network_fill(&m->m->net, m->p, &m->net, e);
}

static ddpm_status check_inputs(const ddpm_model *m, int n, const float *x, const float *t, err *e)
{
    const int T = m->m->scheduler.num_train_timesteps;
    const int64_t values = tensor_count(m->x);
    for (int i = 0; i < n; i++)
        if (!(t[i] >= 0 && t[i] < (float)T))
            return err_set(e, DDPM_EINVAL, "predict: t[%d] = %g is not in [0, %d)", i, (double)t[i], T);
    for (int64_t i = 0; i < values; i++)
        if (!isfinite(x[i]))
            return err_set(e, DDPM_EINVAL, "predict: value %lld of x is %g, not finite", (long long)i, (double)x[i]);
    return DDPM_OK;
}

static ddpm_status check_output(const ddpm_model *m, const float *out, err *e)
{
    const int64_t values = tensor_count(m->net.y);
    for (int64_t i = 0; i < values; i++)
        if (!isfinite(out[i]))
            return err_set(e, DDPM_EDIVERGED,
                           "predict: the network's output is not finite: value %lld is %g; x may be too large",
                           (long long)i, (double)out[i]);
    return DDPM_OK;
}

static ddpm_status predict(ddpm_model *m, int n, const float *x, const float *t, float *out)
{
    err *e = &m->ctx->last;
    if (!m->p || m->x->n != n) {
        const ddpm_status st = plan_prediction(m, n, e);
        if (st != DDPM_OK) {
            plan_destroy(m->p);
            m->p = NULL;
            return st;
        }
    }
    TRY(check_inputs(m, n, x, t, e)); /* after planning, which rejects an invalid n */
    TRY(plan_write(m->p, m->x, x, e));
    TRY(plan_write(m->p, m->t, t, e));
    TRY(params_refresh(m->m->store, ARENA_PARAM, e));
    TRY(plan_run(m->p, e));
    TRY(plan_read(m->p, m->net.y, out, e));
    return check_output(m, out, e);
}

ddpm_status ddpm_model_predict(ddpm_model *m, int n, const float *x, const float *t, float *out)
{
    if (!m) return DDPM_EINVAL;
    if (n < 1 || !x || !t || !out)
        return err_set(&m->ctx->last, DDPM_EINVAL, "predict: n = %d must be at least 1, and x, t, out must not be NULL",
                       n);
    const locale_t caller = enter();
    return leave(caller, predict(m, n, x, t, out));
}

/* ---- sampler ---- */

static ddpm_status create_sampler(ddpm_model *m, const ddpm_sampler_options *o, ddpm_sampler *s, err *e)
{
    generator_spec spec = {.batch = o->batch ? o->batch : DEFAULT_BATCH,
                           .sampler = sampler_spec_of(&m->m->scheduler, o->num_inference_steps),
                           .seed = o->seed,
                           .weights = ARENA_PARAM,
                           .scheduler = m->m->scheduler};
    model_image_size(m->m, &spec.h, &spec.w);
    if (spec.batch < 1 || spec.batch > MOST_BATCH)
        return err_set(e, DDPM_EINVAL, "batch %d: must be 1 to %d, or 0 for %d", spec.batch, MOST_BATCH, DEFAULT_BATCH);
    s->model = m;
    m->users++;
    s->batch = spec.batch;
    s->values = (size_t)spec.h * (size_t)spec.w * (size_t)m->m->net.unet.in_channels;
    TRY(generator_create(m->m, &spec, &s->g, e));
    return generator_allocate(s->g, e);
}

static ddpm_status new_sampler(ddpm_model *m, const ddpm_sampler_options *o, ddpm_sampler **out)
{
    ddpm_sampler *s;
    TRY(mem_array(&s, 1, sizeof *s, "sampler", &m->ctx->last));
    const ddpm_status st = create_sampler(m, o, s, &m->ctx->last);
    if (st != DDPM_OK) {
        ddpm_sampler_destroy(s);
        return st;
    }
    *out = s;
    return DDPM_OK;
}

ddpm_status ddpm_sampler_create(ddpm_model *m, const ddpm_sampler_options *options, ddpm_sampler **sampler)
{
    const ddpm_sampler_options all_0 = {.struct_size = sizeof all_0};
    const ddpm_sampler_options *o = options ? options : &all_0;
    if (sampler) *sampler = NULL;
    if (!m) return DDPM_EINVAL;
    if (!sampler) return err_set(&m->ctx->last, DDPM_EINVAL, "sampler is NULL");
    if (o->struct_size != sizeof *o)
        return err_set(&m->ctx->last, DDPM_EINVAL,
                       "struct_size is %zu, but ddpm_sampler_options of this library has %zu bytes", o->struct_size,
                       sizeof *o);
    const locale_t caller = enter();
    return leave(caller, new_sampler(m, o, sampler));
}

void ddpm_sampler_destroy(ddpm_sampler *s)
{
    if (!s) return;
    generator_destroy(s->g);
    ddpm_model_destroy(s->model);
    mem_free(s);
}

static ddpm_status run_sampler(ddpm_sampler *s, int n, const int64_t *ids, float *images)
{
    err *e = &s->model->ctx->last;
    for (int at = 0, some; at < n; at += some) {
        some = n - at < s->batch ? n - at : s->batch;
        TRY(generator_run(s->g, &(generator_batch){.n = some, .ids = ids + at}, images + (size_t)at * s->values, e));
    }
    return DDPM_OK;
}

ddpm_status ddpm_sampler_run(ddpm_sampler *s, int n, const int64_t *ids, float *images)
{
    if (!s) return DDPM_EINVAL;
    err *e = &s->model->ctx->last;
    if (n < 1 || !ids || !images)
        return err_set(e, DDPM_EINVAL, "sample: n = %d must be at least 1, and ids, images must not be NULL", n);
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] > UINT32_MAX)
            return err_set(e, DDPM_EINVAL, "sample: ids[%d] = %lld is not in [0, 2^32)", i, (long long)ids[i]);
    const locale_t caller = enter();
    return leave(caller, run_sampler(s, n, ids, images));
}

/* ---- training ---- */

typedef struct watcher {
    ddpm_step_function *step; /* called in the caller's locale */
    void *user;
    locale_t caller;
    ddpm_wish request;
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
    const locale_t ours = uselocale(w->caller);
    w->request = w->step ? w->step(w->user, &progress) : DDPM_GO_ON;
    (void)uselocale(ours);
}

static run_request take_request(void *context)
{
    watcher *w = context;
    const bool stop = w->request == DDPM_STOP, one_save = w->request == DDPM_SAVE;
    if (one_save) w->request = DDPM_GO_ON;
    return stop ? RUN_STOP : one_save ? RUN_SAVE : RUN_CONTINUE;
}

static ddpm_status read_settings(ddpm_config *config, int n, const char *const *settings, err *e)
{
    if (n < 0) return err_set(e, DDPM_EINVAL, "train: n = %d settings; must not be negative", n);
    config_defaults(config);
    for (int i = 0; i < n; i++) {
        if (!settings || !settings[i]) return err_set(e, DDPM_EINVAL, "train: settings[%d] is NULL", i);
        TRY(config_is_assignment(settings[i]) ? config_assign(config, NULL, settings[i], e)
                                              : config_read_file(config, settings[i], e));
    }
    return config_check(config, e);
}

/* Device and threads default to those of the context; the options are set, so that the run's config.yaml has them. */
static ddpm_status take_device(ddpm_config *config, const ddpm_ctx *ctx, err *e)
{
    const config_place unsaid = {.source = CONFIG_DEFAULT};
    char threads[16];
    (void)snprintf(threads, sizeof threads, "%d", ctx->threads);
    TRY(config_set(config, OPTION_device, &unsaid, ctx->device, e));
    return config_set(config, OPTION_threads, &unsaid, threads, e);
}

static ddpm_status train(ddpm_ctx *ctx, int n, const char *const *settings, watcher *w)
{
    const run_hooks hooks = {.context = w, .step = watch_step, .request = take_request};
    ddpm_config *config = NULL;
    backend *be = NULL; /* not the context's: the settings decide device, precision and autotune cache */
    backend_spec spec;
    autotune_files files;
    err *e = &ctx->last;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&config, 1, sizeof *config, "options", e));
    TRY_GOTO(read_settings(config, n, settings, e));
    TRY_GOTO(take_device(config, ctx, e));
    TRY_GOTO(recipe_backend(config, config->out, &files, &spec, e));
    TRY_GOTO(self_test_open(&spec, &be, e));
    TRY_GOTO(run_train(be, config, &hooks, e));
done:
    backend_destroy(be);
    mem_free(config);
    return st;
}

ddpm_status ddpm_train(ddpm_ctx *ctx, int n, const char *const *settings, ddpm_step_function *on_step, void *user)
{
    TRY(check_ctx(ctx));
    watcher w = {.step = on_step, .user = user, .caller = enter()};
    return leave(w.caller, train(ctx, n, settings, &w));
}
