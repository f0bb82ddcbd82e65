/* cmd_eval.c - ddpm eval: bits per dimension of a data set under a model (eval/bits_per_dim.h). */
#include "cli/about.h"
#include "cli/cli.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/threads.h"
#include "eval/bits_per_dim.h"
#include "io/json_out.h"
#include "train/checkpoint_averages.h"
#include "train/recipe.h"
#include "train/recipe_words.h"
#include "train/self_test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANGES = 8 }; /* of timesteps, in the table */

typedef struct job {
    const ddpm_config *config;
    const char *path;    /* of the model, as given */
    char root[PATH_CAP]; /* the pipeline that was found there */
    bool quiet;          /* standard output is for the JSON text */
    backend *be;
    model *m;
    dataset *data;
    bits_spec spec;
    bits_per_dim *bits;
    bits_result result;
    progress bar;
    double seconds;
} job;

static bool is_stdout(const job *j)
{
    return config_word_of(OPTION_eval_json, j->config->eval.json) == EVAL_JSON_STDOUT;
}

static void say(const job *j, const char *what, const char *text)
{
    if (!j->quiet && text && text[0]) printf("%s: %s\n", what, text);
}

/* ---- the model ---- */

static ddpm_status load_model(job *j, err *e)
{
    char weights[PATH_CAP];
    notes remarks = {.text = ""};
    pipeline p;
    TRY(pipeline_find(j->path, &p, &remarks, e));
    strcpy(j->root, p.root);
    if (!strcmp(p.root, j->path)) remarks.text[0] = '\0'; /* loading repeats these remarks */
    TRY(averages_find(p.root, j->config->eval.weights, weights, e));
    TRY(model_load(j->be, p.root, &j->m, &remarks, e));
    if (weights[0]) TRY(params_load(j->m->store, ARENA_PARAM, weights, NULL, e));
    say(j, j->path, remarks.text);
    return DDPM_OK;
}

/* ---- the images ---- */

/* Is data.path set here, and its kind only in the run's configuration, or not at all? */
static bool names_data(const ddpm_config *c)
{
    return c->origin[OPTION_data_path].source == CONFIG_ARGUMENT &&
           c->origin[OPTION_data_kind].source != CONFIG_ARGUMENT;
}

/* Of the size that the network is for, where the options do not say another. */
static ddpm_status open_data(job *j, err *e)
{
    const ddpm_config *c = j->config;
    dataset_spec spec = recipe_dataset(c);
    if (names_data(c)) spec.kind = DATASET_AUTO;
    if (spec.kind != DATASET_DIGITS && !c->data.path[0])
        return err_set(
            e, DDPM_EINVAL,
            "%.300s: no config.yaml there names the images of its training; set data.path, or data.kind=digits",
            j->path);
    const unet_config *u = &j->m->net.unet;
    const int classes = unet_config_classes(u), channels = u->in_channels;
    int h, w;
    model_image_size(j->m, &h, &w);
    if (spec.resolution == 0 && h == w) spec.resolution = h;
    if (spec.channels == 0 && (channels == 1 || channels == 3)) spec.channels = channels;
    if (c->eval.count > 0 && (spec.count == 0 || c->eval.count < spec.count)) spec.count = c->eval.count;
    TRY(dataset_open(&spec, &j->data, e));
    for (int i = 0; dataset_remarked(j->data, i); i++) say(j, "data", dataset_remarked(j->data, i));
    if (dataset_h(j->data) != h || dataset_w(j->data) != w || dataset_c(j->data) != channels)
        return err_set(e, DDPM_EINVAL,
                       "the images are %dx%dx%d, but the network is for %dx%dx%d; leave data.resolution and "
                       "data.channels out, or set those",
                       dataset_w(j->data), dataset_h(j->data), dataset_c(j->data), w, h, channels);
    if (classes > 0 && dataset_classes(j->data) == 0)
        return err_set(e, DDPM_EINVAL,
                       "the network has %d classes, but the images have no labels; use data with labels (data.labels)",
                       classes);
    if (classes > 0 && dataset_classes(j->data) > classes)
        return err_set(e, DDPM_EINVAL, "the images have %d classes, but the network only %d", dataset_classes(j->data),
                       classes);
    return DDPM_OK;
}

static ddpm_status read_image(void *context, int64_t index, uint8_t *pixels, int64_t *label, err *e)
{
    const job *j = context;
    *label = dataset_label(j->data, index);
    return dataset_read(j->data, index, pixels, e);
}

static void tick(void *context, int64_t evaluations, int64_t images)
{
    job *j = context;
    const double now = clock_seconds(), per_image = bits_steps(j->bits);
    if (!progress_step(&j->bar, now, evaluations)) return;
    const double rate = progress_rate_get(&j->bar.rate);
    progress_line line = progress_unknown;
    line.noun = "image";
    line.done = images;
    line.total = dataset_count(j->data);
    if (rate > 0) {
        line.images_per_second = rate / per_image;
        line.seconds_left = ((double)line.total * per_image - (double)evaluations) / rate;
    }
    progress_show(&j->bar, now, line);
}

/* ---- the results ---- */

typedef struct range {
    int first, last; /* timesteps */
    double vb, x0_mse, eps_mse;
} range;

/* Steps [n i / RANGES, n (i + 1) / RANGES) of the chain: the sum of their bounds, and their mean errors. */
static int ranges_of(const bits_result *r, range to[RANGES])
{
    const int n = r->steps < RANGES ? r->steps : RANGES;
    for (int i = 0; i < n; i++) {
        const int from = (int)((int64_t)r->steps * i / n), end = (int)((int64_t)r->steps * (i + 1) / n);
        to[i] = (range){.first = r->step[from].t, .last = r->step[end - 1].t};
        for (int k = from; k < end; k++) {
            to[i].vb += r->step[k].vb;
            to[i].x0_mse += r->step[k].x0_mse / (end - from);
            to[i].eps_mse += r->step[k].eps_mse / (end - from);
        }
    }
    return n;
}

static void print_result(const job *j)
{
    const bits_result *r = &j->result;
    range ranges[RANGES];
    if (j->quiet) return;
    printf("%s: %lld image%s of %dx%dx%d, %d timesteps, variance_type %s, clip_denoised %s\n", j->root,
           (long long)r->images, r->images == 1 ? "" : "s", dataset_w(j->data), dataset_h(j->data), dataset_c(j->data),
           r->steps, scheduler_variance_name(j->spec.variance), j->spec.clip ? "true" : "false");
    if (r->images > 1)
        printf("bits/dim  %10.4f  +- %.4f (standard error over the images)\n", r->total, r->deviation);
    else
        printf("bits/dim  %10.4f\n", r->total);
    printf("  prior   %10.4f\n  decoder %10.4f\n", r->prior, r->step[0].vb);
    printf("  timesteps      bits/dim    x0 mse   eps mse\n");
    const int n = ranges_of(r, ranges);
    for (int i = 0; i < n; i++)
        printf("  %4d - %-6d %10.4f %9.3g %9.3g\n", ranges[i].first, ranges[i].last, ranges[i].vb, ranges[i].x0_mse,
               ranges[i].eps_mse);
}

static void put_steps(json_out *o, const bits_result *r)
{
    static const char *const keys[] = {"timestep", "vb", "x0_mse", "eps_mse"};
    for (int column = 0; column < 4; column++) {
        json_out_open(o, keys[column], '[');
        for (int k = 0; k < r->steps; k++) {
            const bits_step *s = &r->step[k];
            if (column == 0) json_out_int(o, NULL, s->t);
            if (column == 1) json_out_real(o, NULL, s->vb);
            if (column == 2) json_out_real(o, NULL, s->x0_mse);
            if (column == 3) json_out_real(o, NULL, s->eps_mse);
        }
        json_out_close(o, ']');
    }
}

/* What the result depends on, and where it was computed. */
static ddpm_status put_origin(const job *j, json_out *o, err *e)
{
    char device[400], date[40], hash[20];
    const time_t now = time(NULL);
    struct tm parts;
    uint64_t pixels;
    TRY(dataset_hash(j->data, &pixels, e));
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, pixels);
    j->be->fn->describe(j->be, device, sizeof device);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
    json_out_text(o, "date", date);
    json_out_text(o, "version", DDPM_VERSION);
    json_out_text(o, "commit", about_commit());
    json_out_text(o, "device", device);
    json_out_text(o, "precision", recipe_precision(j->config, j->be));
    json_out_int(o, "threads", j->config->threads ? j->config->threads : threads_processors());
    json_out_real(o, "seconds", j->seconds);
    json_out_text(o, "model", j->root);
    json_out_text(o, "weights", j->config->eval.weights);
    json_out_text(o, "data", j->config->data.path);
    json_out_text(o, "data_kind", dataset_kind_name(j->data));
    json_out_text(o, "data_hash", hash);
    json_out_int(o, "images", j->result.images);
    json_out_int(o, "num_inference_steps", j->result.steps);
    json_out_int(o, "seed", j->config->eval.seed);
    json_out_text(o, "variance_type", scheduler_variance_name(j->spec.variance));
    json_out_bool(o, "clip_denoised", j->spec.clip);
    return DDPM_OK;
}

static ddpm_status write_json(const job *j, err *e)
{
    const bits_result *r = &j->result;
    const char *path = j->config->eval.json;
    char *text;
    size_t size;
    ddpm_status st = DDPM_OK;
    if (!path[0]) return DDPM_OK;
    json_out o = json_out_begin(false, e);
    json_out_open(&o, NULL, '{');
    json_out_text(&o, "evaluation", "bits_per_dim");
    json_out_real(&o, "bits_per_dim", r->total);
    if (r->images > 1)
        json_out_real(&o, "standard_error", r->deviation);
    else
        json_out_text(&o, "standard_error", NULL);
    json_out_real(&o, "prior", r->prior);
    json_out_real(&o, "decoder", r->step[0].vb);
    const ddpm_status origin = put_origin(j, &o, e);
    put_steps(&o, r);
    json_out_close(&o, '}');
    const ddpm_status finished = json_out_finish(&o, &text, &size);
    if (origin != DDPM_OK) st = origin;
    if (st == DDPM_OK) st = finished;
    if (st == DDPM_OK && is_stdout(j))
        (void)puts(text);
    else if (st == DDPM_OK)
        st = file_replace(path, text, size, e);
    free(text);
    return st;
}

static bool is_result(const char *path) { return output_is_json_of(path, "evaluation"); }

/* ---- the command ---- */

static ddpm_status prepare(const cli_args *args, job *j, err *e)
{
    const ddpm_config *c = j->config;
    backend_spec device;
    autotune_files files;
    if (c->eval.json[0] && !is_stdout(j))
        TRY(output_check(c->eval.json, "json", is_result, cli_may_overwrite(args), e));
    TRY(recipe_backend(c, NULL, &files, &device, e));
    TRY(self_test_open(&device, &j->be, e));
    say(j, "device", backend_take_remark(j->be));
    TRY(load_model(j, e));
    TRY(open_data(j, e));
    const int steps = c->eval.num_inference_steps ? c->eval.num_inference_steps : j->m->scheduler.num_train_timesteps;
    const int64_t evaluations = dataset_count(j->data) * steps; /* a larger batch would only take memory */
    j->spec = (bits_spec){.batch = evaluations < c->eval.batch ? (int)evaluations : c->eval.batch,
                          .steps = c->eval.num_inference_steps,
                          .seed = (uint64_t)c->eval.seed,
                          .variance = recipe_to_eval_variance(c->eval.variance_type, j->m->scheduler.variance_type),
                          .clip = c->eval.clip_denoised};
    return bits_create(j->m, &j->spec, &j->bits, e);
}

static ddpm_status evaluate(job *j, err *e)
{
    const double begin = clock_seconds();
    const bits_images images = {.count = dataset_count(j->data), .read = read_image, .tick = tick, .context = j};
    progress_begin(&j->bar, j->quiet ? NULL : stdout, j->config->log.seconds, 0, begin, 0);
    const ddpm_status st = bits_run(j->bits, &images, &j->result, e);
    progress_end(&j->bar);
    j->seconds = clock_seconds() - begin;
    return st;
}

ddpm_status cmd_eval(const cli_args *args, err *e)
{
    job *j;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&j, 1, sizeof *j, "evaluation", e));
    j->config = &args->config;
    j->path = args->argument[0];
    j->quiet = is_stdout(j) || output_is_stdout(args->config.eval.json);
    TRY_GOTO(prepare(args, j, e));
    TRY_GOTO(evaluate(j, e));
    print_result(j);
    TRY_GOTO(write_json(j, e));
done:
    mem_free(j->result.step);
    bits_destroy(j->bits);
    dataset_close(j->data);
    model_destroy(j->m);
    backend_destroy(j->be);
    mem_free(j);
    return st;
}
