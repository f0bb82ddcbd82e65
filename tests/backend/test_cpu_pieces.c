/* Convolutions that work on a batch in pieces, to save scratch, against the same in one. */
#include "backend/cpu/cpu_dnnl.h"
#include "core/mem.h"
#include "noise.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>

enum { N = 6, SIDE = 12, CIN = 32, COUT = 48, FILTER_LD = 40 };
enum { SRC = N * SIDE * SIDE * CIN, DST = N * SIDE * SIDE * COUT, FILTER = COUT * 9 * FILTER_LD };

typedef struct kind {
    dnn_pass pass;
    bool sum, add, add_bias; /* of dnn_conv_spec */
} kind;

static float *numbers(size_t count, uint32_t of)
{
    err why = {0};
    float *x = NULL;
    cr_assert_eq(mem_array(&x, count, sizeof *x, "test", &why), DDPM_OK);
    for (size_t i = 0; i < count; i++) x[i] = 2 * noise_uniform(noise_bits(1, 0, of, 0, (uint32_t)i).v[0]) - 1;
    return x;
}

typedef struct outcome {
    float *src, *dst, *filter, *bias;
    size_t scratch;
} outcome;

static outcome run(const kind *k, size_t scratch_limit)
{
    err why = {0};
    dnn *d = NULL;
    dnn_conv *c = NULL;
    void *scratch = NULL;
    outcome o = {numbers(SRC, 1), numbers(DST, 2), numbers(FILTER, 3), numbers(COUT, 4), 0};
    const dnn_conv_spec spec = {.pass = k->pass,
                                .n = N,
                                .h = SIDE,
                                .w = SIDE,
                                .cin = CIN,
                                .oh = SIDE,
                                .ow = SIDE,
                                .cout = COUT,
                                .filter_ld = FILTER_LD,
                                .kernel = 3,
                                .stride = 1,
                                .pad_begin = 1,
                                .pad_end = 1,
                                .blocked = true,
                                .winograd = true,
                                .bias = k->pass != DNN_BACKWARD_DATA,
                                .sum = k->sum,
                                .add = k->add,
                                .add_bias = k->add_bias,
                                .scratch_limit = scratch_limit};
    cr_assert_eq(dnn_create(&d, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(dnn_conv_create(d, &spec, &c, &o.scratch, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(mem_array(&scratch, o.scratch + 1, 1, "test", &why), DDPM_OK);
    cr_assert_eq(
        dnn_conv_run(
            c, &(dnn_conv_args){.src = o.src, .dst = o.dst, .filter = o.filter, .bias = o.bias, .scratch = scratch},
            &why),
        DDPM_OK, "%s", why.text);
    mem_free(scratch);
    dnn_conv_destroy(c);
    dnn_destroy(d);
    return o;
}

static void outcome_free(outcome *o)
{
    mem_free(o->src);
    mem_free(o->dst);
    mem_free(o->filter);
    mem_free(o->bias);
}

static void expect_near(const char *what, const float *got, const float *want, int count)
{
    double off = 0, all = 0;
    for (int i = 0; i < count; i++) {
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        all += (double)want[i] * want[i];
    }
    cr_expect(sqrt(off / all) < 1e-5, "%s: relative error %.2g", what, sqrt(off / all));
}

ParameterizedTestParameters(cpu_pieces, give_what_the_whole_batch_gives)
{
    static kind kinds[] = {
        {DNN_FORWARD, false, false, false},         {DNN_FORWARD, true, false, false},
        {DNN_BACKWARD_DATA, false, false, false},   {DNN_BACKWARD_WEIGHTS, false, false, false},
        {DNN_BACKWARD_WEIGHTS, false, true, false}, {DNN_BACKWARD_WEIGHTS, false, false, true},
        {DNN_BACKWARD_WEIGHTS, false, true, true},
    };
    return cr_make_param_array(kind, kinds, sizeof kinds / sizeof *kinds);
}
ParameterizedTest(const kind *k, cpu_pieces, give_what_the_whole_batch_gives)
{
    if (!dnn_has_blocked_kernels()) cr_skip("no Winograd kernels on this machine");
    outcome whole = run(k, 0);
    /* as small as can be: an image a piece; and two or three images a piece */
    const size_t limits[] = {1, whole.scratch / 2, whole.scratch / 3};
    for (int i = 0; i < 3; i++) {
        outcome pieces = run(k, limits[i]);
        cr_expect(pieces.scratch < whole.scratch, "pass %d: scratch of %zu bytes, in one %zu", (int)k->pass,
                  pieces.scratch, whole.scratch);
        expect_near("src", pieces.src, whole.src, SRC);
        expect_near("dst", pieces.dst, whole.dst, DST);
        expect_near("filter", pieces.filter, whole.filter, FILTER);
        expect_near("bias", pieces.bias, whole.bias, COUT);
        outcome_free(&pieces);
    }
    outcome_free(&whole);
}
