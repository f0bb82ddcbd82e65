/* ddpm.c - the public interface (ddpm.h), a thin layer over the modules. */
#include "api/api.h"
#include "base/mem.h"
#include "train/self_test.h"
#include "train/training_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int ddpm_abi_version(void) { return DDPM_ABI_VERSION; }
const char *ddpm_version(void) { return DDPM_VERSION; }
const char *ddpm_status_text(ddpm_status status) { return err_meaning(status); }

/* ---- the caller's locale ---- */

locale_t api_enter(void)
{
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return uselocale(c); /* if newlocale() failed, c is 0 and the locale stays unchanged */
}

ddpm_status api_leave(locale_t caller, ddpm_status st)
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
    const locale_t caller = api_enter();
    return api_leave(caller, create_context(*ctx, device));
}

void ddpm_ctx_destroy(ddpm_ctx *ctx)
{
    if (!ctx || --ctx->users > 0) return;
    const locale_t caller = api_enter();
    backend_destroy(ctx->be);
    mem_free(ctx);
    (void)api_leave(caller, DDPM_OK);
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
    const locale_t caller = api_enter();
    return api_leave(caller, load_model(ctx, pipeline_dir, out));
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
    m->labels = unet_config_classes(&m->m->net.unet) ? plan_input(m->p, DTYPE_I64, "labels", n, 1, 1, 1) : NULL;
    m->net = network_build(&m->m->net, m->p, &(network_inputs){.x = m->x, .t = m->t, .labels = m->labels});
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

static ddpm_status write_labels(ddpm_model *m, int n, const int *labels, err *e)
{
    const int classes = unet_config_classes(&m->m->net.unet);
    int64_t *wide;
    if (!m->labels) return DDPM_OK;
    TRY(mem_array(&wide, (size_t)n, sizeof *wide, "labels", e));
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < n; i++) {
        wide[i] = labels ? labels[i] : -1;
        if (wide[i] < -1 || wide[i] >= classes)
            TRY_GOTO(err_set(e, DDPM_EINVAL, "predict: labels[%d] = %d is not in [0, %d), and not -1", i, labels[i],
                             classes));
    }
    TRY_GOTO(plan_write(m->p, m->labels, wide, e));
done:
    mem_free(wide);
    return st;
}

static ddpm_status predict(ddpm_model *m, int n, const float *x, const float *t, const int *labels, float *out)
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
    TRY(write_labels(m, n, labels, e));
    TRY(params_refresh(m->m->store, ARENA_PARAM, e));
    TRY(plan_run(m->p, e));
    TRY(plan_read(m->p, m->net.y, out, e));
    return check_output(m, out, e);
}

ddpm_status ddpm_model_predict_labels(ddpm_model *m, int n, const float *x, const float *t, const int *labels,
                                      float *out)
{
    if (!m) return DDPM_EINVAL;
    if (n < 1 || !x || !t || !out)
        return err_set(&m->ctx->last, DDPM_EINVAL, "predict: n = %d must be at least 1, and x, t, out must not be NULL",
                       n);
    if (labels && unet_config_classes(&m->m->net.unet) == 0)
        return err_set(&m->ctx->last, DDPM_EINVAL, "predict: the network has no classes; labels must be NULL");
    const locale_t caller = api_enter();
    return api_leave(caller, predict(m, n, x, t, labels, out));
}

ddpm_status ddpm_model_predict(ddpm_model *m, int n, const float *x, const float *t, float *out)
{
    return ddpm_model_predict_labels(m, n, x, t, NULL, out);
}

int ddpm_model_classes(const ddpm_model *m) { return m ? unet_config_classes(&m->m->net.unet) : 0; }

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
    config_settle(config);
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
    watcher w = {.step = on_step, .user = user, .caller = api_enter()};
    return api_leave(w.caller, train(ctx, n, settings, &w));
}
