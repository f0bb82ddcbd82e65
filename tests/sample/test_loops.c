/* Whole sampling loops against those of diffusers, with its networks' weights and our noise: every scheduler class,
 * guidance, thresholding, images to start from and masks (make_loops.py). */
#include "base/file.h"
#include "base/mem.h"
#include "sample/generator.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 3, MOST_CASES = 200, LINE = 8000 };
#define LOOPS     DDPM_TESTS "/sample/loops/"
#define TOLERANCE test_network_bound(1e-4, 0.25)
static const uint64_t SEED = 77;
static const int64_t ids[N] = {0, 5, 4000000000};
static const int labels[N] = {2, 0, 3};

static err why; /* each test is a process of its own */

typedef struct loop_case {
    char name[80], net[40];
    int steps, masked;
    double eta, guidance, low, high, rescale, strength;
    char scheduler[LINE]; /* JSON */
} loop_case;

static loop_case cases[MOST_CASES];

static int read_cases(void)
{
    FILE *f = fopen(LOOPS "cases.txt", "r");
    int n = 0;
    cr_assert_not_null(f);
    for (loop_case *c = cases;
         n < MOST_CASES &&
         fscanf(f, "%79s %39s %d %lf %lf %lf %lf %lf %lf %d %7999[^\n]", c->name, c->net, &c->steps, &c->eta,
                &c->guidance, &c->low, &c->high, &c->rescale, &c->strength, &c->masked, c->scheduler) == 11;
         c++)
        n++;
    fclose(f);
    return n;
}

static void folder_of(const char *name, char out[PATH_CAP])
{
    static const char *const golden[][2] = {{"epsilon", "trajectory/epsilon_ema"},
                                            {"sample", "trajectory/sample"},
                                            {"v_prediction", "trajectory/v_prediction"},
                                            {"learned", "unet_no_mid_out_6"}};
    (void)snprintf(out, PATH_CAP, LOOPS "%s", name);
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++)
        if (!strcmp(name, golden[i][0])) (void)golden_path(out, golden[i][1]);
}

static model *load(backend *be, const char *name, const scheduler_config *scheduler)
{
    char dir[PATH_CAP], path[2 * PATH_CAP];
    network net = {.kind = NETWORK_UNET};
    model *m;
    folder_of(name, dir);
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    OK(unet_config_read(path, &net.unet, NULL, &why));
    OK(model_create(be, &net, scheduler, &m, &why));
    OK(params_allocate(m->store, false, false, &why));
    (void)snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    OK(params_load(m->store, ARENA_PARAM, path, NULL, &why));
    return m;
}

static generator_spec spec_of(const loop_case *c, const model *m)
{
    generator_spec s = {.batch = N,
                        .seed = SEED,
                        .weights = ARENA_PARAM,
                        .scheduler = m->scheduler,
                        .sampler = sampler_spec_of(&m->scheduler, c->steps),
                        .guidance = {c->guidance, c->low, c->high, c->rescale, 4},
                        .masked = c->masked};
    if (c->eta >= 0) s.sampler.eta = c->eta;
    if (c->strength > 0) generator_spec_start(&s, c->strength);
    model_image_size(m, &s.h, &s.w);
    return s;
}

/* All but a rectangle stays. */
static void set_mask(generator *g, const generator_spec *s)
{
    uint8_t mask[12 * 12] = {0};
    for (int i = 2; i < s->h - 3; i++)
        for (int j = 3; j < s->w - 2; j++) mask[i * s->w + j] = 1;
    OK(generator_set_mask(g, mask, &why));
}

/* The emulated device takes seconds for a loop; there one case stands for each feature of the sampler's kernels.  In bf16
 * the deviations grow with every evaluation, and guidance multiplies them: this network has random weights. */
static const struct {
    const char *name;
    double bf16; /* bound */
} chosen[] = {{"DDPM_5", 0.03},
              {"HeunDiscrete_5", 0.03},
              {"UniPCMultistep_5", 0.03},
              {"DDPM_learned_range", 0.03},
              {"DDIM_strength_mask", 0.03},
              {"DDIM_guidance_thresholding", 0.5}};

static int chosen_case(const loop_case *c) /* -1: none */
{
    for (int i = 0; i < (int)(sizeof chosen / sizeof *chosen); i++)
        if (!strcmp(c->name, chosen[i].name)) return i;
    return -1;
}

static bool is_left_out(const loop_case *c) { return strcmp(test_device(), "cpu") != 0 && chosen_case(c) < 0; }

static void check(const loop_case *c, const safetensors *io, const float *got)
{
    int64_t n = 0;
    float *want = golden_f32(io, c->name, &n);
    const int low = chosen_case(c);
    const double error = rel_l2(got, want, n), bound = test_network_bound(1e-4, low < 0 ? 0.03 : chosen[low].bf16);
    cr_log_info("%s: off by %.2e", c->name, error);
    cr_expect(error <= bound, "%s: off by %.2e", c->name, error);
    mem_free(want);
}

static void run_case(const loop_case *c, backend *be, const safetensors *io)
{
    scheduler_config scheduler;
    OK(scheduler_config_parse(c->scheduler, strlen(c->scheduler), c->name, &scheduler, NULL, &why));
    model *m = load(be, c->net, &scheduler);
    generator *g;
    generator_spec spec = spec_of(c, m);
    char images_name[60];
    (void)snprintf(images_name, sizeof images_name, "images_%dx%dx%d", spec.h, spec.w, m->net.unet.in_channels);
    float *images = golden_f32(io, images_name, NULL), got[N * 8 * 8 * 3];
    OK(generator_create(m, &spec, &g, &why));
    OK(generator_allocate(g, &why));
    if (c->masked) set_mask(g, &spec);
    const generator_batch batch = {
        .n = N, .ids = ids, .labels = m->net.unet.num_class_embeds ? labels : NULL, .images = images};
    OK(generator_run(g, &batch, got, &why));
    check(c, io, got);
    mem_free(images);
    generator_destroy(g);
    model_destroy(m);
}

enum { SHARES = 6 }; /* the cases are divided among so many processes */

ParameterizedTestParameters(loops, equal_those_of_diffusers)
{
    static int share[SHARES];
    for (int i = 0; i < SHARES; i++) share[i] = i;
    return cr_make_param_array(int, share, SHARES);
}
ParameterizedTest(const int *share, loops, equal_those_of_diffusers)
{
    const int n = read_cases();
    backend *be = test_backend(1);
    safetensors *io = NULL;
    OK(safetensors_open(LOOPS "images.safetensors", &io, &why));
    cr_assert_geq(n, 80);
    for (int i = *share; i < n; i += SHARES)
        if (!is_left_out(&cases[i])) run_case(&cases[i], be, io);
    safetensors_close(io);
    backend_destroy(be);
}
