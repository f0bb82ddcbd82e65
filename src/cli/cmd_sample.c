/* cmd_sample.c - ddpm sample: sampling pictures from a model, one file each, and an overview.
 *
 * Every picture is written to a temporary file and renamed, so that existing files are complete; a separate
 * thread does this while the next batch is computed.  Repeating an interrupted command continues it
 * (sample_folder.h). */
#include "cli/cli.h"
#include "base/arith.h"
#include "cli/interrupt.h"
#include "cli/picture_writer.h"
#include "cli/progress.h"
#include "cli/sample_folder.h"
#include "base/clock.h"
#include "base/mem.h"
#include "data/image.h"
#include "io/json_out.h"
#include "train/recipe.h"
#include "train/self_test.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

enum { FORMAT = 2 }; /* of sampling.json; incremented when the same description yields other pixels */

typedef struct job {
    const ddpm_config *config;
    sample_folder folder;
    backend *be;
    model *m;
    generator *g;
    int h, w, c, batch;
    int64_t next;    /* pictures with smaller ids are done or sampled */
    int64_t n_todo;  /* pictures missing at the start */
    int64_t drawn;   /* pictures of n_todo that were passed to the writer */
    int64_t *ids;    /* [batch] */
    uint8_t *pixels; /* [batch, h, w, c] */
    picture_writer *writer;
    progress bar;
    int tiles; /* on the overview */
} job;

/* ---- description of the pictures ---- */

/* A hash of the weights, which identifies the model: a run that was trained further is another model. */
static ddpm_status hash_weights(const model *m, char out[20], err *e)
{
    float *host, *copy;
    const ddpm_status st = params_view(m->store, ARENA_PARAM, &host, &copy, e);
    if (st == DDPM_OK)
        (void)snprintf(out, 20, "%016" PRIx64, (uint64_t)XXH3_64bits(host, m->store->count * sizeof *host));
    mem_free(copy);
    return st;
}

static void describe_scheduler(json_out *o, const scheduler_config *s)
{
    json_out_text(o, "timestep_spacing", scheduler_spacing_name(s->timestep_spacing));
    json_out_int(o, "steps_offset", s->steps_offset);
    json_out_text(o, "variance_type", scheduler_variance_name(s->variance_type));
    json_out_bool(o, "clip_sample", s->clip_sample);
    json_out_real(o, "clip_sample_range", s->clip_sample_range);
    json_out_text(o, "prediction_type", scheduler_prediction_name(s->prediction_type));
    json_out_int(o, "num_train_timesteps", s->num_train_timesteps);
    json_out_text(o, "beta_schedule", scheduler_betas_name(s->beta_schedule));
    json_out_real(o, "beta_start", s->beta_start);
    json_out_real(o, "beta_end", s->beta_end);
    json_out_text(o, "scheduler", scheduler_class_name(s->type));
}

static void describe_levels(json_out *o, const unet_config *u)
{
    json_out_open(o, "block_out_channels", '[');
    for (int i = 0; i < u->n_block; i++) json_out_int(o, NULL, u->block[i].out_channels);
    json_out_close(o, ']');
    json_out_open(o, "down_attention", '[');
    for (int i = 0; i < u->n_block; i++) json_out_bool(o, NULL, u->block[i].down == UNET_ATTN_DOWN);
    json_out_close(o, ']');
    json_out_open(o, "up_attention", '[');
    for (int i = 0; i < u->n_block; i++) json_out_bool(o, NULL, u->block[i].up == UNET_ATTN_UP);
    json_out_close(o, ']');
}

/* The network options that affect sampling; dropout, for instance, does not. */
static void describe_network(json_out *o, const network *net)
{
    const unet_config *u = &net->unet;
    json_out_open(o, "network", '{');
    json_out_text(o, "kind", net->kind == NETWORK_SIMPLE ? "simple" : "unet");
    if (net->kind == NETWORK_UNET) {
        describe_levels(o, u);
        json_out_int(o, "layers_per_block", u->layers_per_block);
        json_out_int(o, "attention_head_dim", u->attention_head_dim);
        json_out_int(o, "norm_num_groups", u->norm_num_groups);
        json_out_int(o, "attn_norm_num_groups", u->attn_norm_num_groups);
        json_out_real(o, "norm_eps", u->norm_eps);
        json_out_int(o, "downsample_padding", u->downsample_padding);
        json_out_bool(o, "flip_sin_to_cos", u->flip_sin_to_cos);
        json_out_real(o, "freq_shift", u->freq_shift);
        json_out_bool(o, "mid_block", u->mid_block);
        json_out_bool(o, "add_attention", u->add_attention);
        json_out_bool(o, "scale_shift", u->time_scale_shift == UNET_SHIFT_SCALE);
        json_out_bool(o, "center_input_sample", u->center_input_sample);
    }
    json_out_close(o, '}');
}

/* Describe everything that decides the pixels: not the batch, nor the count, nor the number of threads (with which
 * oneDNN 3 may change a last bit).  The most common options come first, because an error message names the first
 * differences. */
static ddpm_status describe(const job *j, const generator_spec *s, char **text, size_t *size, err *e)
{
    char weights[20];
    TRY(hash_weights(j->m, weights, e));
    json_out o = json_out_begin(false, e);
    json_out_open(&o, NULL, '{');
    json_out_int(&o, "format", FORMAT);
    json_out_int(&o, "seed", (int64_t)s->seed);
    json_out_text(&o, "weights", weights);
    json_out_int(&o, "num_inference_steps", generator_steps(j->g));
    describe_scheduler(&o, &s->scheduler);
    json_out_int(&o, "height", j->h);
    json_out_int(&o, "width", j->w);
    json_out_int(&o, "channels", j->c);
    json_out_text(&o, "backend", j->be->fn->name);
    json_out_text(&o, "precision", recipe_precision(j->config, j->be));
    describe_network(&o, &j->m->net);
    json_out_close(&o, '}');
    return json_out_finish(&o, text, size);
}

/* ---- drawing ---- */

/* Abort the current batch if a stop is requested or the writer has failed. */
static bool tick(void *context, int done, int total)
{
    job *j = context;
    const int64_t batches = ceil_div(j->n_todo, j->batch), all = j->drawn / j->batch * total + done;
    const double now = clock_seconds();
    if (progress_step(&j->bar, now, all)) {
        progress_line line = progress_unknown;
        line.done = all;
        line.total = batches * total;
        progress_show(&j->bar, now, line);
    }
    return interrupt_stop() != 0 || picture_writer_status(j->writer) != DDPM_OK;
}

/* Choose the ids of the next batch; returns their number, 0: all are sampled. */
static int next_batch(job *j)
{
    int n = 0;
    for (; n < j->batch && j->next < j->config->sample.count; j->next++)
        if (!sample_folder_has(&j->folder, j->next)) j->ids[n++] = j->next;
    return n;
}

static ddpm_status draw_batches(job *j, err *e)
{
    for (int n; (n = next_batch(j)) > 0; j->drawn += n) {
        TRY(generator_run_bytes(j->g, &(generator_batch){.n = n, .ids = j->ids}, j->pixels, e));
        TRY(picture_writer_push(j->writer, j->ids, n, j->pixels, e));
    }
    return DDPM_OK;
}

/* On return everything sampled is written, unless writing failed. */
static ddpm_status draw_all(job *j, err *e)
{
    err unwritten = {0};
    generator_watch(j->g, tick, j);
    progress_begin(&j->bar, stdout, j->config->log.seconds, 0, clock_seconds(), 0);
    const ddpm_status st = draw_batches(j, e);
    const ddpm_status written = picture_writer_finish(j->writer, &unwritten);
    if (st != DDPM_OK && st != DDPM_ESAVED) return st;
    if (written != DDPM_OK) return err_set(e, written, "%s", unwritten.text);
    if (st == DDPM_OK) return DDPM_OK;
    return err_set(e, DDPM_ESAVED, "stopped: %lld pictures are left; the same command continues with them",
                   (long long)(j->n_todo - j->drawn));
}

/* Write the overview: as many of the first pictures as fit. */
static ddpm_status write_grid(job *j, err *e)
{
    const int shape[3] = {j->h, j->w, j->c};
    const int n = j->config->sample.count < OVERVIEW_MAX ? j->config->sample.count : OVERVIEW_MAX;
    const size_t d = (size_t)j->h * (size_t)j->w * (size_t)j->c;
    int columns = j->config->sample.grid;
    char path[PATH_CAP];
    uint8_t *tiles = NULL;
    image grid = {0};
    ddpm_status st = DDPM_OK;
    j->tiles = image_grid_tiles(n, shape, &columns);
    if (j->tiles == 0) return DDPM_OK;
    TRY_GOTO(mem_array(&tiles, (size_t)j->tiles, d, "overview", e));
    for (int i = 0; i < j->tiles; i++) {
        image one = {0};
        TRY_GOTO(picture_path(j->folder.path, i, path, e));
        TRY_GOTO(image_load(path, &one, e));
        if (one.h == j->h && one.w == j->w && one.c == j->c) memcpy(tiles + (size_t)i * d, one.pixel, d);
        image_free(&one);
    }
    TRY_GOTO(image_grid(tiles, j->tiles, shape, columns, &grid, e));
    TRY_GOTO(path_join(path, j->folder.path, "grid.png", e));
    TRY_GOTO(image_write_png(path, &grid, e));
done:
    mem_free(tiles);
    image_free(&grid);
    return st;
}

/* ---- setting up ---- */

/* Load a checkpoint's raw weights, which are in training/; a run without EMA has only raw weights. */
static ddpm_status load_raw_weights(job *j, const char *checkpoint, err *e)
{
    char raw[PATH_CAP], state[PATH_CAP];
    TRY(path_join(raw, checkpoint, "training/weights.safetensors", e));
    TRY(path_join(state, checkpoint, "training/state.json", e));
    if (path_exists(raw)) return params_load(j->m->store, ARENA_PARAM, raw, NULL, e);
    if (path_exists(state)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "%s: no training/weights.safetensors in this folder; use weights=ema", checkpoint);
}

static ddpm_status load_from(const char *folder, job *j, notes *remarks, err *e)
{
    TRY(model_load(j->be, folder, &j->m, remarks, e));
    return j->config->sample.weights != SAMPLE_WEIGHTS_RAW ? DDPM_OK : load_raw_weights(j, folder, e);
}

/* Load everything from one checkpoint; retry with a newer one if the run, still training, removed it meanwhile. */
static ddpm_status load_model(const char *path, job *j, err *e)
{
    enum { TRIES = 20 };
    ddpm_status st = DDPM_OK;
    pipeline p;
    for (int i = 0; i < TRIES; i++) {
        notes remarks = {.text = ""};
        TRY(pipeline_find(path, &p, &remarks, e));
        if (!strcmp(p.root, path)) remarks.text[0] = '\0'; /* loading repeats these remarks */
        st = load_from(p.root, j, &remarks, e);
        if (st == DDPM_OK && remarks.text[0]) printf("%s: %s\n", path, remarks.text);
        if (st == DDPM_OK || path_exists(p.root)) break;
        model_destroy(j->m);
        j->m = NULL;
    }
    return st;
}

static ddpm_status open_folder(const cli_args *args, job *j, const generator_spec *s, err *e)
{
    sample_folder_spec spec = {.path = j->config->sample.out, .h = j->h, .w = j->w, .c = j->c};
    char out[PATH_CAP], *description;
    size_t size;
    if (!spec.path[0]) TRY(sample_folder_default(args->argument[0], out, e));
    if (!spec.path[0]) spec.path = out;
    spec.count = j->config->sample.count;
    spec.overwrite = cli_may_overwrite(args);
    TRY(describe(j, s, &description, &size, e));
    TRY(sample_folder_open(&j->folder, &spec, description, size, e));
    j->n_todo = j->config->sample.count - j->folder.n_done;
    return DDPM_OK;
}

/* Everything that can fail is done before any existing picture is changed. */
static void print_remark(backend *be)
{
    const char *remark = backend_take_remark(be);
    if (remark) printf("device: %s\n", remark);
}

static ddpm_status prepare(const cli_args *args, job *j, err *e)
{
    backend_spec device;
    autotune_files files;
    TRY(interrupt_install(e));
    interrupt_at_once(true); /* planning and autotuning may take long */
    TRY(recipe_backend(&args->config, NULL, &files, &device, e));
    TRY(self_test_open(&device, &j->be, e));
    print_remark(j->be);
    TRY(load_model(args->argument[0], j, e));
    const generator_spec spec = recipe_generator(j->config, j->m, ARENA_PARAM);
    j->h = spec.h, j->w = spec.w, j->c = j->m->net.unet.in_channels, j->batch = spec.batch;
    TRY(generator_create(j->m, &spec, &j->g, e));
    TRY(open_folder(args, j, &spec, e));
    if (j->n_todo) TRY(generator_allocate(j->g, e));
    print_remark(j->be); /* of autotuning */
    const picture_writer_spec writing = {.folder = j->folder.path, .batch = j->batch, .h = j->h, .w = j->w, .c = j->c};
    TRY(picture_writer_create(&writing, &j->writer, e));
    TRY(mem_array(&j->ids, (size_t)j->batch, sizeof *j->ids, "pictures", e));
    TRY(mem_array(&j->pixels, (size_t)j->batch * (size_t)j->h * (size_t)j->w, (size_t)j->c, "pictures", e));
    interrupt_at_once(false);
    return sample_folder_begin(&j->folder, e);
}

static void say_done(const job *j)
{
    const int count = j->config->sample.count;
    printf("%s: %d pictures (%lld new)", j->folder.path, count, (long long)j->n_todo);
    if (j->tiles == 0)
        printf("; they are too large for an overview\n");
    else if (j->tiles < count && j->tiles < OVERVIEW_MAX)
        printf(" and grid.png, which shows the first %d\n", j->tiles);
    else
        printf(" and grid.png\n");
}

ddpm_status cmd_sample(const cli_args *args, err *e)
{
    job j = {.config = &args->config, .folder = {.lock = FOLDER_LOCK_NONE}};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(prepare(args, &j, e));
    TRY_GOTO(draw_all(&j, e));
    TRY_GOTO(write_grid(&j, e));
    TRY_GOTO(dir_sync_all(j.folder.path, e)); /* pictures are not fsynced individually */
    if (j.bar.out) progress_end(&j.bar);
    say_done(&j);
done:
    if (st != DDPM_OK && j.bar.out) progress_end(&j.bar);
    picture_writer_destroy(j.writer);
    generator_destroy(j.g);
    model_destroy(j.m);
    backend_destroy(j.be);
    mem_free(j.ids);
    mem_free(j.pixels);
    sample_folder_close(&j.folder);
    return st;
}
