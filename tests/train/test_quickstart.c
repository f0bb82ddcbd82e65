/* The quickstart keeps its promise: the digits that were asked for come out of noise.  Takes the minutes that
 * tools/quickstart takes. */
#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"
#include "noise.h"
#include "support/digit_judge.h"
#include "support/ok.h"
#include "train/training_run.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, PICTURES = 80, ENOUGH = 75 };

static err why;

static int count_digits(const digit_judge *j, const uint8_t *pixels, int n, int seen[10])
{
    int digits = 0;
    for (int i = 0; i < n; i++) {
        const int digit = digit_judge_read(j, pixels + (size_t)i * SIDE * SIDE);
        if (digit < 0) continue;
        digits++;
        seen[digit]++;
    }
    return digits;
}

/* The judge must be able to say no. */
Test(quickstart, the_judge_reads_digits_and_nothing_else)
{
    digit_judge *j = digit_judge_create(SIDE);
    dataset *d;
    int seen[10] = {0};
    static uint8_t mixed[PICTURES * SIDE * SIDE];
    OK(dataset_open(&(dataset_spec){.kind = DATASET_DIGITS, .resolution = SIDE, .count = 200, .seed = 5}, &d, &why));
    cr_assert_geq(count_digits(j, dataset_pixels(d), 200, seen), 190);
    for (int i = 0; i < 10; i++) cr_assert_gt(seen[i], 5);
    for (size_t i = 0; i < sizeof mixed; i++) { /* half digit, half noise */
        const philox4 bits = noise_bits(1, NOISE_DIGITS, 0, 0, (uint32_t)i);
        mixed[i] = (uint8_t)((dataset_pixels(d)[i] + (bits.v[0] & 255)) / 2);
    }
    cr_assert_leq(count_digits(j, mixed, PICTURES, seen), 3, "half noise");
    const size_t apart = (size_t)65 * SIDE * SIDE; /* labels repeat every 10 pictures: digit k over digit k + 5 */
    for (size_t i = 0; i < sizeof mixed; i++) {
        const uint8_t a = dataset_pixels(d)[i], b = dataset_pixels(d)[i + apart];
        mixed[i] = a > b ? a : b;
    }
    cr_assert_leq(count_digits(j, mixed, PICTURES, seen), PICTURES / 2, "two digits in one");
    dataset_close(d);
    digit_judge_destroy(j);
}

static void sample(const ddpm_config *c, uint8_t *pixels)
{
    backend *be;
    model *m;
    generator *g;
    int64_t ids[PICTURES];
    int labels[PICTURES];
    static float x[PICTURES * SIDE * SIDE];
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 0}, &be, &why));
    OK(model_load(be, c->out, &m, NULL, &why));
    generator_spec spec = recipe_generator(c, m, ARENA_PARAM);
    spec.batch = PICTURES;
    OK(generator_create(m, &spec, &g, &why));
    OK(generator_allocate(g, &why));
    for (int i = 0; i < PICTURES; i++) ids[i] = i, labels[i] = i % 10;
    OK(generator_run(g, &(generator_batch){.n = PICTURES, .ids = ids, .labels = labels}, x, &why));
    generator_to_bytes(x, PICTURES * SIDE * SIDE, pixels);
    generator_destroy(g);
    model_destroy(m);
    backend_destroy(be);
}

/* Picture i shows the digit i mod 10. */
static int count_right(const uint8_t *pixels, int seen[10])
{
    digit_judge *j = digit_judge_create(SIDE);
    int right = 0;
    for (int i = 0; i < PICTURES; i++) {
        const int digit = digit_judge_read(j, pixels + (size_t)i * SIDE * SIDE);
        if (digit != i % 10) continue;
        right++;
        seen[digit]++;
    }
    digit_judge_destroy(j);
    return right;
}

Test(quickstart, draws_the_digits_that_were_asked_for, .timeout = 1800)
{
    static ddpm_config c;
    static uint8_t pixels[PICTURES * SIDE * SIDE];
    static const run_hooks quiet = {.context = NULL};
    char out[] = "/tmp/ddpm-quickstart-XXXXXX";
    backend *be;
    int seen[10] = {0};
    const char *kept = getenv("DDPM_QUICKSTART"); /* score a run that is there instead of training one */
    config_defaults(&c);
    OK(config_read_file(&c, DDPM_SOURCE "/configs/quickstart.yaml", &why));
    (void)snprintf(c.out, sizeof c.out, "%s", kept ? kept : mkdtemp(out));
    if (!kept) {
        OK(backend_create(&(backend_spec){.device = "cpu", .threads = 0}, &be, &why));
        c.sample.every = 0;
        OK(run_train(be, &c, &quiet, &why));
        backend_destroy(be);
    }
    sample(&c, pixels);
    const int right = count_right(pixels, seen);
    cr_log_info("%d of %d are right; 0-9: %d %d %d %d %d %d %d %d %d %d", right, PICTURES, seen[0], seen[1], seen[2],
                seen[3], seen[4], seen[5], seen[6], seen[7], seen[8], seen[9]);
    if (!kept) OK(dir_remove(c.out, &why));
    cr_assert_geq(right, ENOUGH, "%d of %d are the digit that was asked for", right, PICTURES);
    for (int i = 0; i < 10; i++) cr_assert_geq(seen[i], 5, "only %d of 8 pictures show a %d", seen[i], i);
}
