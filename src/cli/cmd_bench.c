/* cmd_bench.c - ddpm bench: speed of training, sampling and data loading of a configuration. */
#include "cli/about.h"
#include "cli/bench_cli.h"
#include "base/arith.h"
#include "cli/output.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/threads.h"
#include "train/self_test.h"
#include "train/trainer_fit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- common output ------------------------------------------------------------------------------------- */

void bench_say(const bench_job *b, const char *fmt, ...)
{
    va_list ap;
    if (b->quiet) return;
    va_start(ap, fmt);
    (void)vprintf(fmt, ap);
    va_end(ap);
}

void bench_say_timing(bench_job *b, const char *what, const char *key, const timing *t)
{
    bench_say(b, "%-14s %10.3f ms  (p10 %.3f, p90 %.3f, of %d)\n", what, t->median, t->p10, t->p90, t->n);
    timing_put(&b->json, key, t);
}

/* Images per second if `images` take ms; slow percentiles of the time become low rates. */
static void say_rate(bench_job *b, double images, const timing *ms)
{
    const double median = 1e3 * images / ms->median, low = 1e3 * images / ms->p90, high = 1e3 * images / ms->p10;
    bench_say(b, "%-14s %10.1f images/s  (p10 %.1f, p90 %.1f)\n", "throughput", median, low, high);
    json_out_open(&b->json, "images_per_s", '{');
    json_out_real(&b->json, "median", median);
    json_out_real(&b->json, "p10", low);
    json_out_real(&b->json, "p90", high);
    json_out_close(&b->json, '}');
}

void bench_say_memory(bench_job *b, size_t planned, size_t device_before)
{
    const int64_t host = process_peak_bytes();
    const size_t device = bench_device_bytes(b->be, device_before);
    bench_say(b, "%-14s %10.1f MiB planned, %.1f MiB peak of the process (VmHWM)", "memory", bytes_to_mib(planned),
              bytes_to_mib(host));
    if (!b->be->fn->host_memory) bench_say(b, ", %.1f MiB on the device", bytes_to_mib(device));
    bench_say(b, "\n");
    json_out_open(&b->json, "memory", '{');
    json_out_int(&b->json, "planned_bytes", (int64_t)planned);
    json_out_int(&b->json, "host_peak_bytes", host);
    if (!b->be->fn->host_memory) json_out_int(&b->json, "device_bytes", (int64_t)device);
    json_out_close(&b->json, '}');
}

ddpm_status bench_cli_peak(bench_job *b, machine_peak *peak, err *e)
{
    const double enough_ms = b->be->fn->host_memory ? 50 : 2;
    TRY(bench_peak(b->be, enough_ms, peak, e));
    bench_say(b, "%-14s %10.3f TFLOP/s (product of %d x %d), %.1f GB/s (pass over %.0f MiB)\n", "machine's peak",
              peak->tflop_per_s, peak->product_side, peak->product_side, peak->gb_per_s,
              bytes_to_mib((size_t)peak->copy_bytes));
    json_out_open(&b->json, "peak", '{');
    json_out_real(&b->json, "tflop_per_s", peak->tflop_per_s);
    json_out_int(&b->json, "product_side", peak->product_side);
    json_out_real(&b->json, "gb_per_s", peak->gb_per_s);
    json_out_real(&b->json, "copy_bytes", peak->copy_bytes);
    json_out_close(&b->json, '}');
    return DDPM_OK;
}

/* Report the achieved operations per second in relation to the machine's peak. */
static ddpm_status say_computing(bench_job *b, double flops, const timing *ms, err *e)
{
    machine_peak peak;
    const double rate = 1e-9 * flops / ms->median;
    TRY(bench_cli_peak(b, &peak, e));
    const double share = peak.tflop_per_s > 0 ? rate / peak.tflop_per_s : 0;
    bench_say(b, "%-14s %10.3f TFLOP/s, %.1f %% of the machine's peak\n", "computing", rate, 100 * share);
    json_out_real(&b->json, "tflop_per_s", rate);
    json_out_real(&b->json, "share_of_peak", share);
    return DDPM_OK;
}

static void put_image(json_out *j, int h, int w, int c)
{
    json_out_open(j, "image_hwc", '[');
    json_out_int(j, NULL, h);
    json_out_int(j, NULL, w);
    json_out_int(j, NULL, c);
    json_out_close(j, ']');
}

static const char *data_word(const ddpm_config *c) { return config_word_name(OPTION_bench_data, c->bench.data); }

static void put_data(bench_job *b, const dataset *d)
{
    json_out_open(&b->json, "data", '{');
    json_out_bool(&b->json, "synthetic", b->config.bench.data != BENCH_DATA_REAL);
    json_out_text(&b->json, "kind", dataset_kind_name(d));
    json_out_int(&b->json, "images", dataset_count(d));
    json_out_bool(&b->json, "decoded_beforehand", dataset_pixels(d) != NULL);
    json_out_close(&b->json, '}');
    put_image(&b->json, dataset_h(d), dataset_w(d), dataset_c(d));
}

/* ---- train --------------------------------------------------------------------------------------------- */

static void train_more(void *context, json_out *j)
{
    const bench_train *rig = context;
    json_out_int(j, "step", (int64_t)rig->state.step);
    json_out_int(j, "skipped", (int64_t)rig->state.skipped);
    json_out_real(j, "loss", (double)rig->state.loss < 1e30 ? (double)rig->state.loss : -1);
    json_out_int(j, "parameters", rig->m->store->values);
    json_out_int(j, "planned_bytes", (int64_t)trainer_fit_total(trainer_needs(rig->t)));
    json_out_real(j, "gflop_per_image", 1e-9 * trainer_needs(rig->t).flops);
    json_out_real(j, "first_step_s", rig->first_step_s);
}

static ddpm_status report_train(bench_job *b, bench_train *rig, err *e)
{
    const ddpm_config *c = &b->config;
    const trainer_memory need = trainer_needs(rig->t);
    const double images = (double)c->train.batch * c->train.gradient_accumulation_steps;
    const double waited = feed_waited_seconds(rig->f), begin = clock_seconds();
    timing ms;
    bench_say(b, "%-14s %10d images of %dx%dx%d a batch, %d a step, %s %s; %.3f M parameters\n", "training",
              c->train.batch, dataset_h(rig->data), dataset_w(rig->data), dataset_c(rig->data),
              c->train.gradient_accumulation_steps, data_word(c), dataset_kind_name(rig->data),
              (double)rig->m->store->values * 1e-6);
    TRY(bench_measure(b->be, &b->limits, bench_train_iterations, rig, &ms, e));
    const double waiting = (feed_waited_seconds(rig->f) - waited) / (clock_seconds() - begin);
    json_out_int(&b->json, "batch_images", c->train.batch);
    json_out_int(&b->json, "batches_per_step", c->train.gradient_accumulation_steps);
    put_data(b, rig->data);
    bench_say_timing(b, "step", "step_ms", &ms);
    say_rate(b, images, &ms);
    bench_say(b, "%-14s %10.1f %% of the time\n", "data wait", 100 * waiting);
    json_out_real(&b->json, "share_waiting_for_data", waiting);
    bench_say(b, "%-14s %10.2f s after the process began\n", "first step", rig->first_step_s);
    train_more(rig, &b->json);
    bench_say_memory(b, trainer_fit_total(need), rig->device_before);
    return say_computing(b, images * need.flops, &ms, e);
}

static ddpm_status run_train_bench(bench_job *b, err *e)
{
    bench_train rig;
    TRY(bench_train_create(&b->config, b->be, &rig, e));
    const bench_server s = {bench_train_iterations, &rig, train_more, rig.device_before};
    const ddpm_status st = b->config.bench.serve ? bench_serve(b, &s, e) : report_train(b, &rig, e);
    bench_train_destroy(&rig);
    return st;
}

/* ---- sample -------------------------------------------------------------------------------------------- */

static size_t planned_by(const bench_sample *rig)
{
    return generator_bytes(rig->g) + rig->m->store->count * sizeof(float) + params_copy_bytes(rig->m->store);
}

static void sample_more(void *context, json_out *j)
{
    const bench_sample *rig = context;
    json_out_int(j, "steps", generator_steps(rig->g));
    json_out_int(j, "parameters", rig->m->store->values);
    json_out_int(j, "planned_bytes", (int64_t)planned_by(rig));
    json_out_real(j, "gflop_per_image_and_evaluation", 1e-9 * generator_flops(rig->g));
}

/* Pictures a second with the files, and as a share of what the loops alone would give. */
static ddpm_status say_files(bench_job *b, bench_sample *rig, double loop_s, err *e)
{
    enum { FEWEST = 3, MOST = 50 };
    const double fit = b->limits.seconds / (BENCH_FILE_ROUNDS * loop_s);
    timing per_second, share;
    TRY(bench_sample_files(rig, fit < FEWEST ? FEWEST : fit > MOST ? MOST : (int)fit, &per_second, &share, e));
    if (per_second.n == 0) return DDPM_OK;
    timing_put(&b->json, "pictures_per_second_end_to_end", &per_second);
    timing_put(&b->json, "share_of_loops", &share);
    bench_say(
        b, "%-14s %10.1f pictures/s end to end, PNG files included: %.1f %% of the loops alone (p10 %.1f, p90 %.1f)\n",
        "", per_second.median, 100 * share.median, 100 * share.p10, 100 * share.p90);
    return DDPM_OK;
}

/* Time the whole loop if the time limit allows; else extrapolate from one evaluation. */
static ddpm_status say_loop(bench_job *b, bench_sample *rig, const timing *evaluation, err *e)
{
    const int steps = generator_steps(rig->g);
    const double expected_s = 1e-3 * evaluation->median * steps;
    const bench_limits limits = {.warmup = 1, .rounds = BENCH_LEAST, .seconds = b->limits.seconds};
    const bool whole = expected_s * (limits.warmup + limits.rounds) <= 2 * b->limits.seconds;
    timing ms = *evaluation;
    if (whole) TRY(bench_measure(b->be, &limits, bench_sample_iterations, rig, &ms, e));
    ms.median *= steps, ms.p10 *= steps, ms.p90 *= steps, ms.min *= steps, ms.max *= steps;
    json_out_bool(&b->json, "whole_loops_timed", whole);
    bench_say_timing(b, whole ? "loop" : "loop, estimate", "loop_ms", &ms);
    if (!whole) bench_say(b, "%-14s %10s %d evaluations, extrapolated from those that were timed\n", "", "", steps);
    say_rate(b, rig->batch, &ms);
    return whole ? say_files(b, rig, 1e-3 * ms.median, e) : DDPM_OK;
}

static ddpm_status report_sample(bench_job *b, bench_sample *rig, err *e)
{
    timing ms;
    int h, w;
    model_image_size(rig->m, &h, &w);
    bench_say(b, "%-14s %10d images of %dx%dx%d a batch, %d evaluations; %.3f M parameters\n", "sampling", rig->batch,
              h, w, rig->m->net.unet.in_channels, generator_steps(rig->g), (double)rig->m->store->values * 1e-6);
    json_out_int(&b->json, "batch_images", rig->batch);
    put_image(&b->json, h, w, rig->m->net.unet.in_channels);
    sample_more(rig, &b->json);
    TRY(bench_sample_evaluations(rig, &b->limits, &ms, e));
    bench_say_timing(b, "evaluation", "evaluation_ms", &ms);
    TRY(say_loop(b, rig, &ms, e));
    bench_say_memory(b, planned_by(rig), rig->device_before);
    return say_computing(b, rig->batch * generator_flops(rig->g), &ms, e);
}

static ddpm_status run_sample_bench(bench_job *b, err *e)
{
    bench_sample rig;
    TRY(bench_sample_create(&b->config, b->run, b->be, &rig, e));
    const bench_server s = {bench_sample_iterations, &rig, sample_more, rig.device_before};
    const ddpm_status st = b->config.bench.serve ? bench_serve(b, &s, e) : report_sample(b, &rig, e);
    bench_sample_destroy(&rig);
    return st;
}

/* ---- data ---------------------------------------------------------------------------------------------- */

/* The last images per second in RUN/metrics.jsonl; 0: unknown. */
static double rate_of_run(const char *run)
{
    char path[PATH_CAP], *text, *last = NULL;
    size_t size;
    err ignored = {0};
    if (!run || path_join(path, run, "metrics.jsonl", &ignored) != DDPM_OK) return 0;
    if (file_read(path, (size_t)1 << 30, &text, &size, &ignored) != DDPM_OK) return 0;
    for (char *at = text; (at = strstr(at, "\"img_s\":")) != NULL;) last = at += strlen("\"img_s\":");
    const double rate = last ? strtod(last, NULL) : 0;
    free(text);
    return rate > 0 && rate < 1e12 ? rate : 0;
}

static ddpm_status report_data(bench_job *b, const dataset *data, bench_loader *rig, err *e)
{
    const int batch = b->config.train.batch;
    timing ms;
    bench_say(b, "%-14s %10lld images of %dx%dx%d, %s %s%s; batches of %d\n", "data", (long long)dataset_count(data),
              dataset_h(data), dataset_w(data), dataset_c(data), data_word(&b->config), dataset_kind_name(data),
              dataset_pixels(data) ? ", decoded in advance" : "", batch);
    json_out_int(&b->json, "batch_images", batch);
    put_data(b, data);
    TRY(bench_measure(b->be, &b->limits, bench_loader_iterations, rig, &ms, e));
    bench_say_timing(b, "batch", "batch_ms", &ms);
    say_rate(b, batch, &ms);
    const double consumed = rate_of_run(b->run);
    if (consumed > 0) {
        bench_say(b, "%-14s %10.1f images/s, by the last line of the run's metrics.jsonl\n", "training takes",
                  consumed);
        json_out_real(&b->json, "run_images_per_s", consumed);
    } else
        bench_say(b, "%-14s ddpm bench train measures a step and its wait for data\n", "training");
    return DDPM_OK;
}

static ddpm_status run_data_bench(bench_job *b, err *e)
{
    dataset *data = NULL;
    bench_loader rig = {0};
    ddpm_status st = DDPM_OK;
    const double begin = clock_seconds();
    TRY_GOTO(bench_data(&b->config, b->be, &data, e));
    const double opened = clock_seconds() - begin;
    json_out_real(&b->json, "open_s", opened);
    bench_say(b, "%-14s %10.2f s\n", "opening", opened);
    TRY_GOTO(bench_loader_create(&b->config, data, &rig, e));
    TRY_GOTO(report_data(b, data, &rig, e));
done:
    bench_loader_destroy(&rig);
    dataset_close(data);
    return st;
}

/* ---- weights: initial weights for other programs ------------------------------------------------------- */

static ddpm_status run_weights(bench_job *b, err *e)
{
    const ddpm_config *c = &b->config;
    model *m = NULL;
    notes remarks = {.text = ""};
    image_shape shape = {0};
    char file[PATH_CAP];
    bool replace;
    ddpm_status st = DDPM_OK;
    if (!c->bench.save[0]) return err_set(e, DDPM_EINVAL, "ddpm bench weights: save=FOLDER is missing");
    TRY_GOTO(output_check_pipeline(c->bench.save, "save", cli_may_overwrite(b->args), &replace, e));
    TRY_GOTO(bench_shape(c, b->be, &shape, e));
    TRY_GOTO(recipe_model(c, b->be, shape, &m, &remarks, e));
    TRY_GOTO(params_allocate(m->store, false, false, e));
    TRY_GOTO(recipe_weights(c, m, file, &remarks, e));
    TRY_GOTO(output_save_pipeline(m, c->bench.save, replace, e));
    json_out_int(&b->json, "parameters", m->store->values);
    bench_say(b, "%lld parameters in %s\n", (long long)m->store->values, c->bench.save);
done:
    model_destroy(m);
    return st;
}

/* ---- the command --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    ddpm_status (*run)(bench_job *b, err *e);
    bool serves;
} kinds[] = {
    {"train", run_train_bench, true}, {"sample", run_sample_bench, true}, {"ops", bench_cli_ops, false},
    {"data", run_data_bench, false},  {"weights", run_weights, false},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static void put_arguments(bench_job *b)
{
    const cli_args *a = b->args;
    json_out_text(&b->json, "config", a->argument[1]);
    json_out_open(&b->json, "overrides", '[');
    for (int i = 2; i < a->argc; i++)
        if (a->argv[i] != a->argument[0] && a->argv[i] != a->argument[1]) json_out_text(&b->json, NULL, a->argv[i]);
    json_out_close(&b->json, ']');
}

static void describe(bench_job *b)
{
    char device[400], processor[200], date[40];
    const time_t now = time(NULL);
    struct tm parts;
    json_out *j = &b->json;
    b->be->fn->describe(b->be, device, sizeof device);
    machine_processor(processor, sizeof processor);
    (void)strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
    json_out_text(j, "benchmark", b->args->argument[0]);
    json_out_text(j, "date", date);
    json_out_text(j, "version", DDPM_VERSION);
    json_out_text(j, "commit", about_commit());
    json_out_text(j, "processor", processor);
    json_out_text(j, "backend", b->be->fn->name);
    json_out_text(j, "device", device);
    json_out_int(j, "threads", b->config.threads ? b->config.threads : threads_processors());
    json_out_text(j, "precision", recipe_precision(&b->config, b->be));
    put_arguments(b);
    json_out_open(j, "limits", '{');
    json_out_int(j, "warmup", b->limits.warmup);
    json_out_int(j, "rounds", b->limits.rounds);
    json_out_real(j, "seconds", b->limits.seconds);
    json_out_close(j, '}');
    bench_say(b, "%-14s %s\n%-14s %s\n", "processor", processor, "device", device);
    if (b->be->remark) bench_say(b, "%-14s %s\n", "note", b->be->remark);
}

static bool is_result(const char *path) { return output_is_json_of(path, "benchmark"); }

static bool is_stdout(const char *json) { return config_word_of(OPTION_bench_json, json) == BENCH_JSON_STDOUT; }

/* Check the output files before measuring rather than after. */
static ddpm_status check_output(const bench_job *b, err *e)
{
    const char *path = b->config.bench.json;
    if (!path[0] || is_stdout(path)) return DDPM_OK;
    return output_check(path, "json", is_result, cli_may_overwrite(b->args), e);
}

static ddpm_status write_json(bench_job *b, err *e)
{
    const char *path = b->config.bench.json;
    char *text;
    size_t size;
    json_out_close(&b->json, '}');
    TRY(json_out_finish(&b->json, &text, &size));
    ddpm_status st = DDPM_OK;
    if (is_stdout(path))
        (void)puts(text);
    else if (path[0])
        st = file_replace(path, text, size, e);
    free(text);
    return st;
}

static ddpm_status choose(bench_job *b, int *kind, err *e)
{
    const char *name = b->args->argument[0];
    for (*kind = 0; *kind < KINDS && strcmp(name, kinds[*kind].name) != 0;) ++*kind;
    if (*kind == KINDS)
        return err_set(e, DDPM_EINVAL,
                       "ddpm bench: unknown benchmark '%.40s'; choose train, sample, ops, data or weights", name);
    if (b->config.bench.serve && !kinds[*kind].serves)
        return err_set(e, DDPM_EINVAL, "ddpm bench %s: serve=true works only with train and sample", name);
    return check_output(b, e);
}

static bench_job begin(const cli_args *args)
{
    bench_job b = {.args = args, .config = args->config};
    const char *path = args->argument[1];
    if (!cli_is_config_file(path)) {
        b.run = path;
        (void)snprintf(b.config.model.init_from, sizeof b.config.model.init_from, "%s", path);
    }
    b.limits = (bench_limits){b.config.bench.warmup, b.config.bench.rounds, b.config.bench.seconds};
    b.quiet = b.config.bench.serve || is_stdout(b.config.bench.json) || output_is_stdout(b.config.bench.json);
    return b;
}

ddpm_status cmd_bench(const cli_args *args, err *e)
{
    err lost = {0}; /* error of the JSON writer, which is reported when it finishes */
    bench_job b = begin(args);
    backend_spec device;
    autotune_files files;
    int kind;
    ddpm_status st = DDPM_OK;
    b.json = json_out_begin(false, &lost);
    json_out_open(&b.json, NULL, '{');
    TRY_GOTO(choose(&b, &kind, e));
    TRY_GOTO(recipe_backend(&b.config, NULL, &files, &device, e));
    TRY_GOTO(self_test_open(&device, &b.be, e));
    describe(&b);
    TRY_GOTO(kinds[kind].run(&b, e));
    if (!b.config.bench.serve) st = write_json(&b, e);
    if (st != DDPM_OK && lost.status != DDPM_OK) st = err_set(e, lost.status, "%s", lost.text);
done:
    free(b.json.text);
    backend_destroy(b.be);
    return st;
}
