/* cmd_sample.c - ddpm sample: pictures from a model, one file each, and an overview.
 *
 * Every picture is written under another name and renamed, so a file that is there is whole; a thread of
 * its own does that while the next batch is computed.
 * sampling.json says what the pictures in the folder were made from: the same command takes up where
 * it was interrupted, another one begins anew. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/picture_writer.h"
#include "cli/progress.h"
#include "core/clock.h"
#include "core/mem.h"
#include "data/image.h"
#include "io/json_out.h"
#include "train/recipe.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

enum { GRID_MAX = 256 }; /* pictures on the overview */

typedef struct job {
    const ddpm_config *config;
    char out[PATH_CAP];
    backend *be;
    model *m;
    generator *g;
    int h, w, c, batch;
    int64_t *todo; /* ids that are not there yet */
    int64_t n_todo;
    int64_t drawn;   /* of them, whole batches handed to the writer */
    uint8_t *pixels; /* [batch, h, w, c] */
    picture_writer *writer;
    progress bar;
} job;

static ddpm_status choose_folder(const cli_args *args, job *j, err *e)
{
    if (!args->config.sample.out[0]) return path_join(j->out, args->argument[0], "samples", e);
    (void)snprintf(j->out, sizeof j->out, "%s", args->config.sample.out);
    return DDPM_OK;
}

/* A hash of the weights themselves: a run that was trained further is another model. */
static ddpm_status hash_weights(const model *m, char out[20], err *e)
{
    float *host, *copy;
    const ddpm_status st = params_view(m->store, ARENA_PARAM, &host, &copy, e);
    if (st == DDPM_OK)
        (void)snprintf(out, 20, "%016" PRIx64, (uint64_t)XXH3_64bits(host, m->store->count * sizeof *host));
    mem_free(copy);
    return st;
}

static ddpm_status describe(const job *j, const generator_spec *s, char **text, size_t *size, err *e)
{
    char weights[20];
    TRY(hash_weights(j->m, weights, e));
    json_out o = json_out_begin(false, e);
    json_out_open(&o, NULL, '{');
    json_out_bool(&o, "clip_sample", s->scheduler.clip_sample);
    json_out_int(&o, "num_inference_steps", generator_steps(j->g));
    json_out_int(&o, "seed", (int64_t)s->seed);
    json_out_text(&o, "timestep_spacing", scheduler_spacing_name(s->scheduler.timestep_spacing));
    json_out_text(&o, "variance_type", scheduler_variance_name(s->scheduler.variance_type));
    json_out_text(&o, "weights", weights);
    json_out_close(&o, '}');
    return json_out_finish(&o, text, size);
}

/* *same: do the pictures in the folder come from this very command? */
static ddpm_status check_folder(const job *j, const generator_spec *s, bool *same, err *e)
{
    char path[PATH_CAP], *now = NULL, *before = NULL;
    size_t n_now, n_before = 0;
    err missing = {0};
    TRY(dir_make(j->out, e));
    TRY(path_join(path, j->out, "sampling.json", e));
    TRY(describe(j, s, &now, &n_now, e));
    const bool there = file_read(path, 1 << 16, &before, &n_before, &missing) == DDPM_OK;
    *same = there && n_before == n_now && !memcmp(before, now, n_now);
    const ddpm_status st = *same ? DDPM_OK : file_replace(path, now, n_now, e);
    mem_free(before);
    mem_free(now);
    return st;
}

static ddpm_status list_todo(job *j, bool same, err *e)
{
    const int64_t count = j->config->sample.count;
    char path[PATH_CAP];
    TRY(mem_array(&j->todo, (size_t)count, sizeof *j->todo, "list of pictures", e));
    for (int64_t id = 0; id < count; id++) {
        TRY(picture_path(j->out, id, path, e));
        if (same && path_exists(path)) continue;
        if (!same && unlink(path) && errno != ENOENT) return err_errno(e, DDPM_EIO, errno, "%s: cannot replace", path);
        j->todo[j->n_todo++] = id;
    }
    return DDPM_OK;
}

/* A batch in the making is given up when it is no longer wanted, or could not be written. */
static bool tick(void *context, int done, int total)
{
    job *j = context;
    const int64_t batches = (j->n_todo + j->batch - 1) / j->batch, all = j->drawn / j->batch * total + done;
    const double now = clock_seconds();
    if (progress_step(&j->bar, now, all)) {
        progress_line line = progress_unknown;
        line.done = all;
        line.total = batches * total;
        progress_show(&j->bar, now, line);
    }
    return interrupt_stop() != 0 || picture_writer_status(j->writer) != DDPM_OK;
}

static ddpm_status draw_batches(job *j, err *e)
{
    while (j->drawn < j->n_todo) {
        const int64_t left = j->n_todo - j->drawn, *ids = j->todo + j->drawn;
        const int n = left < j->batch ? (int)left : j->batch;
        TRY(generator_run_bytes(j->g, ids, n, j->pixels, e));
        TRY(picture_writer_push(j->writer, ids, n, j->pixels, e));
        j->drawn += n;
    }
    return DDPM_OK;
}

/* All that is drawn is also written when this returns, unless the writing itself failed. */
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
    return err_set(e, DDPM_ESAVED, "stopped: %lld pictures are left; the same command goes on with them",
                   (long long)(j->n_todo - j->drawn));
}

static ddpm_status write_grid(const job *j, err *e)
{
    const int n = j->config->sample.count < GRID_MAX ? j->config->sample.count : GRID_MAX;
    const int shape[3] = {j->h, j->w, j->c};
    const int columns = j->config->sample.grid ? j->config->sample.grid : (int)ceil(sqrt((double)n));
    const size_t d = (size_t)j->h * (size_t)j->w * (size_t)j->c;
    char path[PATH_CAP];
    uint8_t *tiles = NULL;
    image grid = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&tiles, (size_t)n, d, "overview", e));
    for (int i = 0; i < n; i++) {
        image one = {0};
        TRY_GOTO(picture_path(j->out, i, path, e));
        TRY_GOTO(image_load(path, &one, e));
        if (one.h == j->h && one.w == j->w && one.c == j->c) memcpy(tiles + (size_t)i * d, one.pixel, d);
        image_free(&one);
    }
    TRY_GOTO(image_grid(tiles, n, shape, columns, &grid, e));
    TRY_GOTO(path_join(path, j->out, "grid.png", e));
    TRY_GOTO(image_write_png(path, &grid, e));
done:
    mem_free(tiles);
    image_free(&grid);
    return st;
}

static ddpm_status prepare(const cli_args *args, job *j, err *e)
{
    notes remarks = {.text = ""};
    backend_spec device;
    plan_files files;
    bool same;
    TRY(interrupt_install(e));
    TRY(recipe_backend(&args->config, NULL, &files, &device, e));
    TRY(backend_create(&device, &j->be, e));
    if (j->be->remark) printf("device: %s\n", j->be->remark);
    TRY(model_load(j->be, args->argument[0], &j->m, &remarks, e));
    if (remarks.text[0]) printf("%s: %s\n", args->argument[0], remarks.text);
    const generator_spec spec = recipe_generator(j->config, j->m, ARENA_PARAM);
    j->h = spec.h, j->w = spec.w, j->c = j->m->net.unet.in_channels, j->batch = spec.batch;
    TRY(generator_create(j->m, &spec, &j->g, e));
    TRY(choose_folder(args, j, e));
    TRY(picture_writer_create(
        &(picture_writer_spec){.folder = j->out, .batch = j->batch, .h = j->h, .w = j->w, .c = j->c}, &j->writer, e));
    TRY(check_folder(j, &spec, &same, e));
    TRY(list_todo(j, same, e));
    const size_t values = (size_t)j->batch * (size_t)j->h * (size_t)j->w * (size_t)j->c;
    TRY(mem_array(&j->pixels, values, 1, "pictures", e));
    return j->n_todo ? generator_allocate(j->g, e) : DDPM_OK;
}

ddpm_status cmd_sample(const cli_args *args, err *e)
{
    job j = {.config = &args->config};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(prepare(args, &j, e));
    TRY_GOTO(draw_all(&j, e));
    TRY_GOTO(write_grid(&j, e));
    if (j.bar.out) progress_end(&j.bar);
    printf("%s: %d pictures (%lld new) and grid.png\n", j.out, j.config->sample.count, (long long)j.n_todo);
done:
    if (st != DDPM_OK && j.bar.out) progress_end(&j.bar);
    picture_writer_destroy(j.writer);
    generator_destroy(j.g);
    model_destroy(j.m);
    backend_destroy(j.be);
    mem_free(j.todo);
    mem_free(j.pixels);
    return st;
}
