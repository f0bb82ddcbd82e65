/* Between two images: DDIM inversion and back returns them, and the way between leads from one to the other. */
#include "base/mem.h"
#include "data/image.h"
#include "sample/picture_source.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SIDE = 12, D = SIDE * SIDE, COUNT = 5 };

static err why;
static char root[PATH_CAP];
static backend *be;
static model *m;
static uint8_t *images; /* [20, 12, 12, 1], with which the network was trained */

static void open_model(void)
{
    char dir[PATH_CAP];
    safetensors *io = golden_open("trajectory/images.safetensors");
    images = golden_u8(io, "images", NULL);
    safetensors_close(io);
    scratch_make(root);
    be = test_backend(1);
    OK(model_load(be, golden_path(dir, "trajectory/epsilon_ema"), &m, NULL, &why));
}

static void close_model(void)
{
    mem_free(images);
    model_destroy(m);
    backend_destroy(be);
    scratch_remove(root);
}

TestSuite(inversion, .init = open_model, .fini = close_model, .timeout = 300);

static const char *put_image(const char *name, int which)
{
    const image img = {.h = SIDE, .w = SIDE, .c = 1, .pixel = images + which * D};
    OK(image_write_png(in_dir(root, name), &img, &why));
    return in_dir(root, name);
}

/* The DDIM that leads back, in two versions: ours, and one that a folder may ask for. */
static generator_spec ddim(int steps, bool of_folder)
{
    generator_spec to = {.batch = COUNT,
                         .h = SIDE,
                         .w = SIDE,
                         .weights = ARENA_PARAM,
                         .scheduler = sampler_config(SAMPLER_DDIM, &m->scheduler),
                         .sampler = sampler_spec_default(SAMPLER_DDIM, steps),
                         .start = GENERATOR_FROM_X};
    to.scheduler.clip_sample = false;
    if (!of_folder) return to;
    to.scheduler.set_alpha_to_one = false;
    to.scheduler.timestep_spacing = SCHEDULER_LINSPACE;
    to.sampler = sampler_spec_of(&to.scheduler, steps);
    return to;
}

/* The pictures on the way between images 3 and 8, as floats [COUNT, D]. */
static void way(generator_spec to, float *x, picture_source *s)
{
    static const int64_t ids[COUNT] = {0, 1, 2, 3, 4};
    char ends[2 * PATH_CAP];
    generator *g;
    generator_batch b;
    (void)snprintf(ends, sizeof ends, "%s,%s", put_image("a.png", 3), put_image("b.png", 8));
    const picture_source_spec spec = {.labels = "", .from = "", .mask = "", .between = ends, .count = COUNT};
    OK(picture_source_open(s, &spec, m, &to, &why));
    OK(picture_source_invert(s, m, &to, &why));
    OK(picture_source_batch(s, ids, COUNT, &b, &why));
    OK(generator_create(m, &to, &g, &why));
    OK(generator_allocate(g, &why));
    OK(generator_run(g, &b, x, &why));
    generator_destroy(g);
}

/* How far x is from a picture that the network knows: the root of the mean square, of values in [-1, 1]. */
static double distance(const float *x, int which)
{
    double sum = 0;
    for (int i = 0; i < D; i++) {
        const double d = (double)x[i] - ((double)images[which * D + i] / 127.5 - 1);
        sum += d * d;
    }
    return sqrt(sum / D);
}

static double norm(const float *x)
{
    double sum = 0;
    for (int i = 0; i < D; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* Both ways take the eps at the level where a step begins, so that the error falls as 1 / steps: measured are 1.1e-2 and
 * 1.9e-2 with all of the 1000 timesteps (1.4 and 2.4 of 255 levels) and 0.13 and 0.21 with 100. */
Test(inversion, both_images_come_back)
{
    static const struct {
        int steps;
        double bound;
    } ways[] = {{1000, 2.5e-2}, {100, 0.25}};
    double few = 0, many = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        float x[COUNT * D];
        picture_source s;
        way(ddim(ways[i].steps, false), x, &s);
        const double a = distance(x, 3), b = distance(x + (COUNT - 1) * D, 8);
        cr_expect(a < ways[i].bound && b < ways[i].bound, "%d steps: off by %.2e and %.2e", ways[i].steps, a, b);
        *(i ? &few : &many) = a + b;
        picture_source_close(&s);
    }
    cr_expect(few > 5 * many && few < 20 * many, "%g and %g", few, many);
}

Test(inversion, both_images_come_back_by_the_ddim_of_a_folder)
{
    float x[COUNT * D];
    picture_source s;
    way(ddim(300, true), x, &s);
    const double a = distance(x, 3), b = distance(x + (COUNT - 1) * D, 8);
    cr_expect(a < 0.1 && b < 0.1, "off by %.2e and %.2e", a, b);
    picture_source_close(&s);
}

/* On the way x_T keeps the norm of noise. */
Test(inversion, the_way_leads_from_one_to_the_other)
{
    float x[COUNT * D];
    picture_source s;
    way(ddim(20, false), x, &s);
    const double a = norm(s.images), b = norm(s.images + (COUNT - 1) * D);
    cr_expect(a > 0.5 * sqrt(D) && a < 2 * sqrt(D), "the x_T of an image has a norm of %.3f", a);
    for (int k = 0; k < COUNT; k++) {
        const double size = norm(s.images + k * D);
        cr_expect(size > 0.95 * fmin(a, b) && size < 1.05 * fmax(a, b), "%d: norm %.3f between %.3f and %.3f", k, size,
                  a, b);
        if (k == 0 || k + 1 == COUNT) continue;
        cr_expect(rel_l2(s.images + k * D, s.ends, D) > 0.1 && rel_l2(s.images + k * D, s.ends + D, D) > 0.1);
    }
    cr_expect_lt(rel_l2(s.images, s.ends, D), 1e-6);
    cr_expect_lt(rel_l2(s.images + (COUNT - 1) * D, s.ends + D, D), 1e-6);
    cr_expect(distance(x, 3) < distance(x, 8) && distance(x + (COUNT - 1) * D, 8) < distance(x + (COUNT - 1) * D, 3));
    picture_source_close(&s);
}
