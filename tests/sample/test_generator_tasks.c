/* Guidance, labels, images to start from, masks and film strips: what an image may depend on, what each costs, and what
 * is refused.  The numbers are those of test_loops.c. */
#include "base/mem.h"
#include "ir/operands.h"
#include "sample/film.h"
#include "data/image.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 8, C = 3, PIXELS = SIDE * SIDE, D = PIXELS * C, N = 5, STEPS = 6 };
#define CLASSES DDPM_TESTS "/sample/loops/classes" /* a network of 8x8 pixels, 3 channels and 5 classes */
static const int64_t ids[N] = {3, 9, 4294967295, 0, 17};
static const int labels[N] = {2, 0, 3, -1, 1};

static err why;
static backend *be;
static model *m;
static float images[N * D]; /* to start from, of bytes */
static uint8_t mask[PIXELS];

static void open_model(void)
{
    be = test_backend(1);
    OK(model_load(be, CLASSES, &m, NULL, &why));
    for (int i = 0; i < N * D; i++) images[i] = (float)((7 * i + i * i % 101) % 256) / 127.5f - 1.0f;
    for (int i = 0; i < PIXELS; i++) mask[i] = i % SIDE > 2 && i / SIDE > 1;
}

static void close_model(void)
{
    model_destroy(m);
    backend_destroy(be);
}

TestSuite(generator_tasks, .init = open_model, .fini = close_model, .timeout = 300);

static generator_spec spec_of(sampler_kind k, int batch, int steps)
{
    return (generator_spec){.batch = batch,
                            .h = SIDE,
                            .w = SIDE,
                            .seed = 5,
                            .weights = ARENA_PARAM,
                            .scheduler = sampler_config(k, &m->scheduler),
                            .sampler = sampler_spec_default(k, steps)};
}

static const generator_guidance strongly = {.scale = 3, .rescale = 0.3, .high = 1e6, .null_class = 4};

static generator *create(const generator_spec *s)
{
    generator *g;
    OK(generator_create(m, s, &g, &why));
    OK(generator_allocate(g, &why));
    if (s->masked) OK(generator_set_mask(g, mask, &why));
    return g;
}

/* The first n of the images, in batches. */
static void draw(generator *g, const generator_spec *s, int n, float *x)
{
    for (int at = 0, some; at < n; at += some) {
        some = n - at < s->batch ? n - at : s->batch;
        const bool edits = s->start != GENERATOR_FROM_NOISE || s->masked;
        const generator_batch b = {
            .n = some, .ids = ids + at, .labels = labels + at, .images = edits ? images + at * D : NULL};
        OK(generator_run(g, &b, x + at * D, &why));
    }
}

static void draw_once(const generator_spec *s, int n, float *x)
{
    generator *g = create(s);
    draw(g, s, n, x);
    generator_destroy(g);
}

static void refused(const generator_spec *s, const char *said)
{
    generator *g;
    why.text[0] = '\0';
    cr_expect_eq(generator_create(m, s, &g, &why), DDPM_EINVAL, "%s: %s", said, why.text);
    cr_expect(strstr(why.text, said) && !strchr(why.text, '\n'), "'%s' instead of '%s'", why.text, said);
    cr_expect_null(g);
    generator_destroy(g);
}

/* ---- an image belongs to its id, label and image alone ---- */

static void expect_any_batch(generator_spec s, const char *what)
{
    static float all[N * D], some[N * D];
    s.batch = N;
    draw_once(&s, N, all);
    for (int batch = 1; batch <= 4; batch += batch) { /* 3 of a batch of 4 are repetitions once */
        s.batch = batch;
        draw_once(&s, N, some);
        for (int i = 0; i < N; i++) {
            const double error = rel_l2(some + i * D, all + i * D, D);
            cr_expect(error <= test_network_bound(2e-5, 0.1), "%s: image %d of batches of %d is off by %.2e", what, i,
                      batch, error);
        }
    }
    for (int i = 1; i < N; i++) cr_expect(rel_l2(all + i * D, all, D) > 0.05, "%s: images 0 and %d are one", what, i);
}

Test(generator_tasks, images_do_not_depend_on_the_batch)
{
    generator_spec s = spec_of(SAMPLER_DDPM, N, STEPS);
    expect_any_batch(s, "labels");
    s.guidance = strongly;
    expect_any_batch(s, "guidance");
    s.scheduler.thresholding = true, s.scheduler.sample_max_value = 2;
    expect_any_batch(s, "thresholding");
    s = spec_of(SAMPLER_UNIPC, N, STEPS);
    generator_spec_start(&s, 0.7);
    expect_any_batch(s, "from images");
    s = spec_of(SAMPLER_DDIM, N, STEPS);
    s.masked = true, s.jump_length = 2, s.jump_n_sample = 2;
    expect_any_batch(s, "a mask");
    s.guidance = strongly;
    generator_spec_start(&s, 0.7);
    expect_any_batch(s, "all of it");
    s = spec_of(SAMPLER_DDIM, N, STEPS);
    s.start = GENERATOR_FROM_X;
    expect_any_batch(s, "from x");
}

/* ---- guidance ---- */

static const tensor *x_of(const generator *g)
{
    const plan *p = generator_plan(g);
    const step *s = p->steps[p->n_step - 1];
    cr_assert_eq(s->op, OP_sampler_step);
    return s->out[SAMPLER_STEP_X];
}

Test(generator_tasks, guidance_1_has_no_second_half)
{
    float none[N * D], one[N * D], with[N * D];
    generator_spec s = spec_of(SAMPLER_DDIM, N, STEPS);
    generator *plain = create(&s);
    s.guidance = strongly, s.guidance.scale = 1;
    generator *g1 = create(&s);
    s.guidance.scale = 3;
    generator *g3 = create(&s);
    cr_expect_eq(x_of(plain)->n, N);
    cr_expect_eq(x_of(g1)->n, N);
    cr_expect_eq(x_of(g3)->n, 2 * N);
    cr_expect_eq(generator_bytes(g1), generator_bytes(plain));
    cr_expect_eq(generator_flops(g1), generator_flops(plain));
    cr_expect(generator_flops(g3) > 1.9 * generator_flops(g1));
    cr_expect_eq(generator_steps(g3), STEPS);
    draw(plain, &s, N, none);
    draw(g1, &s, N, one);
    draw(g3, &s, N, with);
    cr_expect_arr_eq(none, one, sizeof one);
    cr_expect(rel_l2(with, one, N * D) > 0.01);
    generator_destroy(plain);
    generator_destroy(g1);
    generator_destroy(g3);
}

/* Guidance of nothing: with the null class as the label both evaluations are the same. */
Test(generator_tasks, an_image_without_labels_has_the_null_class_if_guided)
{
    static const int null[N] = {4, 4, 4, 4, 4};
    float guided_x[N * D], plain_x[N * D], null_x[N * D], bare[N * D];
    generator_spec s = spec_of(SAMPLER_DDIM, N, STEPS);
    generator *plain = create(&s);
    s.guidance = (generator_guidance){.scale = 4, .null_class = 4};
    generator *g = create(&s);
    OK(generator_run(g, &(generator_batch){.n = N, .ids = ids}, guided_x, &why));
    OK(generator_run(g, &(generator_batch){.n = N, .ids = ids, .labels = null}, null_x, &why));
    OK(generator_run(plain, &(generator_batch){.n = N, .ids = ids, .labels = null}, plain_x, &why));
    OK(generator_run(plain, &(generator_batch){.n = N, .ids = ids}, bare, &why));
    cr_expect_arr_eq(guided_x, null_x, sizeof null_x);
    cr_expect(rel_l2(guided_x, plain_x, N * D) < test_network_bound(1e-4, 0.25), "%g",
              rel_l2(guided_x, plain_x, N * D));
    cr_expect(rel_l2(bare, plain_x, N * D) > 0.01);
    generator_destroy(plain);
    generator_destroy(g);
}

/* Rows outside of the interval are as without guidance: an interval below all levels is none. */
Test(generator_tasks, guidance_acts_in_its_interval_alone)
{
    static const struct {
        double low, high;
        int rows;
    } intervals[] = {{0, 0, STEPS}, {0, 1e6, STEPS}, {0, 1e-6, 0}, {1e6, 1e6, 0}, {0.5, 5, -1}};
    for (size_t i = 0; i < sizeof intervals / sizeof *intervals; i++) {
        generator_spec s = spec_of(SAMPLER_DDIM, 1, STEPS);
        s.guidance = strongly;
        s.guidance.low = intervals[i].low, s.guidance.high = intervals[i].high;
        generator *g = create(&s);
        const sampler_table *t = generator_table(g);
        int rows = 0;
        for (int k = 0; k < t->n; k++) {
            const double sigma =
                (k ? (double)t->rows[k - 1].noise : t->noise) / (k ? (double)t->rows[k - 1].signal : t->signal);
            if (intervals[i].rows < 0)
                cr_expect_eq(t->rows[k].guidance, sigma > 0.5 && sigma <= 5 ? 3 : 1, "row %d, sigma %g", k, sigma);
            rows += t->rows[k].guidance == 3;
        }
        if (intervals[i].rows < 0)
            cr_expect(rows > 0 && rows < STEPS, "%d", rows);
        else
            cr_expect_eq(rows, intervals[i].rows, "(%g, %g]: %d rows", intervals[i].low, intervals[i].high, rows);
        generator_destroy(g);
    }
}

Test(generator_tasks, what_cannot_be_guided_is_refused)
{
    generator_spec s = spec_of(SAMPLER_DDIM, 1, STEPS);
    s.guidance = strongly, s.guidance.null_class = 5;
    refused(&s, "null_class 5 is not below num_class_embeds = 5");
    s.guidance.null_class = -1; /* no embedding */
    generator *g = create(&s);
    generator_destroy(g);
    model *all = m, *none;
    network net = m->net;
    net.unet.num_class_embeds = 0;
    OK(model_create(be, &net, &m->scheduler, &none, &why));
    m = none;
    s.guidance.scale = 2.5;
    refused(&s, "guidance 2.5 needs a network with classes, and this one has none; set guidance=1");
    m = all;
    model_destroy(none);
}

Test(generator_tasks, labels_that_are_no_classes_are_refused)
{
    static const int bad[] = {5, -2, 1000000};
    float x[D];
    const generator_spec s = spec_of(SAMPLER_DDIM, 1, STEPS);
    generator *g = create(&s);
    for (int i = 0; i < 3; i++) {
        const generator_batch b = {.n = 1, .ids = ids, .labels = &bad[i]};
        cr_expect_eq(generator_run(g, &b, x, &why), DDPM_EINVAL);
        cr_expect_not_null(strstr(why.text, "is not in [0, 5), the classes of the network"), "%s", why.text);
    }
    OK(generator_run(g, &(generator_batch){.n = 1, .ids = ids, .labels = labels}, x, &why));
    generator_destroy(g);
}

Test(generator_tasks, batches_that_do_not_fit_the_generator_are_refused)
{
    float x[N * D];
    generator_spec s = spec_of(SAMPLER_DDIM, 2, STEPS);
    generator *g = create(&s);
    cr_expect_eq(generator_run(g, &(generator_batch){.n = 3, .ids = ids}, x, &why), DDPM_EINVAL);
    cr_expect_eq(generator_run(g, &(generator_batch){.n = 0, .ids = ids}, x, &why), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "a batch of 0 images; the generator was created for 1 to 2"), "%s", why.text);
    generator_destroy(g);
    generator_spec_start(&s, 0.5);
    g = create(&s);
    cr_expect_eq(generator_run(g, &(generator_batch){.n = 2, .ids = ids}, x, &why), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "start from images, and none are given"), "%s", why.text);
    generator_destroy(g);
}

/* ---- memory ---- */

static const backend_table *table_of_be;
static size_t counted;

static ddpm_status count_bytes(backend *b, size_t bytes, void **out, err *e)
{
    counted += bytes;
    return table_of_be->alloc(b, bytes, out, e);
}

/* Each of the arenas has MEM_ALIGN bytes more. */
Test(generator_tasks, the_memory_that_is_told_is_taken)
{
    backend_table counting = *be->fn;
    table_of_be = be->fn;
    counting.alloc = count_bytes;
    size_t least = 0;
    for (int kinds = 0; kinds < 16; kinds++) {
        generator_spec s = spec_of(kinds & 1 ? SAMPLER_UNIPC : SAMPLER_DDPM, N, STEPS);
        if (kinds & 2) s.guidance = strongly;
        if (kinds & 4) s.masked = true;
        s.watched = kinds & 8;
        generator *g;
        OK(generator_create(m, &s, &g, &why));
        const size_t told = generator_bytes(g);
        cr_expect_eq(generator_bytes_left(g), told, "kinds %d", kinds);
        counted = 0;
        be->fn = &counting;
        OK(generator_allocate(g, &why));
        be->fn = table_of_be;
        cr_expect(counted >= told && counted <= told + 6 * MEM_ALIGN, "kinds %d: %zu told, %zu taken", kinds, told,
                  counted);
        if (kinds == 0) least = told;
        const size_t per_image = (size_t)N * D * sizeof(float);
        const size_t slots = kinds & 1 ? (size_t)generator_table(g)->slots : 0;
        cr_expect_geq(told, least + per_image * (slots + (kinds & 4 ? 1 : 0) + (kinds & 8 ? 1 : 0)), "kinds %d", kinds);
        if (kinds & 1) cr_expect_gt(slots, 1);
        generator_destroy(g);
    }
}

/* ---- film ---- */

enum { MOST_MOMENTS = 20 };
typedef struct recorder {
    int calls, fail_at;
    float x[MOST_MOMENTS][N * D], x0[MOST_MOMENTS][N * D];
} recorder;
static recorder film_a, film_b;

static ddpm_status record(void *context, int moment, int n, const float *x, const float *x0, err *e)
{
    recorder *r = context;
    cr_assert_eq(moment, r->calls);
    cr_assert_lt(moment, MOST_MOMENTS);
    memcpy(r->x[moment], x, (size_t)n * D * sizeof *x);
    memcpy(r->x0[moment], x0, (size_t)n * D * sizeof *x0);
    r->calls++;
    return r->calls == r->fail_at ? err_set(e, DDPM_EIO, "the strip is torn") : DDPM_OK;
}

/* A frame of every row, then other numbers of moments: frame k of m is after row ceil(n (k + 1) / m). */
Test(generator_tasks, the_moments_of_a_film_are_even_and_the_last_is_the_result)
{
    static const int moments[] = {1, 2, 4, 5, 6, 7, 13, 20};
    float x[N * D];
    generator_spec s = spec_of(SAMPLER_DDPM, N, STEPS);
    s.watched = true;
    s.guidance = strongly;
    generator *g = create(&s);
    generator_film(g, STEPS, record, &film_a);
    draw(g, &s, 4, x); /* one entry of the batch repeats another */
    cr_assert_eq(film_a.calls, STEPS);
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        film_b.calls = 0;
        generator_film(g, moments[i], record, &film_b);
        draw(g, &s, 4, x);
        cr_assert_eq(film_b.calls, moments[i], "%d of %d moments", film_b.calls, moments[i]);
        for (int k = 0; k < moments[i]; k++) {
            const int row = (STEPS * (k + 1) + moments[i] - 1) / moments[i];
            cr_expect_arr_eq(film_b.x[k], film_a.x[row - 1], 4 * D * sizeof(float), "moment %d of %d", k, moments[i]);
            cr_expect_arr_eq(film_b.x0[k], film_a.x0[row - 1], 4 * D * sizeof(float));
        }
        cr_expect_arr_eq(film_b.x[moments[i] - 1], x, 4 * D * sizeof *x);
        cr_expect_arr_eq(film_b.x0[moments[i] - 1], x, 4 * D * sizeof *x, "the last row of ddpm ends at x0_hat");
    }
    film_b.calls = 0;
    generator_film(g, 0, NULL, NULL);
    draw(g, &s, 4, x);
    cr_expect_eq(film_b.calls, 0);
    generator_destroy(g);
}

Test(generator_tasks, a_frame_that_fails_ends_the_run)
{
    float x[D];
    generator_spec s = spec_of(SAMPLER_DDPM, 1, STEPS);
    s.watched = true;
    generator *g = create(&s);
    film_a = (recorder){.fail_at = 2};
    generator_film(g, 3, record, &film_a);
    cr_expect_eq(generator_run(g, &(generator_batch){.n = 1, .ids = ids}, x, &why), DDPM_EIO);
    cr_expect_str_eq(why.text, "the strip is torn");
    cr_expect_eq(film_a.calls, 2);
    generator_destroy(g);
}

/* Two rows a picture, x_t and x0_hat, with 2 black pixels between; at the right is the picture itself. */
Test(generator_tasks, a_strip_shows_the_pictures_at_its_right)
{
    enum { MOMENTS = 3, PICTURES = 2, CELL = SIDE + 2 };
    film f = {0};
    image strip = {0};
    uint8_t bytes[N * D], *png;
    size_t size;
    generator_spec s = spec_of(SAMPLER_DDPM, N, STEPS);
    s.watched = true;
    generator *g = create(&s);
    OK(film_create(&f, &s, C, PICTURES, MOMENTS, &why));
    film_record(&f, g);
    OK(generator_run_bytes(g, &(generator_batch){.n = N, .ids = ids, .labels = labels}, bytes, &why));
    OK(film_encode(&f, &png, &size, &why));
    OK(image_decode(png, size, "strip", &strip, &why));
    cr_assert(strip.w == MOMENTS * CELL + 2 && strip.h == 2 * PICTURES * CELL + 2 && strip.c == C, "%d x %d", strip.w,
              strip.h);
    for (int p = 0; p < 2 * PICTURES; p++)
        for (int i = 0; i < D; i++) {
            const int y = p * CELL + 2 + i / (SIDE * C), x = (MOMENTS - 1) * CELL + 2 + i / C % SIDE;
            cr_assert_eq(strip.pixel[(y * strip.w + x) * C + i % C], bytes[p / 2 * D + i], "row %d at %d", p, i);
        }
    free(png);
    image_free(&strip);
    film_free(&f);
    generator_destroy(g);
}

Test(generator_tasks, a_strip_has_the_pictures_of_a_batch_at_most)
{
    film f = {0};
    generator_spec s = spec_of(SAMPLER_DDPM, 3, STEPS);
    OK(film_create(&f, &s, C, 100, 64, &why));
    cr_expect_eq(f.pictures, 3);
    film_free(&f);
    s.batch = 100;
    OK(film_create(&f, &s, C, 100, 64, &why));
    cr_expect_eq(f.pictures, FILM_PICTURES);
    film_free(&f);
    s.h = s.w = 512;
    cr_expect_eq(film_create(&f, &s, C, 100, 64, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "trajectory=64: the strip of 8 pictures of 512 x 512 would be too large");
    film_free(&f);
}

/* ---- masks ---- */

static bool runs_on_betas(sampler_kind k)
{
    err ignored;
    return sampler_accepts(k, &m->scheduler, &ignored) == DDPM_OK && k != SAMPLER_DDIM_INVERSE;
}

Test(generator_tasks, what_the_mask_keeps_is_the_image_to_the_bit)
{
    float x[2 * D];
    uint8_t bytes[2 * D], want[2 * D];
    generator_to_bytes(images, 2 * D, want);
    int samplers = 0;
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        if (!runs_on_betas((sampler_kind)k)) continue;
        generator_spec s = spec_of((sampler_kind)k, 2, STEPS);
        s.masked = true;
        generator *g = create(&s);
        const generator_batch b = {.n = 2, .ids = ids, .labels = labels, .images = images};
        OK(generator_run(g, &b, x, &why));
        OK(generator_run_bytes(g, &b, bytes, &why));
        int changed = 0;
        for (int i = 0; i < 2 * D; i++) {
            if (mask[i / C % PIXELS])
                changed += bytes[i] != want[i];
            else {
                cr_assert_eq(bytes[i], want[i], "%s at %d: %d, not %d", sampler_name((sampler_kind)k), i, bytes[i],
                             want[i]);
                cr_assert_eq(x[i], images[i], "%s at %d: %.9g, not %.9g", sampler_name((sampler_kind)k), i,
                             (double)x[i], (double)images[i]);
            }
        }
        cr_expect_gt(changed, D / 4, "%s changes %d values", sampler_name((sampler_kind)k), changed);
        generator_destroy(g);
        samplers++;
    }
    cr_expect_geq(samplers, 18);
}

static bool count_ticks(void *context, int done, int total)
{
    ++*(int *)context;
    return (void)done, (void)total, false;
}

/* Jumps at every jump_length-th step but the first stretch: each repeats jump_length steps jump_n_sample - 1 times. */
Test(generator_tasks, repaint_evaluates_as_often_as_its_jumps_say)
{
    static const struct {
        int steps, length, n_sample, evaluations;
    } cases[] = {
        {20, 5, 3, 20 + 3 * 2 * 5}, {20, 10, 10, 20 + 1 * 9 * 10}, {20, 20, 10, 20}, {20, 5, 1, 20},
        {12, 1, 2, 12 + 11},        {10, 3, 4, 10 + 3 * 3 * 3},    {20, 30, 10, 20}, {250, 10, 10, 250 + 24 * 90}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int ticks = 0;
        float x[D];
        generator_spec s = spec_of(SAMPLER_DDPM, 1, cases[i].steps);
        s.masked = true, s.jump_length = cases[i].length, s.jump_n_sample = cases[i].n_sample;
        generator *g = create(&s);
        cr_expect_eq(generator_steps(g), cases[i].evaluations, "case %zu: %d", i, generator_steps(g));
        generator_watch(g, count_ticks, &ticks);
        if (cases[i].steps < 100) {
            OK(generator_run(g, &(generator_batch){.n = 1, .ids = ids, .images = images}, x, &why));
            if (be->fn->host_memory) cr_expect_eq(ticks, cases[i].evaluations);
            for (int k = 0; k < D; k++)
                if (!mask[k / C]) cr_assert_eq(x[k], images[k]);
        }
        generator_destroy(g);
    }
    generator_spec s = spec_of(SAMPLER_UNIPC, 1, STEPS);
    s.masked = true, s.jump_length = 2, s.jump_n_sample = 2;
    refused(&s, "(ddpm, ddim, euler, euler_a); jump_n_sample=1 leaves it out");
}

/* ---- strength ---- */

Test(generator_tasks, strength_decides_how_many_steps_are_taken)
{
    static const struct {
        double strength;
        int evaluations;
    } cases[] = {{1, 10}, {0.5, 5}, {0.59, 5}, {0.1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        generator_spec s = spec_of(SAMPLER_DDIM, 1, 10);
        generator_spec_start(&s, cases[i].strength);
        generator *g = create(&s);
        cr_expect_eq(generator_steps(g), cases[i].evaluations, "strength %g: %d", cases[i].strength,
                     generator_steps(g));
        generator_destroy(g);
    }
    generator_spec s = spec_of(SAMPLER_DDIM, 1, 10);
    generator_spec_start(&s, 0.0999);
    refused(&s, "strength: so small that none of the 10 steps is left; raise it");
    s = spec_of(SAMPLER_DDIM, 1, 0); /* all timesteps */
    generator_spec_start(&s, 0.0009);
    refused(&s, "none of the 1000 steps is left");
    generator_spec_start(&s, 0.001);
    generator *g = create(&s);
    cr_expect_eq(generator_steps(g), 1);
    generator_destroy(g);
}

/* The weaker, the nearer to the image. */
Test(generator_tasks, a_small_strength_stays_near_the_image)
{
    float x[D];
    double last = 0;
    for (int k = 1; k <= 3; k++) {
        generator_spec s = spec_of(SAMPLER_DDIM, 1, 50);
        generator_spec_start(&s, 0.06 * k * k);
        generator *g = create(&s);
        OK(generator_run(g, &(generator_batch){.n = 1, .ids = ids, .labels = labels, .images = images}, x, &why));
        const double error = rel_l2(x, images, D);
        cr_expect(error > 1.2 * last, "strength %g: %.3f after %.3f", 0.06 * k * k, error, last);
        if (k == 1) cr_expect(error < 0.5 && error > 1e-3, "%.3f", error);
        last = error;
        generator_destroy(g);
    }
}
