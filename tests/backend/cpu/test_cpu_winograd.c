/* Winograd against direct sums in double: at sizes that divide into tiles and chunks in every way, on any number of
 * threads, and with the error that cpu_winograd.h states. */
#include "backend/cpu/conv/cpu_winograd.h"
#include "base/mem.h"
#include "noise.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TAPS = 9 };
enum { SRC, DST, FILTER, BIAS, ADD, OPERANDS };

typedef struct kind {
    int n, h, w, cin, cout; /* h, w: of dst */
    bool enlarged, adds, nhwc;
    conv_pass pass;
} kind;

static int64_t side(const kind *k, int operand, int of) { return of / (k->enlarged && operand == SRC ? 2 : 1); }
static int64_t pixels(const kind *k, int operand) { return side(k, operand, k->h) * side(k, operand, k->w); }

/* The operand that the pass computes. */
static int made(const kind *k)
{
    return k->pass == CONV_PASS_FORWARD ? DST : k->pass == CONV_PASS_BACKWARD_DATA ? SRC : FILTER;
}

static int64_t count_of(const kind *k, int operand)
{
    switch (operand) {
    case SRC: return k->n * pixels(k, SRC) * k->cin;
    case DST: return k->n * pixels(k, DST) * k->cout;
    case FILTER: return (int64_t)k->cout * TAPS * k->cin;
    case BIAS: return k->cout;
    default: return count_of(k, made(k));
    }
}

/* Pixel p, channel c of image i of an operand. */
static int64_t at(const kind *k, int operand, int i, int64_t p, int c)
{
    const int64_t channels = operand == SRC ? k->cin : k->cout, hw = pixels(k, operand);
    if (k->nhwc) return (i * hw + p) * channels + c;
    return (i * channels + c - c % CHANNEL_BLOCK) * hw + p * CHANNEL_BLOCK + c % CHANNEL_BLOCK;
}

static float *normals(int64_t count, uint32_t of)
{
    err why = {0};
    float *x = NULL;
    cr_assert_eq(mem_array(&x, (size_t)count + 1, sizeof *x, "test", &why), DDPM_OK);
    for (int64_t i = 0; i < count; i++) x[i] = noise_normal4(1, 0, of, 0, (uint32_t)i).v[0];
    x[count] = 12345; /* a guard value: nothing may be written beyond the end */
    return x;
}

static winograd_image image_of(const kind *k, int operand, float *data)
{
    const tensor t = {.h = side(k, operand, k->h),
                      .w = side(k, operand, k->w),
                      .c = operand == SRC ? k->cin : k->cout,
                      .layout = k->nhwc ? LAYOUT_NHWC : LAYOUT_BLOCKED,
                      .data = data};
    return winograd_image_of(&t);
}

static void run(const kind *k, int threads, float *const operand[OPERANDS])
{
    err why = {0};
    char *scratch = NULL;
    const winograd_spec spec = {.shape = {.pass = k->pass,
                                          .n = k->n,
                                          .h = k->h,
                                          .w = k->w,
                                          .cin = k->cin,
                                          .oh = k->h,
                                          .ow = k->w,
                                          .cout = k->cout,
                                          .kernel = 3,
                                          .stride = 1,
                                          .pad_begin = 1,
                                          .pad_end = 1},
                                .enlarged = k->enlarged,
                                .threads = threads};
    const size_t bytes = winograd_scratch(&spec);
    winograd_args a = {.src = image_of(k, SRC, operand[SRC]),
                       .dst = image_of(k, DST, operand[DST]),
                       .filter = operand[FILTER],
                       .bias = k->pass == CONV_PASS_BACKWARD_DATA ? NULL : operand[BIAS],
                       .adds = k->adds,
                       .adds_bias = k->adds};
    if (k->adds && k->pass != CONV_PASS_BACKWARD_WEIGHTS)
        a.add = image_of(k, made(k), operand[k->pass == CONV_PASS_FORWARD ? ADD : SRC]);
    cr_assert_eq(mem_array(&scratch, bytes + 1, 1, "test", &why), DDPM_OK);
    memset(scratch, 0xff, bytes); /* NaN: nothing may be read before it is written */
    scratch[bytes] = 77;
    a.scratch = scratch;
    winograd_run(&spec, &a);
    cr_expect_eq(scratch[bytes], 77, "the scratch was too small");
    mem_free(scratch);
}

/* The pixel of src under tap t of pixel p of dst; -1: outside. */
static int64_t neighbour(const kind *k, int64_t p, int t)
{
    const int64_t y = p / k->w + t / 3 - 1, x = p % k->w + t % 3 - 1;
    if (y < 0 || y >= k->h || x < 0 || x >= k->w) return -1;
    return k->enlarged ? y / 2 * (k->w / 2) + x / 2 : y * k->w + x;
}

/* Adds the sums of channel c of the result: of src for backward data, else of dst or of the filter. */
static void sum_channel(const kind *k, float *const operand[OPERANDS], int c, double *to)
{
    const bool backward = k->pass == CONV_PASS_BACKWARD_DATA;
    const int others = backward ? k->cout : k->cin;
    for (int i = 0; i < k->n; i++)
        for (int64_t p = 0; p < pixels(k, DST); p++)
            for (int t = 0; t < TAPS; t++) {
                const int64_t q = neighbour(k, p, t);
                if (q < 0) continue;
                for (int other = 0; other < others; other++) {
                    const int co = backward ? other : c, ci = backward ? c : other;
                    const int64_t src = at(k, SRC, i, q, ci), dst = at(k, DST, i, p, co),
                                  filter = (int64_t)(co * TAPS + t) * k->cin + ci;
                    const double x = operand[SRC][src], y = operand[DST][dst], w = operand[FILTER][filter];
                    switch (k->pass) {
                    case CONV_PASS_FORWARD: to[dst] += x * w; break;
                    case CONV_PASS_BACKWARD_DATA: to[src] += y * w; break;
                    case CONV_PASS_BACKWARD_WEIGHTS: to[filter] += x * y; break;
                    }
                }
            }
}

static double *reference(const kind *k, float *const operand[OPERANDS])
{
    const int64_t count = count_of(k, made(k));
    const float *more = operand[k->pass == CONV_PASS_FORWARD ? ADD : made(k)];
    double *to = calloc((size_t)count, sizeof *to);
    cr_assert_not_null(to);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < (k->pass == CONV_PASS_BACKWARD_DATA ? k->cin : k->cout); c++) sum_channel(k, operand, c, to);
    for (int64_t i = 0; i < count && k->adds; i++) to[i] += (double)more[i];
    for (int i = 0; i < k->n && k->pass == CONV_PASS_FORWARD; i++)
        for (int64_t p = 0; p < pixels(k, DST); p++)
            for (int c = 0; c < k->cout; c++) to[at(k, DST, i, p, c)] += (double)operand[BIAS][c];
    return to;
}

static double *reference_bias(const kind *k, float *const operand[OPERANDS])
{
    double *to = calloc((size_t)k->cout, sizeof *to);
    cr_assert_not_null(to);
    for (int c = 0; c < k->cout; c++) {
        to[c] = k->adds ? (double)operand[BIAS][c] : 0;
        for (int i = 0; i < k->n; i++)
            for (int64_t p = 0; p < pixels(k, DST); p++) to[c] += (double)operand[DST][at(k, DST, i, p, c)];
    }
    return to;
}

/* The norm of the error and its largest element, relative to the norm and to the root mean square of the result. */
typedef struct deviation {
    double norm, largest;
} deviation;

static deviation deviation_of(const float *got, double *want, int64_t count)
{
    double off = 0, all = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const double d = (double)got[i] - want[i];
        off += d * d, all += want[i] * want[i];
        largest = fmax(largest, isnan(d) ? INFINITY : fabs(d));
    }
    cr_expect_eq(got[count], 12345, "written beyond the end");
    free(want);
    return (deviation){sqrt(off / all), largest / sqrt(all / (double)count)};
}

typedef struct outcome {
    float *operand[OPERANDS];
    deviation of, of_bias;
} outcome;

static outcome outcome_of(const kind *k, int threads)
{
    outcome o = {.operand = {NULL}};
    for (int i = 0; i < OPERANDS; i++) o.operand[i] = normals(count_of(k, i), (uint32_t)i);
    double *want = reference(k, o.operand),
           *bias = k->pass == CONV_PASS_BACKWARD_WEIGHTS ? reference_bias(k, o.operand) : NULL;
    float *to = o.operand[made(k)];
    for (int64_t i = 0; i < count_of(k, made(k)) && (!k->adds || k->pass == CONV_PASS_FORWARD); i++) to[i] = NAN;
    run(k, threads, o.operand);
    o.of = deviation_of(to, want, count_of(k, made(k)));
    if (bias) o.of_bias = deviation_of(o.operand[BIAS], bias, k->cout);
    return o;
}

static void outcome_free(outcome *o)
{
    for (int i = 0; i < OPERANDS; i++) mem_free(o->operand[i]);
}

static const char *const passes[] = {"forward", "backward data", "backward weights"};

/* Sizes: smaller than a tile and not a multiple of one; fewer tiles than a chunk, several chunks and a short last one;
 * more threads than chunks, which then share a panel; sums in one part and in eight; one, two and three panels. */
ParameterizedTestParameters(cpu_winograd, gives_the_sums_it_stands_for)
{
    static const kind sizes[] = {
        {1, 1, 1, 16, 16, false, false, false, 0},  {2, 3, 6, 32, 16, false, true, false, 0},
        {1, 4, 4, 16, 48, false, false, true, 0},   {3, 7, 9, 48, 80, false, true, true, 0},
        {7, 13, 18, 32, 64, false, true, false, 0}, {25, 31, 27, 16, 16, false, true, false, 0},
        {2, 2, 4, 16, 32, true, true, false, 0},    {3, 10, 6, 48, 16, true, false, true, 0},
        {9, 14, 26, 32, 32, true, true, false, 0},  {2, 4, 8, 160, 112, false, false, false, 0},
        {5, 31, 27, 16, 16, false, true, false, 0},
    };
    enum { SIZES = sizeof sizes / sizeof *sizes };
    static kind all[3 * SIZES];
    for (int i = 0; i < 3 * SIZES; i++) {
        all[i] = sizes[i / 3];
        all[i].pass = (conv_pass)(i % 3);
    }
    return cr_make_param_array(kind, all, 3 * SIZES);
}
ParameterizedTest(const kind *k, cpu_winograd, gives_the_sums_it_stands_for)
{
    outcome one = outcome_of(k, 1);
    static const int counts[] = {2, 3, 5, 9};
    for (int i = 0; i < 4; i++) {
        const int threads = counts[i];
        outcome o = outcome_of(k, threads);
        cr_expect(o.of.norm < 1e-6, "%s %d x %dx%d, %d > %d: off by %.3g", passes[k->pass], k->n, k->h, k->w, k->cin,
                  k->cout, o.of.norm);
        cr_expect(o.of_bias.norm < 5e-7, "bias: off by %.3g", o.of_bias.norm);
        for (int j = 0; j < OPERANDS; j++)
            cr_expect_arr_eq(o.operand[j], one.operand[j], (size_t)count_of(k, j) * sizeof(float),
                             "%d threads, operand %d", threads, j);
        outcome_free(&o);
    }
    outcome_free(&one);
}

/* The result of an image does not depend on the other images of its batch. */
Test(cpu_winograd, gives_an_image_the_same_bits_in_any_batch)
{
    for (int pass = CONV_PASS_FORWARD; pass <= CONV_PASS_BACKWARD_DATA; pass++) {
        const kind many = {11, 17, 12, 32, 48, false, false, false, (conv_pass)pass};
        kind alone = many;
        alone.n = 1;
        outcome o = outcome_of(&many, 2), p = outcome_of(&alone, 1);
        cr_expect_arr_eq(o.operand[made(&many)], p.operand[made(&many)],
                         (size_t)count_of(&alone, made(&many)) * sizeof(float), "%s", passes[pass]);
        outcome_free(&o);
        outcome_free(&p);
    }
}

ParameterizedTestParameters(cpu_winograd, errs_as_much_as_is_said)
{
    static kind kinds[] = {{2, 10, 10, 64, 64, .pass = CONV_PASS_FORWARD},
                           {2, 10, 10, 128, 128, .pass = CONV_PASS_FORWARD},
                           {2, 10, 10, 256, 256, .pass = CONV_PASS_FORWARD},
                           {2, 10, 10, 64, 64, .pass = CONV_PASS_BACKWARD_DATA},
                           {2, 10, 10, 128, 128, .pass = CONV_PASS_BACKWARD_DATA},
                           {2, 10, 10, 256, 256, .pass = CONV_PASS_BACKWARD_DATA},
                           {32, 10, 10, 64, 64, .pass = CONV_PASS_BACKWARD_WEIGHTS},
                           {16, 10, 10, 128, 128, .pass = CONV_PASS_BACKWARD_WEIGHTS},
                           {4, 10, 10, 256, 256, .pass = CONV_PASS_BACKWARD_WEIGHTS}};
    return cr_make_param_array(kind, kinds, sizeof kinds / sizeof *kinds);
}
/* The error bounds that cpu_winograd.h states. */
ParameterizedTest(const kind *k, cpu_winograd, errs_as_much_as_is_said)
{
    outcome o = outcome_of(k, 2);
    cr_log_info("%s, %d channels, %d images: norm of the error %.2g, largest %.2g", passes[k->pass], k->cin, k->n,
                o.of.norm, o.of.largest);
    cr_expect(o.of.norm < 9e-7, "%s, %d channels: %.3g", passes[k->pass], k->cin, o.of.norm);
    cr_expect(o.of.largest < 8e-6, "%s, %d channels: %.3g", passes[k->pass], k->cin, o.of.largest);
    outcome_free(&o);
}
