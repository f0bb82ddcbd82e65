#include "bench/bench.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/process.h"
#include "train/trainer_fit.h"

#include <string.h>

/* ---- timing iterations within limits ---------------------------------------------------------------------- */

/* On a GPU several iterations are launched before waiting, as in a run. */
static int iterations_at_once(const backend *be) { return be->fn->host_memory ? 1 : 10; }

static ddpm_status warm_up(const bench_limits *limits, bench_iterations *iterations, void *context, err *e)
{
    const double begin = clock_seconds();
    double ms, wall_ms;
    for (int i = 0; i < limits->warmup; i++) {
        if (i > 0 && clock_seconds() - begin > limits->seconds / 4) break;
        TRY(iterations(context, 1, &ms, &wall_ms, e));
    }
    return DDPM_OK;
}

ddpm_status bench_measure(backend *be, const bench_limits *limits, bench_iterations *iterations, void *context,
                          timing *out, err *e)
{
    const int most = limits->rounds, least = most < BENCH_LEAST ? most : BENCH_LEAST;
    double *ms = NULL, wall_ms;
    int n = 0;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&ms, (size_t)most, sizeof *ms, "timings", e));
    TRY_GOTO(warm_up(limits, iterations, context, e));
    const double begin = clock_seconds();
    while (n < most && (n < least || clock_seconds() - begin < limits->seconds)) {
        const int some = iterations_at_once(be), now = most - n < some ? most - n : some;
        TRY_GOTO(iterations(context, now, ms + n, &wall_ms, e));
        n += now;
    }
    *out = timing_of(ms, n);
done:
    mem_free(ms);
    return st;
}

size_t bench_device_bytes(const backend *be, size_t before)
{
    const size_t now = be->fn->host_memory ? 0 : be->fn->memory_free(be);
    return before > now && now > 0 ? before - now : 0;
}

static size_t device_free(const backend *be) { return be->fn->host_memory ? 0 : be->fn->memory_free(be); }

/* ---- data -------------------------------------------------------------------------------------------- */

static ddpm_status shape_of_model(const char *folder, backend *be, image_shape *shape, err *e)
{
    model *m = NULL;
    notes remarks = {.text = ""};
    TRY(model_load(be, folder, &m, &remarks, e));
    model_image_size(m, &shape->h, &shape->w);
    shape->c = m->net.unet.in_channels;
    model_destroy(m);
    return DDPM_OK;
}

/* The shape of the images of a kind, if all images of this kind have the same shape. */
static bool shape_of_kind(config_data_kind kind, image_shape *shape)
{
    switch (kind) {
    case DATA_KIND_CIFAR10: *shape = (image_shape){32, 32, 3, 10}; return true;
    case DATA_KIND_DIGITS: /* our digits and MNIST's */
    case DATA_KIND_IDX: *shape = (image_shape){28, 28, 1, 10}; return true;
    case DATA_KIND_AUTO:
    case DATA_KIND_FOLDER: return false;
    }
    return false;
}

ddpm_status bench_shape(const ddpm_config *c, backend *be, image_shape *shape, err *e)
{
    const int side = c->data.resolution, channels = c->data.channels;
    image_shape stored = {.classes = -1};
    const bool known = shape_of_kind(c->data.kind, &stored);
    const int classes = stored.classes;
    if (!side || !channels) {
        if (c->model.init_from[0])
            TRY(shape_of_model(c->model.init_from, be, &stored, e));
        else if (!known)
            return err_set(e, DDPM_EINVAL,
                           "bench.data=synthetic: the shape of the images is unknown: set data.resolution and "
                           "data.channels, or bench.data=real");
    }
    *shape = (image_shape){side ? side : stored.h, side ? side : stored.w, channels ? channels : stored.c, classes};
    return DDPM_OK;
}

ddpm_status bench_data(const ddpm_config *c, backend *be, dataset **out, err *e)
{
    enum { SYNTHETIC = 1024 }; /* images */
    dataset_spec spec = recipe_dataset(c);
    image_shape shape = {0};
    *out = NULL;
    if (c->bench.data == BENCH_DATA_REAL) return dataset_open(&spec, out, e);
    TRY(bench_shape(c, be, &shape, e));
    spec.kind = DATASET_DIGITS;
    spec.path = "";
    spec.resolution = shape.h;
    spec.channels = shape.c;
    spec.count = c->data.count && c->data.count < SYNTHETIC ? c->data.count : SYNTHETIC;
    return dataset_open(&spec, out, e);
}

ddpm_status bench_loader_create(const ddpm_config *c, const dataset *data, bench_loader *out, err *e)
{
    const loader_spec spec = feed_loader(c, data, 0);
    *out = (bench_loader){.data = data, .batches = 4 * spec.prefetch};
    return loader_create(&spec, &out->loader, e);
}

void bench_loader_destroy(bench_loader *b) { loader_destroy(b->loader); }

ddpm_status bench_loader_iterations(void *context, int n, double *ms, double *wall_ms, err *e)
{
    bench_loader *b = context;
    const double begin = clock_seconds();
    for (int i = 0; i < n; i++) {
        const double from = clock_seconds();
        const uint8_t *images;
        for (int k = 0; k < b->batches; k++) TRY(loader_next(b->loader, &images, NULL, e));
        ms[i] = 1e3 * (clock_seconds() - from) / b->batches;
    }
    *wall_ms = 1e3 * (clock_seconds() - begin);
    return DDPM_OK;
}

/* ---- training ---------------------------------------------------------------------------------------- */

static ddpm_status open_trainer(bench_train *b, err *e)
{
    const image_shape shape = recipe_shape(b->data);
    notes remarks = {.text = ""};
    char file[PATH_CAP];
    TRY(recipe_model(b->config, b->be, shape, &b->m, &remarks, e));
    trainer_spec spec = recipe_trainer(b->config, shape, recipe_steps(b->config, dataset_count(b->data)));
    if (feed_wants_resident(b->be, b->config, b->data)) spec.resident = dataset_count(b->data);
    spec.ahead = feed_ahead(b->config, spec.resident > 0);
    TRY(trainer_create(b->m, &spec, &b->t, e));
    TRY(trainer_fit_check(b->m, &spec, trainer_needs(b->t), e));
    TRY(trainer_allocate(b->t, e));
    TRY(recipe_weights(b->config, b->m, file, &remarks, e));
    return feed_create(&(feed_spec){.config = b->config, .data = b->data, .trainer = b->t}, &b->f, e);
}

ddpm_status bench_train_create(const ddpm_config *c, backend *be, bench_train *out, err *e)
{
    bench_train *b = out;
    ddpm_status st = DDPM_OK;
    *b = (bench_train){.config = c, .be = be, .device_before = device_free(be)};
    TRY_GOTO(bench_data(c, be, &b->data, e));
    TRY_GOTO(open_trainer(b, e));
    TRY_GOTO(feed_step(b->f, e));
    TRY_GOTO(backend_wait(be, e));
    b->first_step_s = process_age_seconds();
    TRY_GOTO(trainer_state(b->t, &b->state, e));
done:
    if (st != DDPM_OK) bench_train_destroy(b);
    return st;
}

void bench_train_destroy(bench_train *b)
{
    feed_destroy(b->f);
    trainer_destroy(b->t);
    model_destroy(b->m);
    dataset_close(b->data);
    *b = (bench_train){.config = NULL};
}

static ddpm_status stamped_steps(bench_train *b, stamp *stamps, int n, double *ms, err *e)
{
    TRY(stamp_set(b->be, &stamps[0], e));
    for (int i = 0; i < n; i++) {
        TRY(feed_step(b->f, e));
        TRY(stamp_set(b->be, &stamps[i + 1], e));
    }
    TRY(backend_wait(b->be, e));
    for (int i = 0; i < n; i++) TRY(stamp_ms(b->be, &stamps[i], &stamps[i + 1], &ms[i], e));
    return DDPM_OK;
}

ddpm_status bench_train_iterations(void *context, int n, double *ms, double *wall_ms, err *e)
{
    bench_train *b = context;
    stamp *stamps;
    TRY(stamps_create(&stamps, n + 1, e));
    const double begin = clock_seconds();
    ddpm_status st = stamped_steps(b, stamps, n, ms, e);
    *wall_ms = 1e3 * (clock_seconds() - begin);
    stamps_destroy(b->be, stamps, n + 1);
    if (st == DDPM_OK) st = trainer_state(b->t, &b->state, e);
    return st;
}

/* Images and indices of the last step are still in the plan's inputs. */
ddpm_status bench_train_begin(void *context, err *e)
{
    return params_refresh(((bench_train *)context)->m->store, ARENA_PARAM, e);
}

/* ---- sampling ---------------------------------------------------------------------------------------- */

static ddpm_status open_model(const ddpm_config *c, const char *run, bench_sample *b, err *e)
{
    notes remarks = {.text = ""};
    image_shape shape = {0};
    char file[PATH_CAP];
    if (run) return model_load(b->be, run, &b->m, &remarks, e);
    TRY(bench_shape(c, b->be, &shape, e));
    TRY(recipe_model(c, b->be, shape, &b->m, &remarks, e));
    TRY(params_allocate(b->m->store, false, false, e));
    return recipe_weights(c, b->m, file, &remarks, e);
}

generator_batch bench_sample_batch(bench_sample *b, const int64_t *ids, int n)
{
    const bool labelled = b->labels.classes > 0;
    for (int i = 0; i < n && labelled; i++) b->label[i] = label_of(&b->labels, ids[i]);
    return (generator_batch){.n = n, .ids = ids, .labels = labelled ? b->label : NULL};
}

ddpm_status bench_sample_create(const ddpm_config *c, const char *run, backend *be, bench_sample *out, err *e)
{
    bench_sample *b = out;
    ddpm_status st = DDPM_OK;
    *b = (bench_sample){.be = be, .device_before = device_free(be)};
    TRY_GOTO(open_model(c, run, b, e));
    generator_spec spec = recipe_generator(c, b->m, ARENA_PARAM);
    spec.batch = b->batch = c->sample.batch; /* time full batches, whatever sample.count is */
    const size_t values = (size_t)spec.h * (size_t)spec.w * (size_t)b->m->net.unet.in_channels;
    TRY_GOTO(generator_create(b->m, &spec, &b->g, e));
    TRY_GOTO(generator_allocate(b->g, e));
    TRY_GOTO(mem_array(&b->ids, (size_t)b->batch, sizeof *b->ids, "ids", e));
    for (int i = 0; i < b->batch; i++) b->ids[i] = i;
    TRY_GOTO(picture_labels(c->sample.labels, b->m, &spec.guidance, &b->labels, e));
    TRY_GOTO(mem_array(&b->label, (size_t)b->batch, sizeof *b->label, "labels", e));
    TRY_GOTO(mem_array(&b->x, (size_t)b->batch * values, sizeof *b->x, "images", e));
done:
    if (st != DDPM_OK) bench_sample_destroy(b);
    return st;
}

void bench_sample_destroy(bench_sample *b)
{
    generator_destroy(b->g);
    model_destroy(b->m);
    mem_free(b->ids);
    mem_free(b->label);
    label_list_free(&b->labels);
    mem_free(b->x);
    *b = (bench_sample){.be = NULL};
}

ddpm_status bench_sample_iterations(void *context, int n, double *ms, double *wall_ms, err *e)
{
    bench_sample *b = context;
    const generator_batch batch = bench_sample_batch(b, b->ids, b->batch);
    const double begin = clock_seconds();
    for (int i = 0; i < n; i++) {
        const double from = clock_seconds();
        TRY(generator_run(b->g, &batch, b->x, e)); /* ends with a download, so the clock measures it */
        ms[i] = 1e3 * (clock_seconds() - from) / generator_steps(b->g);
    }
    *wall_ms = 1e3 * (clock_seconds() - begin);
    return DDPM_OK;
}

/* Times the steps of a sampling loop by its tick function. */
typedef struct watch {
    backend *be;
    const bench_limits *limits;
    double begin, last; /* clock at the start of the warm-up, then of the measurement; clock at the last tick */
    int seen, done;     /* evaluations in all; evaluations of this loop at the last tick */
    bool measuring;
    double *ms; /* [limits->rounds]  per evaluation */
    int n;
    ddpm_status st;
    err why;
} watch;

static bool is_over(const watch *w, double now)
{
    return w->n == w->limits->rounds || (w->n >= BENCH_LEAST && now - w->begin > w->limits->seconds);
}

static bool watch_tick(void *context, int done, int total)
{
    watch *w = context;
    w->st = backend_wait(w->be, &w->why);
    if (w->st != DDPM_OK) return true;
    const double now = clock_seconds(), each = 1e3 * (now - w->last) / (done - w->done);
    if (w->measuring) {
        for (int i = w->done; i < done && w->n < w->limits->rounds; i++) w->ms[w->n++] = each;
    } else {
        w->seen += done - w->done;
        w->measuring = w->seen >= w->limits->warmup || now - w->begin > w->limits->seconds / 4;
        if (w->measuring) w->begin = now;
    }
    w->done = done, w->last = now;
    return is_over(w, now);
}

/* A loop with too few steps is repeated. */
ddpm_status bench_sample_evaluations(bench_sample *b, const bench_limits *limits, timing *out, err *e)
{
    watch w = {.be = b->be, .limits = limits, .begin = clock_seconds()};
    const generator_batch batch = bench_sample_batch(b, b->ids, b->batch);
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&w.ms, (size_t)limits->rounds, sizeof *w.ms, "timings", e));
    generator_watch(b->g, watch_tick, &w);
    do {
        w.done = 0, w.last = clock_seconds();
        st = generator_run(b->g, &batch, b->x, e);
    } while (st == DDPM_OK && !is_over(&w, clock_seconds()));
    generator_watch(b->g, NULL, NULL);
    if (w.st != DDPM_OK)
        st = err_set(e, w.st, "%s", w.why.text);
    else if (st == DDPM_ESAVED) /* stopped by watch_tick() */
        st = DDPM_OK;
    *out = timing_of(w.ms, w.n);
    mem_free(w.ms);
    return st;
}

ddpm_status bench_sample_begin(void *context, err *e)
{
    bench_sample *b = context;
    const generator_batch batch = bench_sample_batch(b, b->ids, b->batch);
    return generator_begin(b->g, &batch, e);
}
