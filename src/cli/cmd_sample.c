/* cmd_sample.c - ddpm sample: sampling a set of pictures from a model (sample/sampling_job.h), or checking one. */
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/sample_folder.h"
#include "cli/sample_set.h"
#include "cli/tuning_lock.h"
#include "base/arith.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/threads.h"
#include "io/json_out.h"
#include "sample/picture_format.h"
#include "sample/sampling_end.h"
#include "train/recipe.h"
#include "train/self_test.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

enum { FORMAT = 2 }; /* of sampling.json; incremented when the same description yields other pixels */

typedef struct job {
    const ddpm_config *config;
    sample_folder folder;
    sample_part part;
    picture_set set;
    backend *be;
    model *m;
    generator *g;
    int h, w, c, batch;
    bool allocated;   /* the generator is */
    sampling_job *at; /* while a batch is drawn */
    int n;            /* pictures of that batch */
    int64_t steps;    /* network evaluations of earlier batches */
    progress bar;
    sampling_tally tally;
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
    json_out_text(o, "scheduler", s->class_name);
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

/* Abort the current batch if a stop is requested or writing has failed. */
static bool tick(void *context, int done, int total)
{
    job *j = context;
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
    interrupt_at_once(false);
    print_remark(j->be); /* of autotuning */
    j->allocated = true;
    return DDPM_OK;
}

static ddpm_status draw(void *context, sampling_job *at, const int64_t *ids, int n, uint8_t *pixels, err *e)
{
    job *j = context;
    TRY(allocate(j, e));
    j->at = at;
    j->n = n;
    TRY(generator_run_bytes(j->g, ids, n, pixels, e));
    j->steps += generator_steps(j->g);
    return DDPM_OK;
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
    enum { MOST = 8 };
    const int processors = threads_processors();
    const sampling_job_spec spec = {.set = &j->set,
                                    .lock = &j->folder.lock,
                                    .rank = j->part.rank,
                                    .ranks = j->part.ranks,
                                    .batch = j->batch,
                                    .threads = processors / 2 < 1      ? 1
                                               : processors / 2 < MOST ? processors / 2
                                                                       : MOST,
                                    .columns = j->config->sample.grid,
                                    .draw = draw,
                                    .stop = stop,
                                    .tell = tell,
                                    .context = j};
    generator_watch(j->g, tick, j);
    progress_begin(&j->bar, stdout, j->config->log.seconds, 0, clock_seconds(), 0);
    const ddpm_status st = sampling_job_run(&spec, &j->tally, e);
    progress_end(&j->bar);
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

/* The set's folder and its part of it, and the stamp of both descriptions for the journals. */
static ddpm_status open_folder(const cli_args *args, job *j, const char *out, const generator_spec *s, err *e)
{
    sample_folder_spec spec = {.path = out, .rank = j->part.rank, .ranks = j->part.ranks};
    picture_set *set = &j->set;
    spec.overwrite = cli_may_overwrite(args);
    set->h = j->h, set->w = j->w, set->c = j->c;
    TRY(sample_set_fits(set, out, e));
    TRY(describe(j, s, &spec.description, &spec.description_size, e));
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
    TRY(sample_set_of(j->config, &j->set, e));
    TRY(sample_part_of(j->config, &j->part, e));
    if (j->part.from && j->part.ranks > 1)
        printf("rank %d of %d, by %s; rank= and ranks= decide otherwise\n", j->part.rank, j->part.ranks, j->part.from);
    return DDPM_OK;
}

/* Load the model and plan; of several processes one after another, as what is chosen by timing must be the same. */
static ddpm_status plan_model(const char *model_path, job *j, const backend_spec *device, generator_spec *spec, err *e)
{
    static const int64_t any = 0;
    TRY(self_test_open(device, &j->be, e));
    print_remark(j->be);
    TRY(load_model(model_path, j, e));
    *spec = recipe_generator(j->config, j->m, ARENA_PARAM);
    j->h = spec->h, j->w = spec->w, j->c = j->m->net.unet.in_channels, j->batch = spec->batch;
    if (j->c != 1 && j->c != 3)
        return err_set(e, DDPM_EINVAL, "pictures of %d channels cannot be written, only of 1 or 3", j->c);
    TRY(generator_create(j->m, spec, &j->g, e));
    if (j->part.ranks == 1) return DDPM_OK;
    TRY(allocate(j, e));
    interrupt_at_once(true);
    return generator_begin(j->g, &any, 1, e); /* before it first runs, a backend saves its choices */
}

/* Everything that can fail is done before any existing picture is changed. */
static ddpm_status prepare(const cli_args *args, job *j, const char *out, err *e)
{
    backend_spec device;
    autotune_files files;
    generator_spec spec;
    TRY(read_options(j, e));
    TRY(interrupt_install(e));
    interrupt_at_once(true); /* planning and autotuning may take long */
    TRY(recipe_backend(&args->config, NULL, &files, &device, e));
    const int lock = j->part.ranks > 1 ? tuning_lock_take(device.autotune_cache) : -1;
    const ddpm_status st = plan_model(args->argument[0], j, &device, &spec, e);
    tuning_lock_release(lock);
    TRY(st);
    TRY(open_folder(args, j, out, &spec, e));
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
    say_done(j);
done:
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
