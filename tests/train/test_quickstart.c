/* The quickstart keeps its promise: the digits that were asked for come out of noise.  Takes the minutes that
 * tools/quickstart takes; with DDPM_TEST_LONG also for the other processes. */
#include "base/file.h"
#include "data/dataset.h"
#include "noise.h"
#include "support/digit_judge.h"
#include "support/digit_run.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 16, PICTURES = 800, MIXED = 80 };

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
    static uint8_t mixed[MIXED * SIDE * SIDE];
    OK(dataset_open(&(dataset_spec){.kind = DATASET_DIGITS, .resolution = SIDE, .count = 200, .seed = 5}, &d, &why));
    cr_assert_geq(count_digits(j, dataset_pixels(d), 200, seen), 190);
    for (int i = 0; i < 10; i++) cr_assert_gt(seen[i], 5);
    for (size_t i = 0; i < sizeof mixed; i++) { /* half digit, half noise */
        const philox4 bits = noise_bits(1, NOISE_DIGITS, 0, 0, (uint32_t)i);
        mixed[i] = (uint8_t)((dataset_pixels(d)[i] + (bits.v[0] & 255)) / 2);
    }
    cr_assert_leq(count_digits(j, mixed, MIXED, seen), 3, "half noise");
    const size_t apart = (size_t)65 * SIDE * SIDE; /* labels repeat every 10 pictures: digit k over digit k + 5 */
    for (size_t i = 0; i < sizeof mixed; i++) {
        const uint8_t a = dataset_pixels(d)[i], b = dataset_pixels(d)[i + apart];
        mixed[i] = a > b ? a : b;
    }
    cr_assert_leq(count_digits(j, mixed, MIXED, seen), MIXED / 2, "two digits in one");
    dataset_close(d);
    digit_judge_destroy(j);
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

/* Trains configs/quickstart.yaml with these settings, unless the environment names a finished run in `kept`, and
 * samples with so many evaluations of the network: `enough` of the pictures must be the digit that was asked for. */
static void draws_digits(const char *kept, const char *const *settings, int evaluations, int enough)
{
    static ddpm_config c;
    static uint8_t pixels[PICTURES * SIDE * SIDE];
    char out[] = "/tmp/ddpm-quickstart-XXXXXX";
    int seen[10] = {0};
    config_defaults(&c);
    OK(config_read_file(&c, DDPM_SOURCE "/configs/quickstart.yaml", &why));
    config_put_all(&c, settings);
    (void)snprintf(c.out, sizeof c.out, "%s", kept ? kept : mkdtemp(out));
    if (!kept) digit_run_train(&c);
    cr_assert_eq(digit_run_sample(&c, PICTURES, pixels), evaluations);
    const int right = count_right(pixels, seen);
    cr_log_info("%d of %d are right; 0-9: %d %d %d %d %d %d %d %d %d %d", right, PICTURES, seen[0], seen[1], seen[2],
                seen[3], seen[4], seen[5], seen[6], seen[7], seen[8], seen[9]);
    if (!kept) OK(dir_remove(c.out, &why));
    cr_assert_geq(right, enough, "%d of %d are the digit that was asked for", right, PICTURES);
    for (int i = 0; i < 10; i++) cr_assert_geq(seen[i], 66, "only %d of 80 pictures show a %d", seen[i], i);
}

Test(quickstart, draws_the_digits_that_were_asked_for, .timeout = 1800)
{
    draws_digits(getenv("DDPM_QUICKSTART"), (const char *const[]){NULL}, 10, 780);
}

Test(quickstart, draws_them_by_rectified_flow, .timeout = 1800)
{
    static const char *const settings[] = {"diffusion.parameterization=flow", "diffusion.predict=eps",
                                           "sample.sampler=flow_euler", "sample.num_inference_steps=20", NULL};
    const char *kept = getenv("DDPM_QUICKSTART_FLOW");
    if (!kept && !getenv("DDPM_TEST_LONG")) cr_skip_test("minutes of training: DDPM_TEST_LONG is not set");
    draws_digits(kept, settings, 20, 760);
}

Test(quickstart, draws_them_by_edm, .timeout = 1800)
{
    static const char *const settings[] = {"diffusion.parameterization=edm", "diffusion.predict=eps",
                                           "sample.sampler=edm_euler", "sample.num_inference_steps=20", NULL};
    const char *kept = getenv("DDPM_QUICKSTART_EDM");
    if (!kept && !getenv("DDPM_TEST_LONG")) cr_skip_test("minutes of training: DDPM_TEST_LONG is not set");
    draws_digits(kept, settings, 20, 760);
}
