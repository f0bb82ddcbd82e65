/* Winograd's algorithm against the sums it stands for, in double, and beside the direct kernel's error. */
#include "backend/cpu/cpu_dnnl.h"
#include "core/mem.h"
#include "noise.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdlib.h>

enum { SIDE = 10, PIXELS = SIDE * SIDE, TAPS = 9 }; /* two tiles of 4 x 4 and half a one */

typedef struct kind {
    dnn_pass pass;
    int channels; /* of both images */
    int n;
} kind;

/* Pixel p, channel c of image i in blocks of 16 channels. */
static int64_t blocked(const kind *k, int i, int c, int p)
{
    return ((int64_t)(i * k->channels + c - c % DNN_BLOCK) * PIXELS) + (int64_t)p * DNN_BLOCK + c % DNN_BLOCK;
}

static int64_t image_count(const kind *k) { return (int64_t)k->n * k->channels * PIXELS; }
static int64_t filter_count(const kind *k) { return (int64_t)k->channels * TAPS * k->channels; }

static float *normals(int64_t count, uint32_t of)
{
    err why = {0};
    float *x = NULL;
    cr_assert_eq(mem_array(&x, (size_t)count, sizeof *x, "test", &why), DDPM_OK);
    for (int64_t i = 0; i < count; i++) x[i] = noise_normal4(1, 0, of, 0, (uint32_t)i).v[0];
    return x;
}

/* The operand a pass writes, and how many floats it has. */
static float *result_of(const kind *k, float *const operand[3], int64_t *count)
{
    static const int which[] = {[DNN_FORWARD] = 1, [DNN_BACKWARD_DATA] = 0, [DNN_BACKWARD_WEIGHTS] = 2};
    *count = k->pass == DNN_BACKWARD_WEIGHTS ? filter_count(k) : image_count(k);
    return operand[which[k->pass]];
}

static void run(const kind *k, bool winograd, float *const operand[3])
{
    err why = {0};
    dnn *d = NULL;
    dnn_conv *c = NULL;
    void *scratch = NULL;
    size_t bytes = 0;
    const dnn_conv_spec spec = {.pass = k->pass,
                                .n = k->n,
                                .h = SIDE,
                                .w = SIDE,
                                .cin = k->channels,
                                .oh = SIDE,
                                .ow = SIDE,
                                .cout = k->channels,
                                .kernel = 3,
                                .stride = 1,
                                .pad_begin = 1,
                                .pad_end = 1,
                                .blocked = true,
                                .winograd = winograd};
    cr_assert_eq(dnn_create(&d, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(dnn_conv_create(d, &spec, &c, &bytes, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(mem_array(&scratch, bytes + 1, 1, "test", &why), DDPM_OK);
    const dnn_conv_args a = {.src = operand[0], .dst = operand[1], .filter = operand[2], .scratch = scratch};
    cr_assert_eq(dnn_conv_run(c, &a, &why), DDPM_OK, "%s", why.text);
    mem_free(scratch);
    dnn_conv_destroy(c);
    dnn_destroy(d);
}

/* Where tap t takes pixel p of the other image from; -1: from outside. */
static int neighbour(int p, int t)
{
    const int y = p / SIDE + t / 3 - 1, x = p % SIDE + t % 3 - 1;
    return y < 0 || y >= SIDE || x < 0 || x >= SIDE ? -1 : y * SIDE + x;
}

/* What image i adds to channel c of the result: of the convolution's for filters' gradients, of the written one else. */
static void add_image(const kind *k, float *const operand[3], int i, int c, double *to)
{
    for (int t = 0; t < TAPS; t++)
        for (int p = 0; p < PIXELS; p++)
            for (int other = 0; other < k->channels && neighbour(p, t) >= 0; other++) {
                const int co = k->pass == DNN_BACKWARD_DATA ? other : c, ci = k->pass == DNN_BACKWARD_DATA ? c : other;
                const int64_t src = blocked(k, i, ci, neighbour(p, t)), dst = blocked(k, i, co, p),
                              filter = (int64_t)(co * TAPS + t) * k->channels + ci;
                const double x = operand[0][src], y = operand[1][dst], w = operand[2][filter];
                switch (k->pass) {
                case DNN_FORWARD: to[dst] += x * w; break;
                case DNN_BACKWARD_DATA: to[src] += y * w; break;
                case DNN_BACKWARD_WEIGHTS: to[filter] += x * y; break;
                }
            }
}

static double *reference(const kind *k, float *const operand[3], int64_t count)
{
    double *to = calloc((size_t)count, sizeof *to);
    cr_assert_not_null(to);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < k->channels; c++)
        for (int i = 0; i < k->n; i++) add_image(k, operand, i, c, to);
    return to;
}

/* The norm of the error and its largest element, relative to the norm and to the root mean square of the result. */
typedef struct deviation {
    double norm, largest;
} deviation;

static deviation deviation_of(const kind *k, bool winograd)
{
    float *const operand[3] = {normals(image_count(k), 1), normals(image_count(k), 2), normals(filter_count(k), 3)};
    int64_t count;
    float *got = result_of(k, operand, &count);
    double *want = reference(k, operand, count), off = 0, all = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) got[i] = NAN; /* every element is written */
    run(k, winograd, operand);
    for (int64_t i = 0; i < count; i++) {
        const double d = (double)got[i] - want[i];
        off += d * d, all += want[i] * want[i];
        largest = fmax(largest, isnan(d) ? INFINITY : fabs(d));
    }
    free(want);
    for (int i = 0; i < 3; i++) mem_free(operand[i]);
    return (deviation){sqrt(off / all), largest / sqrt(all / (double)count)};
}

ParameterizedTestParameters(cpu_winograd, errs_as_much_as_is_said)
{
    static kind kinds[] = {
        {DNN_FORWARD, 64, 2},           {DNN_FORWARD, 128, 2},           {DNN_FORWARD, 256, 2},
        {DNN_BACKWARD_DATA, 64, 2},     {DNN_BACKWARD_DATA, 128, 2},     {DNN_BACKWARD_DATA, 256, 2},
        {DNN_BACKWARD_WEIGHTS, 64, 32}, {DNN_BACKWARD_WEIGHTS, 128, 16}, {DNN_BACKWARD_WEIGHTS, 256, 4}};
    return cr_make_param_array(kind, kinds, sizeof kinds / sizeof *kinds);
}
/* What cpu_dnnl.h says of dnn_conv_spec.winograd. */
ParameterizedTest(const kind *k, cpu_winograd, errs_as_much_as_is_said)
{
    static const char *const passes[] = {"forward", "backward data", "backward weights"};
    if (!dnn_has_blocked_kernels()) cr_skip("no Winograd kernels on this machine");
    const deviation w = deviation_of(k, true), d = deviation_of(k, false);
    cr_log_info("%s, %d channels, %d images: norm of the error %.2g (direct %.2g), largest %.2g (%.2g)",
                passes[k->pass], k->channels, k->n, w.norm, d.norm, w.largest, d.largest);
    cr_expect(w.norm < 1.3e-6, "%s, %d channels: %.3g", passes[k->pass], k->channels, w.norm);
    cr_expect(w.largest < 1.5e-5, "%s, %d channels: %.3g", passes[k->pass], k->channels, w.largest);
    cr_expect(d.norm < 1e-6, "%s, %d channels, direct: %.3g", passes[k->pass], k->channels, d.norm);
}
