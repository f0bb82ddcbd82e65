/* The noise as the CPU backend compiles it: optimized, vectorized, in C. */
#include "kernels/noise_golden.h"
#include "noise.h"
#include <criterion/criterion.h>
#include <stdlib.h>

enum { QUADS = 1 << 18 };
static const uint32_t image[2] = {123456789u, 7u};
static const uint64_t seed = UINT64_C(0x0123456789ABCDEF);

static float *draw(void)
{
    float *z = malloc(4 * QUADS * sizeof *z);
    cr_assert(z);
    noise_normals(seed, NOISE_TRAIN_EPS, image, 0, QUADS, z);
    return z;
}

Test(noise, a_million_draws_have_their_golden_bits)
{
    float *z = draw();
    const uint64_t h = hash_floats(z, 4 * QUADS);
    cr_assert_eq(h, GOLDEN_NORMALS, "0x%016llX", (unsigned long long)h);
    free(z);
}

Test(noise, sincos_and_exp_have_their_golden_bits)
{
    enum { N = 100000 };
    static float sines[2 * N], powers[N];
    for (int i = 0; i < N; i++) {
        const float x = 8192.0f * ((float)(i - N / 2) / (N / 2));
        const sincos_pair p = sincos_f32(x);
        sines[2 * i] = p.sin, sines[2 * i + 1] = p.cos;
        powers[i] = exp_f32(x / 80.0f);
    }
    const uint64_t s = hash_floats(sines, 2 * N), e = hash_floats(powers, N);
    cr_assert_eq(s, GOLDEN_SINCOS, "0x%016llX", (unsigned long long)s);
    cr_assert_eq(e, GOLDEN_EXP, "0x%016llX", (unsigned long long)e);
}

/* The moments of 2^20 draws, each within five of its standard errors. */
Test(noise, draws_are_standard_normal)
{
    float *z = draw();
    const double n = 4.0 * QUADS;
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0, top = 0;
    for (int i = 0; i < 4 * QUADS; i++) {
        const double x = (double)z[i];
        m1 += x, m2 += x * x, m3 += x * x * x, m4 += x * x * x * x;
        if (i) neighbours += x * (double)z[i - 1];
        if (fabs(x) > top) top = fabs(x);
    }
    cr_assert_float_eq(m1 / n, 0.0, 5 / sqrt(n));
    cr_assert_float_eq(m2 / n, 1.0, 5 * sqrt(2 / n));
    cr_assert_float_eq(m3 / n, 0.0, 5 * sqrt(15 / n));
    cr_assert_float_eq(m4 / n, 3.0, 5 * sqrt(96 / n));
    cr_assert_float_eq(neighbours / n, 0.0, 5 / sqrt(n));
    cr_assert(top > 4.5 && top < 5.78, "largest draw %g", top);
    free(z);
}

/* Kolmogorov's distance to the normal law; 1.95 / sqrt(n) is exceeded once in a thousand seeds. */
static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

Test(noise, draws_follow_the_normal_law)
{
    float *z = draw();
    const int n = 4 * QUADS;
    double worst = 0;
    qsort(z, n, sizeof *z, ascending);
    for (int i = 0; i < n; i++) {
        const double p = 0.5 * erfc(-(double)z[i] / sqrt(2.0));
        worst = fmax(worst, fmax(fabs(p - (double)i / n), fabs(p - (double)(i + 1) / n)));
    }
    cr_assert(worst < 1.95 / sqrt(n), "distance %g", worst);
    free(z);
}

/* Box and Muller's formula in double, from the words. */
Test(noise, a_pair_is_the_formula_of_box_and_muller)
{
    static const uint32_t edge[] = {0,          255,        256,        0x1FFFFFFF, 0x20000000,
                                    0x7FFFFFFF, 0x80000000, 0xE0000000, 0xFFFFFF00, ~0u};
    enum { EDGES = sizeof edge / sizeof *edge };
    for (uint32_t i = 0; i < 20000; i++) {
        const philox4 r = noise_bits(1, 99, i, 0, 0);
        const uint32_t w0 = i < EDGES * EDGES ? edge[i / EDGES] : r.v[0],
                       w1 = i < EDGES * EDGES ? edge[i % EDGES] : r.v[1];
        const double u = ((double)(w0 >> 8) + 1) / 16777216.0, angle = 2 * 3.14159265358979323846 * w1 / 4294967296.0;
        float z[2];
        noise_normal_pair(w0, w1, z);
        cr_assert_float_eq((double)z[0], sqrt(-2 * log(u)) * cos(angle), 7e-7, "words %u %u", w0, w1);
        cr_assert_float_eq((double)z[1], sqrt(-2 * log(u)) * sin(angle), 7e-7, "words %u %u", w0, w1);
    }
}

Test(noise, a_draw_is_philox_of_quad_a_b_stream_under_the_seed)
{
    const philox4 counter = {{5, 6, 7, NOISE_DROPOUT + 3}}, expected = philox(counter, seed);
    const philox4 got = noise_bits(seed, NOISE_DROPOUT + 3, 6, 7, 5);
    float pair[4];
    cr_assert_arr_eq(got.v, expected.v, sizeof got.v);
    noise_normal_pair(expected.v[0], expected.v[1], pair);
    noise_normal_pair(expected.v[2], expected.v[3], pair + 2);
    cr_assert_arr_eq(noise_normal4(seed, NOISE_DROPOUT + 3, 6, 7, 5).v, pair, sizeof pair);
    /* stored runs depend on these numbers */
    cr_assert_eq(NOISE_TRAIN_EPS, 0);
    cr_assert_eq(NOISE_TRAIN_T, 1);
    cr_assert_eq(NOISE_FLIP, 2);
    cr_assert_eq(NOISE_SAMPLE_INIT, 3);
    cr_assert_eq(NOISE_SAMPLE_STEP, 4);
    cr_assert_eq(NOISE_PARAM_INIT, 5);
    cr_assert_eq(NOISE_SHUFFLE, 6);
    cr_assert_eq(NOISE_DIGITS, 7);
    cr_assert_eq(NOISE_DROPOUT, 8);
}

Test(noise, blocks_of_quads_are_the_quads)
{
    float block[4 * 19];
    noise_normals(seed, NOISE_SAMPLE_INIT, image, 1000, 19, block);
    for (uint32_t q = 0; q < 19; q++)
        cr_assert_arr_eq(noise_normal4(seed, NOISE_SAMPLE_INIT, image[0], image[1], 1000 + q).v, block + 4 * q, 16);
}

Test(noise, uniform_numbers_stay_in_range_and_fill_it)
{
    enum { N = 200000, K = 7 };
    int share[K] = {0};
    double sum = 0;
    for (uint32_t i = 0; i < N; i++) {
        const philox4 r = noise_bits(3, NOISE_SHUFFLE, i, 0, 0);
        const float u = noise_uniform(r.v[0]);
        cr_assert(u >= 0.0f && u < 1.0f);
        sum += (double)u;
        share[noise_below(r.v[1], K)]++;
    }
    cr_assert_float_eq(sum / N, 0.5, 5 * sqrt(1.0 / 12 / N));
    for (int k = 0; k < K; k++) cr_assert_float_eq((double)share[k] / N, 1.0 / K, 5 * sqrt(6.0 / 49 / N));
    cr_assert_eq(noise_uniform(~0u), 1.0f - 0x1p-24f);
    cr_assert_eq(noise_below(~0u, 1000), 999u);
    cr_assert_eq(noise_below(0, 1000), 0u);
    cr_assert_eq(noise_below(~0u, 1), 0u);
    cr_assert_eq(noise_below(~0u, ~0u), ~0u - 1);
}
