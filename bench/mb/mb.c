/* mb.c - the microbenchmarks: mb NAME [--options] [CONFIG.yaml] [key=value ...]
 *
 * key=value are the program's own options (ddpm train --help); the options in dashes concern the measurement alone.
 * Exit code: 0, that of the failure, or 1 if a check failed. */
#include "base/clock.h"
#include "mb.h"
#ifdef MB_CUDA
#include "mb_cuda.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    mb_function *run;
    bool copy; /* measure the bandwidth of a copy first */
    const char *about;
} benchmarks[] = {
    {"norm", mb_norm, true, "mb2  group normalization of every shape of the network"},
    {"up", mb_up, false, "mb3  upsampling convolutions, folded and not"},
    {"attention", mb_attention, false, "mb4  attention, fused and from products"},
    {"overlap", mb_overlap, false, "mb7  a training step with and without each optimization"},
    {"sampling", mb_sampling, false, "mb9  network evaluations while sampling, by batch and kind of loop"},
    {"predict", mb_predict, false, "     the network of --weights applied to --images FILE, into --out FILE"},
#ifdef MB_CUDA
    {"device", mb_device, false, "     cuDNN's description of the device (--out FILE)"},
    {"ceilings", mb_ceilings, false, "     what the device copies and multiplies at most"},
    {"conv", mb_conv, true, "mb1  every plan of every convolution"},
    {"graph", mb_graph, false, "mb6  kernels and gaps of a training step"},
#endif
};
enum { BENCHMARKS = sizeof benchmarks / sizeof benchmarks[0] };

static int usage(FILE *to, int code)
{
    (void)fprintf(to, "usage: mb NAME [--options] [CONFIG.yaml] [key=value ...]\n\n");
    for (int i = 0; i < BENCHMARKS; i++) (void)fprintf(to, "  %-10s %s\n", benchmarks[i].name, benchmarks[i].about);
    (void)fprintf(to, "\n"
                      "  --json FILE       the result\n"
                      "  --device WORD     auto (default), cpu, cuda, cuda:N; --threads N for cpu\n"
                      "  --precision WORD  auto (default), fp32, tf32, bf16\n"
                      "  --only TEXT       rows whose name has it in it\n"
                      "  --repeats N       of each figure (20); --warmup N before it (3)\n"
                      "  --seconds S       begin no new row after so many (500)\n"
                      "  --weights DIR     of `predict`: pipeline folder; --images FILE its inputs\n"
                      "  --batches LIST    of `sampling` (1,16,64,256); --out PATH; --autotune FILE its cache\n");
    return code;
}

static precision_kind precision_of(const char *word)
{
    static const char *const names[] = {"auto", "fp32", "tf32", "bf16"};
    for (int k = 0; k < 4; k++)
        if (!strcmp(word, names[k])) return (precision_kind)k;
    return (precision_kind)-1;
}

typedef struct flag {
    const char *name;
    const char **text;
    int *number;
} flag;

/* Reads the option --name in argv[*i] and its value, which follows it. */
static ddpm_status read_flag(mb_options *o, int argc, char **argv, int *i, err *e)
{
    const char *precision = NULL, *seconds = NULL;
    const flag flags[] = {{"--json", &o->json, NULL},
                          {"--device", &o->backend.device, NULL},
                          {"--threads", NULL, &o->backend.threads},
                          {"--precision", &precision, NULL},
                          {"--only", &o->only, NULL},
                          {"--repeats", NULL, &o->repeats},
                          {"--warmup", NULL, &o->warmup},
                          {"--seconds", &seconds, NULL},
                          {"--weights", &o->weights, NULL},
                          {"--images", &o->images, NULL},
                          {"--batches", &o->batches, NULL},
                          {"--out", &o->out, NULL},
                          {"--autotune", &o->backend.autotune_cache, NULL}};
    for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++) {
        if (strcmp(argv[*i], flags[k].name) != 0) continue;
        if (++*i == argc) return err_set(e, DDPM_EINVAL, "%s: its value is missing", flags[k].name);
        if (flags[k].text) *flags[k].text = argv[*i];
        if (flags[k].number) *flags[k].number = atoi(argv[*i]);
        if (seconds) o->seconds = atof(seconds);
        if (precision) o->backend.precision = precision_of(precision);
        if ((int)o->backend.precision < 0)
            return err_set(e, DDPM_EINVAL, "--precision %s: fp32, tf32 or bf16", precision);
        return DDPM_OK;
    }
    return err_set(e, DDPM_EINVAL, "unknown flag %s; mb --help lists them", argv[*i]);
}

static ddpm_status read_arguments(mb_options *o, int argc, char **argv, err *e)
{
    for (int i = 2; i < argc; i++) {
        if (!strncmp(argv[i], "--", 2))
            TRY(read_flag(o, argc, argv, &i, e));
        else if (strchr(argv[i], '='))
            TRY(config_assign(&o->config, NULL, argv[i], e));
        else
            TRY(config_read_file(&o->config, argv[i], e));
    }
    if (o->repeats < 1 || o->warmup < 1) return err_set(e, DDPM_EINVAL, "--repeats and --warmup: at least 1");
    return config_check(&o->config, e);
}

static void describe(mb_run *r, const char *name)
{
    json_out *j = &r->json;
    char device[300];
    r->be->fn->describe(r->be, device, sizeof device);
    printf("%s: %s\n", name, device);
    json_out_text(j, "benchmark", name);
    json_out_text(j, "device", device);
    json_out_text(j, "config", r->o->config.files ? r->o->config.file[0] : "");
    json_out_int(j, "batch", r->o->config.train.batch);
    json_out_open(j, "image", '[');
    json_out_int(j, NULL, r->image.h);
    json_out_int(j, NULL, r->image.w);
    json_out_int(j, NULL, r->image.c);
    json_out_close(j, ']');
}

static ddpm_status run(mb_run *r, int which, err *e)
{
    const ddpm_config *c = &r->o->config;
    const int side = c->data.resolution ? c->data.resolution : 32;
    r->image = (image_shape){side, side, c->data.channels ? c->data.channels : 3, -1};
    TRY(backend_create(&r->o->backend, &r->be, e));
    describe(r, benchmarks[which].name);
#ifdef MB_CUDA
    (void)rt_use(((cuda_backend *)r->be)->device.index); /* benchmarks of primitives call below the backend's table */
    if (benchmarks[which].copy) TRY(mb_measure_copy(r, e));
#endif
    return benchmarks[which].run(r, e);
}

/* Results obtained before a failure are written too. */
static ddpm_status run_and_write(const mb_options *o, int which, int *wrong, err *e)
{
    err lost = {.status = DDPM_OK};
    mb_run r = {.o = o, .json = json_out_begin(false, &lost), .begin = clock_seconds()};
    json_out_open(&r.json, NULL, '{');
    const ddpm_status st = run(&r, which, e);
    json_out_text(&r.json, "status", err_name(st));
    if (st != DDPM_OK) json_out_text(&r.json, "message", e->text);
    json_out_int(&r.json, "wrong", r.wrong);
    json_out_real(&r.json, "seconds", clock_seconds() - r.begin);
    json_out_close(&r.json, '}');
    backend_destroy(r.be);
    *wrong = r.wrong;
    char *text;
    size_t size;
    if (json_out_finish(&r.json, &text, &size) != DDPM_OK)
        return err_set(e, lost.status, "the result cannot be written as JSON: %s", lost.text);
    const ddpm_status written = o->json[0] ? file_write(o->json, text, size, false, st == DDPM_OK ? e : NULL) : DDPM_OK;
    free(text);
    return st != DDPM_OK ? st : written;
}

int main(int argc, char **argv)
{
    static mb_options o = {.backend = {.device = "auto"},
                           .json = "",
                           .only = "",
                           .weights = "",
                           .images = "",
                           .out = "",
                           .batches = "1,16,64,256",
                           .repeats = 20,
                           .warmup = 3,
                           .seconds = 500};
    err e = {.status = DDPM_OK};
    int which = 0, wrong = 0;
    if (argc < 2) return usage(stderr, DDPM_EINVAL);
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return usage(stdout, 0);
    while (which < BENCHMARKS && strcmp(argv[1], benchmarks[which].name) != 0) which++;
    if (which == BENCHMARKS) return usage(stderr, DDPM_EINVAL);
    config_defaults(&o.config);
    ddpm_status st = read_arguments(&o, argc, argv, &e);
    if (st == DDPM_OK) st = run_and_write(&o, which, &wrong, &e);
    if (st != DDPM_OK) (void)fprintf(stderr, "mb: %s\n", e.text);
    return st != DDPM_OK ? (int)st : wrong > 0;
}
