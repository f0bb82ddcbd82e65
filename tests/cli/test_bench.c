/* ddpm bench as a user meets it: its tables, its JSON, its answers on request, its one line of error. */
#include "base/file.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[] = "/tmp/ddpm-bench-XXXXXX";
static err why;

static void make_root(void)
{
    static const char config[] = "data: {kind: digits, resolution: 8, channels: 1}\n"
                                 "model:\n"
                                 "  block_out_channels: [8, 16]\n"
                                 "  down_block_types: [DownBlock2D, AttnDownBlock2D]\n"
                                 "  up_block_types: [AttnUpBlock2D, UpBlock2D]\n"
                                 "  layers_per_block: 1\n"
                                 "  norm_num_groups: 4\n"
                                 "train: {batch: 4, lr_warmup_steps: 1}\n"
                                 "sample: {batch: 2, num_inference_steps: 4}\n"
                                 "threads: 1\n";
    char path[PATH_CAP];
    cr_assert_not_null(mkdtemp(root));
    (void)snprintf(path, sizeof path, "%s/c.yaml", root);
    cr_assert_eq(file_write(path, config, sizeof config - 1, false, &why), DDPM_OK, "%s", why.text);
}
static void remove_root(void) { cr_assert_eq(dir_remove(root, &why), DDPM_OK, "%s", why.text); }

TestSuite(bench_program, .init = make_root, .fini = remove_root, .timeout = 300);

typedef struct result {
    int code; /* exit code */
    char *out, *error;
} result;

static char *slurp(const char *name)
{
    char path[PATH_CAP], *text;
    size_t size;
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    cr_assert_eq(file_read(path, 1 << 24, &text, &size, &why), DDPM_OK, "%s", why.text);
    return text; /* one test, one process: it ends with it */
}

/* `ddpm bench WORDS` in the test's folder; `input` is its standard input. */
__attribute__((format(printf, 2, 3))) static result bench(const char *input, const char *fmt, ...)
{
    char words[1024], command[2048];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(words, sizeof words, fmt, ap);
    va_end(ap);
    (void)snprintf(command, sizeof command, "cd %s && printf '%s' | '%s' bench %s >stdout 2>stderr", root, input,
                   DDPM_PROGRAM, words);
    const int status = system(command);
    return (result){WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp("stdout"), slurp("stderr")};
}

static void drop(result *r)
{
    mem_free(r->out);
    mem_free(r->error);
}

#define QUICK "rounds=3 warmup=1 seconds=1"

static json_t *json_of(const char *text)
{
    json_error_t at;
    json_t *j = json_loads(text, 0, &at);
    cr_assert_not_null(j, "%s at line %d: %.200s", at.text, at.line, text);
    return j;
}

/* Every number in it is finite; those that must be more than 0 are. */
static void expect_finite(const json_t *j)
{
    const char *key;
    json_t *v;
    size_t i;
    if (json_is_number(j)) cr_expect(isfinite(json_number_value(j)));
    json_object_foreach((json_t *)j, key, v) expect_finite(v);
    json_array_foreach(j, i, v) expect_finite(v);
}

/* "memory.planned_bytes" */
static double number_at(const json_t *j, const char *path)
{
    char text[100];
    (void)snprintf(text, sizeof text, "%s", path);
    const json_t *at = j;
    for (char *key = strtok(text, "."); key; key = strtok(NULL, ".")) at = json_object_get(at, key);
    cr_assert(json_is_number(at), "%s is no number", path);
    return json_number_value(at);
}

static void expect_positive(const json_t *j, const char *const *paths)
{
    for (; *paths; paths++) cr_expect_gt(number_at(j, *paths), 0, "%s", *paths);
}

static void expect_words(const char *text, const char *const *words)
{
    for (; *words; words++) cr_expect_not_null(strstr(text, *words), "'%s' is not in:\n%s", *words, text);
}

static void expect_narrow(const char *text)
{
    for (const char *line = text; *line;) {
        const size_t n = strcspn(line, "\n");
        /* the second line is the backend's own description of the device */
        cr_expect(n <= 100 || !strncmp(line, "device", 6), "%zu columns: %.*s", n, (int)n, line);
        line += n + (line[n] == '\n');
    }
}

static void expect_about(const json_t *j, const char *what)
{
    static const char *const texts[] = {"date", "version", "processor", "device", "backend", "config", "precision"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *text = json_string_value(json_object_get(j, texts[i]));
        cr_expect(text && text[0], "%s", texts[i]);
    }
    cr_expect_str_eq(json_string_value(json_object_get(j, "benchmark")), what);
    cr_expect_str_eq(json_string_value(json_object_get(j, "precision")), "fp32");
    cr_expect_eq(number_at(j, "threads"), 1);
    cr_expect_not_null(json_object_get(j, "commit"));
    cr_expect_gt(json_array_size(json_object_get(j, "overrides")), 0);
    expect_finite(j);
}

Test(bench_program, train_says_and_writes_what_it_measured)
{
    static const char *const said[] = {"processor", "device", "step",           "throughput", "data wait", "first step",
                                       "planned",   "VmHWM",  "machine's peak", "computing",  "of 3)",     NULL};
    static const char *const positive[] = {"step_ms.median",
                                           "step_ms.p10",
                                           "step_ms.p90",
                                           "images_per_s.median",
                                           "tflop_per_s",
                                           "share_of_peak",
                                           "peak.tflop_per_s",
                                           "peak.gb_per_s",
                                           "memory.planned_bytes",
                                           "memory.host_peak_bytes",
                                           "first_step_s",
                                           "gflop_per_image",
                                           "parameters",
                                           "loss",
                                           "limits.rounds",
                                           "data.images",
                                           NULL};
    result r = bench("", "train c.yaml " QUICK " --json r.json train.gradient_accumulation_steps=2");
    cr_assert_eq(r.code, 0, "%s", r.error);
    expect_words(r.out, said);
    expect_narrow(r.out);
    drop(&r);
    char *text = slurp("r.json");
    json_t *j = json_of(text);
    expect_about(j, "train");
    expect_positive(j, positive);
    const double median = number_at(j, "step_ms.median"), rate = number_at(j, "images_per_s.median");
    cr_expect_float_eq(rate * median / 1e3, 8, 1e-9, "two batches of 4 a step: %g", rate * median / 1e3);
    cr_expect(number_at(j, "images_per_s.p10") <= rate && rate <= number_at(j, "images_per_s.p90"));
    cr_expect_eq(number_at(j, "step"), 5, "the first, one to warm up, three");
    cr_expect_float_eq(number_at(j, "tflop_per_s") * median * 1e-3, 8e-3 * number_at(j, "gflop_per_image"), 1e-9);
    cr_expect_float_eq(number_at(j, "share_of_peak") * number_at(j, "peak.tflop_per_s"), number_at(j, "tflop_per_s"),
                       1e-9);
    cr_expect_gt(number_at(j, "memory.host_peak_bytes"), number_at(j, "memory.planned_bytes"));
    cr_expect(json_is_true(json_object_get(json_object_get(j, "data"), "synthetic")));
    json_decref(j);
    mem_free(text);
}

Test(bench_program, json_on_the_standard_output_is_alone_there)
{
    static const char *const positive[] = {"evaluation_ms.median", "loop_ms.median", "images_per_s.median", NULL};
    result r = bench("", "sample c.yaml " QUICK " --json -");
    cr_assert_eq(r.code, 0, "%s", r.error);
    json_t *j = json_of(r.out);
    expect_about(j, "sample");
    expect_positive(j, positive);
    cr_expect_eq(number_at(j, "steps"), 4);
    cr_expect(json_is_true(json_object_get(j, "whole_loops_timed")));
    cr_expect_float_eq(number_at(j, "images_per_s.median") * number_at(j, "loop_ms.median") / 1e3, 2, 1e-9);
    json_decref(j);
    drop(&r);
    r = bench("", "sample c.yaml rounds=3 warmup=1 seconds=0 --json - sample.num_inference_steps=0");
    cr_assert_eq(r.code, 0, "%s", r.error);
    j = json_of(r.out);
    cr_expect_eq(number_at(j, "steps"), 1000);
    cr_expect(json_is_false(json_object_get(j, "whole_loops_timed")), "1000 evaluations were reckoned from 3");
    cr_expect_float_eq(number_at(j, "loop_ms.median"), 1000 * number_at(j, "evaluation_ms.median"), 1e-6);
    json_decref(j);
    drop(&r);
}

static void expect_ops(const char *plan, const char *const *ops)
{
    result r = bench("", "ops c.yaml plan=%s top=3 " QUICK " --json r.json", plan);
    cr_assert_eq(r.code, 0, "%s", r.error);
    static const char *const said[] = {
        "GFLOP/s", "GB/s", "lost ms", "x roof", "more (top=0 shows all)", "forward ", "sum of the ops ", NULL};
    expect_words(r.out, said);
    expect_words(r.out, ops);
    expect_narrow(r.out);
    drop(&r);
    char *text = slurp("r.json");
    json_t *j = json_of(text), *op, *total;
    size_t i;
    int steps = 0;
    double before = INFINITY;
    expect_about(j, "ops");
    json_array_foreach(json_object_get(j, "ops"), i, op)
    {
        cr_expect(json_is_string(json_object_get(op, "layer")) && json_is_string(json_object_get(op, "op")));
        cr_expect(number_at(op, "time_ms.n") == 3 && number_at(op, "bytes") > 0 && number_at(op, "roofline_ms") > 0);
        cr_expect_leq(number_at(op, "lost_ms"), before, "most time above the roofline first");
        before = number_at(op, "lost_ms");
    }
    json_array_foreach(json_object_get(j, "totals"), i, total) steps += (int)number_at(total, "steps");
    cr_expect_eq((size_t)steps, json_array_size(json_object_get(j, "ops")));
    cr_expect_float_eq(number_at(j, "forward_ms") + number_at(j, "backward_ms") + number_at(j, "update_ms"),
                       number_at(j, "sum_of_ops_ms"), 1e-9);
    cr_expect_gt(number_at(j, "whole_ms.median"), 0);
    json_decref(j);
    mem_free(text);
}

Test(bench_program, ops_lists_the_parts_of_a_step)
{
    static const char *const training[] = {"conv2d_dw", "norm_act_bwd", "attention_bwd", "adamw", "backward", "update",
                                           NULL};
    static const char *const sampling[] = {"conv2d", "norm_act", "sampler_step", NULL};
    expect_ops("train", training);
    expect_ops("sample", sampling);
}

Test(bench_program, data_times_the_loader_alone_also_of_a_run)
{
    result r = bench("", "data c.yaml " QUICK " --json r.json data.cache_mb=0");
    cr_assert_eq(r.code, 0, "%s", r.error);
    cr_expect_null(strstr(r.out, "decoded in advance"));
    drop(&r);
    char *text = slurp("r.json");
    json_t *j = json_of(text);
    static const char *const positive[] = {"batch_ms.median", "images_per_s.median", "open_s", "data.images", NULL};
    expect_about(j, "data");
    expect_positive(j, positive);
    json_decref(j);
    mem_free(text);
    char command[1024];
    (void)snprintf(command, sizeof command, "cd %s && '%s' train c.yaml out=run train.steps=2 log.every=1 >log 2>&1",
                   root, DDPM_PROGRAM);
    cr_assert_eq(system(command), 0, "%s", slurp("log"));
    r = bench("", "data run data=real data.count=30 " QUICK " --json r.json");
    cr_assert_eq(r.code, 0, "%s", r.error);
    cr_expect_not_null(strstr(r.out, "by the last line of the run's"), "%s", r.out);
    cr_expect_not_null(strstr(r.out, "30 images of 8x8x1, real digits"), "%s", r.out);
    drop(&r);
    text = slurp("r.json");
    j = json_of(text);
    cr_expect_gt(number_at(j, "run_images_per_s"), 0);
    json_decref(j);
    mem_free(text);
    static const char *const kinds[] = {"train", "sample", "ops"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        r = bench("", "%s run rounds=1 warmup=1 seconds=1", kinds[i]);
        cr_expect_eq(r.code, 0, "%s of a run: %s", kinds[i], r.error);
        drop(&r);
    }
}

Test(bench_program, answers_on_request)
{
    result r = bench("2\\n1\\n", "train c.yaml serve=true warmup=1");
    cr_assert_eq(r.code, 0, "%s", r.error);
    json_t *line[3];
    int n = 0;
    for (char *at = strtok(r.out, "\n"); at && n < 3; at = strtok(NULL, "\n")) line[n++] = json_of(at);
    cr_assert_eq(n, 3);
    cr_expect(json_is_true(json_object_get(line[0], "ready")));
    for (int i = 1; i < 3; i++) {
        static const char *const positive[] = {"wall_ms", "host_peak_bytes", "planned_bytes",
                                               "loss",    "parameters",      NULL};
        expect_positive(line[i], positive);
        cr_expect_eq(number_at(line[i], "n"), 3 - i);
        cr_expect_eq(json_array_size(json_object_get(line[i], "ms")), (size_t)(3 - i));
    }
    cr_expect_eq(number_at(line[2], "step"), 5, "the first, one to warm up, 2 and 1");
    for (int i = 0; i < n; i++) json_decref(line[i]);
    drop(&r);
    r = bench("", "sample c.yaml serve=true warmup=1");
    cr_expect(r.code == 0 && strstr(r.out, "\"ready\":true"), "%s", r.error);
    drop(&r);
}

Test(bench_program, weights_are_those_that_a_run_begins_with)
{
    result r = bench("", "weights c.yaml save=w");
    cr_assert_eq(r.code, 0, "%s", r.error);
    drop(&r);
    /* as the first of a run from this seed: the same loss, to the last digit */
    result a = bench("1\\n", "train c.yaml serve=true warmup=1");
    result b = bench("1\\n", "train c.yaml serve=true warmup=1 model.init_from=w");
    cr_assert(a.code == 0 && b.code == 0, "%s%s", a.error, b.error);
    json_t *x = json_of(strchr(a.out, '\n') + 1), *y = json_of(strchr(b.out, '\n') + 1);
    cr_expect_eq(number_at(x, "loss"), number_at(y, "loss"));
    json_decref(x);
    json_decref(y);
    drop(&a);
    drop(&b);
}

/* faults A10: a result of its own is replaced, another file is not; a device or pipe is written into. */
Test(bench_program, json_goes_where_nobodys_file_is)
{
    char path[PATH_CAP];
    (void)snprintf(path, sizeof path, "%s/mine.json", root);
    cr_assert_eq(file_write(path, "{\"mine\": 1}", 11, false, &why), DDPM_OK, "%s", why.text);
    static const struct {
        const char *file, *more;
        int code;
    } tries[] = {{"r.json", "", 0},
                 {"r.json", "", 0},
                 {"mine.json", "", DDPM_EINVAL},
                 {"/dev/null", "", 0},
                 {"mine.json", "overwrite=true", 0}};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        result r = bench("", "data c.yaml rounds=1 warmup=1 seconds=1 --json %s %s", tries[i].file, tries[i].more);
        cr_expect_eq(r.code, tries[i].code, "%s: exit %d: %s", tries[i].file, r.code, r.error);
        if (tries[i].code) cr_expect_not_null(strstr(r.error, "mine.json: exists"), "%s", r.error);
        char *mine = slurp("mine.json");
        if (tries[i].code) cr_expect_str_eq(mine, "{\"mine\": 1}");
        mem_free(mine);
        drop(&r);
    }
    struct stat null;
    cr_expect(stat("/dev/null", &null) == 0 && S_ISCHR(null.st_mode));
    result r = bench("", "data c.yaml rounds=1 warmup=1 seconds=1 --json /dev/stdout");
    cr_assert_eq(r.code, 0, "%s", r.error);
    json_decref(json_of(r.out));
    drop(&r);
}

/* faults A11: a trained pipeline was overwritten with initial weights. */
Test(bench_program, weights_replace_no_pipeline_unasked)
{
    result r = bench("", "weights c.yaml save=w");
    cr_assert_eq(r.code, 0, "%s", r.error);
    drop(&r);
    char *weights, *now, path[PATH_CAP];
    size_t size, size_now;
    (void)snprintf(path, sizeof path, "%s/checkpoint/training", root);
    cr_assert_eq(dir_make(path, &why), DDPM_OK, "%s", why.text);
    (void)snprintf(path, sizeof path, "%s/w/unet/diffusion_pytorch_model.safetensors", root);
    cr_assert_eq(file_read(path, 1 << 24, &weights, &size, &why), DDPM_OK, "%s", why.text);
    static const struct {
        const char *more, *said;
        int code;
    } tries[] = {{"save=w", "w: is not empty", DDPM_EINVAL},
                 {"save=c.yaml", "c.yaml: cannot open the folder", DDPM_EIO},
                 {"save=. overwrite=true", "not part of a pipeline", DDPM_EINVAL},
                 {"save=checkpoint overwrite=true", "checkpoint/training: is not part of a pipeline", DDPM_EINVAL},
                 {"save=w overwrite=true model.init_from=nowhere", "nowhere", DDPM_ENOINPUT}};
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
        r = bench("", "weights c.yaml seed=7 %s", tries[i].more);
        cr_expect_eq(r.code, tries[i].code, "%s: exit %d: %s", tries[i].more, r.code, r.error);
        cr_expect_not_null(strstr(r.error, tries[i].said), "%s", r.error);
        drop(&r);
        cr_assert_eq(file_read(path, 1 << 24, &now, &size_now, &why), DDPM_OK, "%s", why.text);
        cr_expect(size == size_now && !memcmp(weights, now, size), "%s", tries[i].more);
        mem_free(now);
    }
    r = bench("", "weights c.yaml seed=7 save=w/ overwrite=true");
    cr_expect_eq(r.code, 0, "%s", r.error);
    drop(&r);
    cr_assert_eq(file_read(path, 1 << 24, &now, &size_now, &why), DDPM_OK, "%s", why.text);
    cr_expect(size == size_now && memcmp(weights, now, size));
    mem_free(now);
    mem_free(weights);
}

static const struct {
    const char *input, *words;
    int code;
    const char *said;
} wrong[] = {
    {"", "", DDPM_EINVAL, "ddpm bench needs train|sample|ops|data|weights CONFIG.yaml|RUN"},
    {"", "train", DDPM_EINVAL, "ddpm bench needs"},
    {"", "trian c.yaml", DDPM_EINVAL, "unknown benchmark 'trian'; choose train, sample, ops, data or weights"},
    {"", "train missing.yaml", DDPM_ENOINPUT, "missing.yaml"},
    {"", "sample missing", DDPM_ENOINPUT, "missing"},
    {"", "train c.yaml rounds=0", DDPM_EINVAL, "bench.rounds: 0 is out of range"},
    {"", "train c.yaml warmup=0", DDPM_EINVAL, "bench.warmup"},
    {"", "train c.yaml --json", DDPM_EINVAL, "--json: the file name is missing"},
    {"", "train c.yaml --json no/such/r.json", DDPM_EIO, "no/such/r.json: cannot write"},
    {"", "train c.yaml --json .", DDPM_EIO, ".: cannot write"},
    {"", "train c.yaml data=real data.kind=folder data.path=nowhere", DDPM_ENOINPUT, "nowhere"},
    {"", "train c.yaml data.kind=folder data.channels=0", DDPM_EINVAL, "set data.resolution and data.channels"},
    {"", "weights c.yaml", DDPM_EINVAL, "save=FOLDER is missing"},
    {"", "ops c.yaml serve=true", DDPM_EINVAL, "serve=true works only with train and sample"},
    {"", "train c.yaml device=cuda:x", DDPM_EINVAL, "device"},
    {"two\\n", "sample c.yaml serve=true warmup=1", DDPM_EINVAL, "a number of iterations from 1 to 100000"},
    {"0\\n", "sample c.yaml serve=true warmup=1", DDPM_EINVAL, "not '0'"},
    {"", "train c.yaml more.yaml x.yaml", DDPM_EINVAL, "takes 2 arguments"},
};

Test(bench_program, failures_are_one_line)
{
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        result r = bench(wrong[i].input, "%s", wrong[i].words);
        const char *end = strchr(r.error, '\n');
        cr_expect_eq(r.code, wrong[i].code, "bench %s: exit %d: %s", wrong[i].words, r.code, r.error);
        cr_expect(end && !end[1] && strstr(r.error, wrong[i].said), "bench %s: expected one line with '%s', got: %s",
                  wrong[i].words, wrong[i].said, r.error);
        drop(&r);
    }
}

Test(bench_program, help_has_examples)
{
    static const char *const said[] = {"ddpm bench train configs/quickstart.yaml",
                                       "train|sample|ops|data|weights",
                                       "--json FILE",
                                       "  rounds=100",
                                       "  seconds=10",
                                       "roofline",
                                       NULL};
    result r = bench("", "--help");
    cr_assert_eq(r.code, 0);
    expect_words(r.out, said);
    drop(&r);
}

/* The table of recorded figures and the program that appends to it agree on the columns. */
Test(bench_program, recorded_figures_have_all_fields)
{
    static const char columns[] = "date,machine,commit,work,config,batch,threads,variant,metric,value,p10,p90";
    char *text, *program;
    size_t size;
    int lines = 0;
    cr_assert_eq(file_read(DDPM_SOURCE "/bench/results.csv", 1 << 24, &text, &size, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(file_read(DDPM_SOURCE "/bench/compare", 1 << 24, &program, &size, &why), DDPM_OK, "%s", why.text);
    cr_expect_not_null(
        strstr(program, "COLUMNS = \"date machine commit work config batch threads variant metric value p10 p90\""));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        int commas = 0;
        bool quoted = false;
        for (const char *c = line; *c; c++) quoted ^= *c == '"', commas += *c == ',' && !quoted;
        cr_expect_eq(commas, 11, "line %d: %s", lines + 1, line);
        if (lines == 0) cr_expect_str_eq(line, columns);
    }
    cr_expect_gt(lines, 0);
    mem_free(text);
    mem_free(program);
}
