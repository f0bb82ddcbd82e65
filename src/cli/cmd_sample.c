/* cmd_sample.c - ddpm sample: sampling a set of pictures from a model (sample/sampling_job.h), or checking one. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/sample_description.h"
#include "cli/sample_folder.h"
#include "cli/sample_set.h"
#include "cli/tuning_lock.h"
#include "base/arith.h"
#include "base/clock.h"
#include "base/mem.h"
#include "sample/film.h"
#include "sample/picture_writer.h"
#include "sample/sampling_end.h"
#include "train/checkpoint_averages.h"
#include "train/recipe.h"
#include "train/self_test.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct job {
    const ddpm_config *config;
    sample_folder folder;
    sample_part part;
    picture_set set;
    backend *be;
    model *m;
    generator *g;
    generator_spec spec;
    picture_source source;
    film film;   /* of the first pictures, if a strip is requested */
    bool filmed; /* it is complete */
    int h, w, c, batch;
    bool allocated;   /* the generator is */
    sampling_job *at; /* while a batch is drawn */
    int n;            /* pictures of that batch */
    int64_t steps;    /* network evaluations of earlier batches */
    progress bar;
    sampling_tally tally;
} job;

/* ---- drawing ---- */

/* Show a line if it is time, with `part` of the batch in work done. */
static void show(job *j, const sampling_tally *t, double now, double part)
{
    const double steps = progress_rate_get(&j->bar.rate), per_batch = generator_steps(j->g);
    progress_line line = progress_unknown;
    line.noun = "picture";
    line.done = t->done + (int64_t)(part * j->n);
    line.total = t->total;
    line.bytes_written = (double)t->bytes;
    line.share_waited = now > j->bar.begun ? t->waited / (now - j->bar.begun) : 0;
    if (steps > 0) {
        line.images_per_second = steps / per_batch * j->batch;
        line.seconds_left = (double)(line.total - line.done) / line.images_per_second;
    }
    progress_show(&j->bar, now, line);
}

/* Abort the current batch if a stop is requested or writing has failed.  No job: the film strip alone is drawn. */
static bool tick(void *context, int done, int total)
{
    job *j = context;
    if (!j->at) return interrupt_stop() != 0;
    const double now = clock_seconds();
    if (progress_step(&j->bar, now, j->steps + done)) {
        const sampling_tally t = sampling_job_tally(j->at);
        show(j, &t, now, (double)done / total);
    }
    return sampling_job_stops(j->at);
}

static void print_remark(backend *be)
{
    const char *remark = backend_take_remark(be);
    if (remark) printf("device: %s\n", remark);
}

/* Large memory is allocated for the first picture that is missing. */
static ddpm_status allocate(job *j, err *e)
{
    if (j->allocated) return DDPM_OK;
    interrupt_at_once(true); /* nothing is being written; autotuning may take long */
    TRY(generator_allocate(j->g, e));
    if (j->source.mask) TRY(generator_set_mask(j->g, j->source.mask, e));
    interrupt_at_once(false);
    print_remark(j->be); /* of autotuning */
    j->allocated = true;
    return DDPM_OK;
}

/* Does a batch begin with the pictures of the strip? */
static bool shows_film(const job *j, const int64_t *ids, int n)
{
    if (!j->film.tiles || n < j->film.pictures) return false;
    for (int i = 0; i < j->film.pictures; i++)
        if (ids[i] != id_ranges_id(&j->set.ids, i)) return false;
    return true;
}

static ddpm_status draw(void *context, sampling_job *at, const int64_t *ids, int n, uint8_t *pixels, err *e)
{
    job *j = context;
    TRY(allocate(j, e));
    j->at = at;
    j->n = n;
    generator_batch batch;
    const bool first = shows_film(j, ids, n);
    TRY(picture_source_batch(&j->source, ids, n, &batch, e));
    if (first) film_record(&j->film, j->g);
    const ddpm_status drawn = generator_run_bytes(j->g, &batch, pixels, e);
    if (first) generator_film(j->g, 0, NULL, NULL);
    TRY(drawn);
    j->filmed |= first;
    j->steps += generator_steps(j->g);
    return DDPM_OK;
}

/* The strip of the first pictures, by rank 0; drawn once more where they were there already. */
static ddpm_status write_film(job *j, err *e)
{
    int64_t ids[FILM_PICTURES];
    generator_batch batch;
    char path[PATH_CAP];
    uint8_t *pixels = NULL, *png = NULL;
    size_t size;
    ddpm_status st = DDPM_OK;
    if (!j->film.tiles || j->part.rank > 0) return DDPM_OK;
    const int n = j->film.pictures;
    if (!j->filmed) {
        for (int i = 0; i < n; i++) ids[i] = id_ranges_id(&j->set.ids, i);
        TRY_GOTO(allocate(j, e));
        TRY_GOTO(picture_source_batch(&j->source, ids, n, &batch, e));
        TRY_GOTO(mem_array(&pixels, (size_t)n * (size_t)j->h * (size_t)j->w, (size_t)j->c, "pictures", e));
        film_record(&j->film, j->g);
        TRY_GOTO(generator_run_bytes(j->g, &batch, pixels, e));
    }
    TRY_GOTO(film_encode(&j->film, &png, &size, e));
    TRY_GOTO(path_join(path, j->folder.path, FILM_STRIP, e));
    TRY_GOTO(file_replace(path, png, size, e));
done:
    mem_free(pixels);
    free(png);
    return st;
}

static bool stop(void *context) { return (void)context, interrupt_stop() != 0; }

/* The line is also shown while the pictures that are there are being compared with their records. */
static void tell(void *context, const sampling_tally *t)
{
    job *j = context;
    const double now = clock_seconds();
    if (j->bar.out && now - j->bar.last >= j->bar.interval) show(j, t, now, 0);
}

static ddpm_status draw_all(job *j, err *e)
{
    const sampling_job_spec spec = {.set = &j->set,
                                    .lock = &j->folder.lock,
                                    .rank = j->part.rank,
                                    .ranks = j->part.ranks,
                                    .batch = j->batch,
                                    .threads = picture_writer_threads(),
                                    .columns = j->config->sample.grid,
                                    .draw = draw,
                                    .stop = stop,
                                    .tell = tell,
                                    .context = j};
    generator_watch(j->g, tick, j);
    progress_begin(&j->bar, stdout, j->config->log.seconds, 0, clock_seconds(), 0);
    const ddpm_status st = sampling_job_run(&spec, &j->tally, e);
    j->at = NULL; /* the job belongs to sampling_job_run() */
    progress_end(&j->bar);
    return st;
}

/* ---- setting up ---- */

static ddpm_status load_from(const char *folder, job *j, notes *remarks, err *e)
{
    char weights[PATH_CAP];
    TRY(averages_find(folder, j->config->sample.weights, weights, e));
    TRY(model_load(j->be, folder, &j->m, remarks, e));
    return weights[0] ? params_load(j->m->store, ARENA_PARAM, weights, NULL, e) : DDPM_OK;
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

/* overwrite=true removes every picture in `out`: those that sampling begins with must not be there. */
static ddpm_status spare_source(const job *j, const char *out, bool overwrite, err *e)
{
    const char *from = j->config->sample.from, *mask = j->config->sample.mask;
    if (from[0] && path_same(from, out))
        return err_set(e, DDPM_EINVAL, "from=%s: is the folder of the pictures to sample; give another out=", from);
    for (int i = -1; overwrite && i < j->source.files.n; i++) {
        char folder[PATH_CAP];
        const char *path = i < 0 ? mask : j->source.files.path[i];
        const char *slash = strrchr(path, '/');
        const int length = slash ? (int)(slash - path) + 1 : 2;
        if (!path[0]) continue;
        (void)snprintf(folder, sizeof folder, "%.*s", length, slash ? path : "./");
        if (path_same(folder, out))
            return err_set(e, DDPM_EINVAL,
                           "%s: is in the folder whose pictures overwrite=true removes; give another out=", path);
    }
    return DDPM_OK;
}

/* The set's folder and its part of it, and the stamp of both descriptions for the journals. */
static ddpm_status open_folder(const cli_args *args, job *j, const char *out, err *e)
{
    sample_folder_spec spec = {.path = out, .rank = j->part.rank, .ranks = j->part.ranks};
    picture_set *set = &j->set;
    spec.overwrite = cli_may_overwrite(args);
    TRY(spare_source(j, out, spec.overwrite, e));
    set->h = j->h, set->w = j->w, set->c = j->c;
    TRY(sample_set_fits(set, out, e));
    const sample_description d = {.config = j->config, .m = j->m, .spec = &j->spec, .source = &j->source};
    TRY(sample_describe(&d, &spec.description, &spec.description_size, e));
    j->folder.spec = spec; /* owned by the folder also if it cannot be opened */
    TRY(sample_set_describe(set, &spec.set, &spec.set_size, e));
    set->stamp = XXH3_64bits_withSeed(spec.set, spec.set_size, XXH3_64bits(spec.description, spec.description_size));
    TRY(sample_folder_open(&j->folder, &spec, e));
    strcpy(set->folder, j->folder.path);
    return DDPM_OK;
}

/* What the options alone decide: nothing is loaded for what cannot be done. */
static ddpm_status read_options(job *j, err *e)
{
    int images = 0;
    if (j->config->sample.from[0]) TRY(picture_source_count(j->config->sample.from, &images, e));
    TRY(sample_set_of(j->config, images, &j->set, e));
    TRY(sample_part_of(j->config, &j->part, e));
    if (j->part.from && j->part.ranks > 1)
        printf("rank %d of %d, by %s; rank= and ranks= decide otherwise\n", j->part.rank, j->part.ranks, j->part.from);
    return DDPM_OK;
}

/* Labels, images, mask and film; `between` needs the inversion, which is done before the generator takes memory. */
static ddpm_status open_source(job *j, err *e)
{
    const picture_source_spec from = {.labels = j->config->sample.labels,
                                      .from = j->config->sample.from,
                                      .mask = j->config->sample.mask,
                                      .between = j->config->sample.between,
                                      .count = j->set.ids.count};
    if (from.between[0] && id_ranges_id(&j->set.ids, from.count - 1) != from.count - 1)
        return err_set(e, DDPM_EINVAL, "between: its pictures are 0 to count - 1; give count=, not ids=");
    TRY(picture_source_open(&j->source, &from, j->m, &j->spec, e));
    if (j->source.labels.classes > 0) j->set.label = label_of_picture, j->set.label_context = &j->source.labels;
    const int pictures = j->set.ids.count < j->batch ? (int)j->set.ids.count : j->batch;
    if (j->config->sample.trajectory > 0)
        TRY(film_create(&j->film, &j->spec, j->c, pictures, j->config->sample.trajectory, e));
    return from.between[0] ? picture_source_invert(&j->source, j->m, &j->spec, e) : DDPM_OK;
}

static void print_notes(const job *j)
{
    notes remarks = {.text = ""};
    const char *advice = generator_advice(j->g);
    recipe_note_sampling(j->config, j->m, &j->spec, &remarks);
    if (remarks.text[0]) printf("note: %s\n", remarks.text);
    if (advice) printf("note: %s\n", advice);
}

/* Load the model and plan; of several processes one after another, as what is chosen by timing must be the same. */
static ddpm_status plan_model(const char *model_path, job *j, const backend_spec *device, err *e)
{
    const int64_t first = id_ranges_id(&j->set.ids, 0);
    generator_batch batch;
    TRY(self_test_open(device, &j->be, e));
    print_remark(j->be);
    TRY(load_model(model_path, j, e));
    j->spec = recipe_generator(j->config, j->m, ARENA_PARAM);
    if (j->set.ids.count < j->spec.batch) j->spec.batch = (int)j->set.ids.count;
    j->h = j->spec.h, j->w = j->spec.w, j->c = j->m->net.unet.in_channels, j->batch = j->spec.batch;
    if (j->c != 1 && j->c != 3)
        return err_set(e, DDPM_EINVAL, "pictures of %d channels cannot be written, only of 1 or 3", j->c);
    TRY(open_source(j, e));
    TRY(generator_create(j->m, &j->spec, &j->g, e));
    print_notes(j);
    if (j->part.ranks == 1) return DDPM_OK;
    TRY(allocate(j, e));
    interrupt_at_once(true);
    TRY(picture_source_batch(&j->source, &first, 1, &batch, e));
    return generator_begin(j->g, &batch, e); /* before it first runs, a backend saves its choices */
}

/* Everything that can fail is done before any existing picture is changed. */
static ddpm_status prepare(const cli_args *args, job *j, const char *out, err *e)
{
    backend_spec device;
    autotune_files files;
    TRY(read_options(j, e));
    TRY(interrupt_install(e));
    interrupt_at_once(true); /* planning and autotuning may take long */
    TRY(recipe_backend(&args->config, NULL, &files, &device, e));
    const int lock = j->part.ranks > 1 ? tuning_lock_take(device.autotune_cache) : -1;
    const ddpm_status st = plan_model(args->argument[0], j, &device, e);
    tuning_lock_release(lock);
    TRY(st);
    TRY(open_folder(args, j, out, e));
    if (!j->folder.joined) TRY(allocate(j, e)); /* what is there may have to be removed */
    interrupt_at_once(false);
    return sample_folder_begin(&j->folder, e);
}

static void say_done(const job *j)
{
    const sampling_tally *t = &j->tally;
    printf("%s: %lld pictures (%lld new)", j->folder.path, (long long)t->total, (long long)t->drawn);
    if (!t->complete)
        printf(" of rank %d of %d; the set is not complete yet\n", j->part.rank, j->part.ranks);
    else if (t->tiles == 0)
        printf("; they are too large for an overview\n");
    else if (t->tiles < j->set.ids.count && t->tiles < OVERVIEW_MAX)
        printf(" and grid.png, which shows the first %d\n", t->tiles);
    else
        printf(" and grid.png\n");
}

static ddpm_status sample(const cli_args *args, job *j, const char *out, err *e)
{
    ddpm_status st = DDPM_OK;
    TRY_GOTO(prepare(args, j, out, e));
    TRY_GOTO(draw_all(j, e));
    TRY_GOTO(write_film(j, e));
    say_done(j);
done:
    picture_source_close(&j->source);
    film_free(&j->film);
    generator_destroy(j->g);
    model_destroy(j->m);
    backend_destroy(j->be);
    sample_folder_close(&j->folder);
    return st;
}

ddpm_status cmd_sample(const cli_args *args, err *e)
{
    char folder[PATH_CAP];
    const char *out = args->config.sample.out;
    job *j;
    if (!out[0]) {
        TRY(sample_folder_default(args->argument[0], folder, e));
        out = folder;
    }
    if (args->config.sample.verify) return sample_set_verify(out, e);
    TRY(mem_array(&j, 1, sizeof *j, "sampling", e));
    j->config = &args->config;
    j->folder.lock = FOLDER_LOCK_NONE;
    const ddpm_status st = sample(args, j, out, e);
    mem_free(j);
    return st;
}
