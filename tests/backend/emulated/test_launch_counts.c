/* What a training step of the shipped configurations launches, counted on the emulated device against the numbers that
 * bench/mb/predictions.h predicts from.
 *
 * The steps have their real sizes and an H200's properties; their work is counted and not done.  Counted is a step that
 * replays its graph.  The log lists the launches by name. */
#include "backend/cuda/cuda_backend.h"
#include "bench/bench.h"
#include "emu/emu_control.h"
#include "mb/predictions.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static err why;

/* Kinds of work by the beginning of the names; what no row names is one of our kernels. */
enum { CONVOLUTION, PRODUCT, ATTENTION, ATTENTION_BACKWARD, COPY, OWN, KINDS };
static const char *const kind_prefix[KINDS] = {"conv:", "gemm:", "sdpa:forward:", "sdpa:backward:", "rt_", ""};
static const char *const kind_name[KINDS] = {"cuDNN, convolutions",
                                             "cuBLASLt, products",
                                             "cuDNN, attention",
                                             "cuDNN, attention's gradients",
                                             "copies and fills, which are no kernels",
                                             "our kernels"};

enum { NAMES = 64, NAME = 64 };
typedef struct launches {
    int of[KINDS];
    struct {
        char text[NAME];
        int times;
    } own[NAMES]; /* our kernels by name, the instances of a template together */
    int names;
} launches;

static void count_own(launches *all, const char *name, int times)
{
    char text[NAME];
    int i = 0;
    (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(name + (name[0] == '('), "<)"), name + (name[0] == '('));
    while (i < all->names && strcmp(all->own[i].text, text) != 0) i++;
    cr_assert_lt(i, NAMES);
    if (i == all->names) memcpy(all->own[all->names++].text, text, sizeof text);
    all->own[i].times += times;
}

static void count(void *context, const char *name, int times)
{
    launches *all = context;
    int kind = 0;
    while (strncmp(name, kind_prefix[kind], strlen(kind_prefix[kind])) != 0) kind++;
    all->of[kind] += times;
    if (kind == OWN) count_own(all, name, times);
}

static void an_h200(void)
{
    emu_device *d = emu_get_device();
    d->sms = 132;
    d->l2 = (size_t)50 << 20;
    d->total = (size_t)140 << 30;
    d->attention = 256;
    emu_count_only(true);
}

static void read_config(const predicted_step *p, ddpm_config *c)
{
    char path[64], batch[32];
    config_defaults(c);
    (void)snprintf(path, sizeof path, "configs/%s.yaml", p->config);
    (void)snprintf(batch, sizeof batch, "train.batch=%d", p->batch);
    OK(config_read_file(c, path, &why));
    config_put(c, batch);
    config_put(c, "bench.data=synthetic");
    OK(config_check(c, &why));
}

/* The launches of one step, after one that ran eagerly and one that captured the graph. */
static launches of_step(const ddpm_config *c)
{
    launches all = {.names = 0};
    backend *be;
    bench_train b;
    double ms[2], wall_ms;
    const backend_spec spec = {
        .device = "cuda", .threads = 2, .precision = PRECISION_BF16, .disabled = CUDA_OPT_TUNING};
    OK(backend_create(&spec, &be, &why));
    OK(bench_train_create(c, be, &b, &why));
    OK(bench_train_iterations(&b, 1, ms, &wall_ms, &why));
    emu_count_only(true); /* forgets those two */
    OK(bench_train_iterations(&b, 1, ms, &wall_ms, &why));
    emu_counted(count, &all);
    bench_train_destroy(&b);
    backend_destroy(be);
    return all;
}

static void print(const char *config, const launches *all)
{
    for (int i = 0; i < all->names; i++) printf("%s: %4d  %s\n", config, all->own[i].times, all->own[i].text);
    for (int i = 0; i < KINDS; i++) printf("%s: %4d  %s\n", config, all->of[i], kind_name[i]);
}

static void expect_predicted(const predicted_step *p)
{
    static ddpm_config c;
    an_h200();
    read_config(p, &c);
    const launches all = of_step(&c);
    const predicted_launches found = {all.of[OWN], all.of[CONVOLUTION], all.of[PRODUCT], all.of[ATTENTION],
                                      all.of[ATTENTION_BACKWARD]};
    print(p->config, &all);
    cr_expect_eq(memcmp(&found, &p->launches, sizeof found), 0,
                 "%s launches {%d, %d, %d, %d, %d}: write that into bench/mb/predictions.h if it is intended",
                 p->config, found.own, found.convolutions, found.products, found.attention, found.attention_backward);
    emu_reset();
}

Test(launch_counts, of_the_shipped_configurations_are_those_predicted, .timeout = 900)
{
    for (int i = 0; i < PREDICTED_STEPS; i++) expect_predicted(&predicted_steps[i]);
}
