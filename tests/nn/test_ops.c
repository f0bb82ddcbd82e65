/* Every differentiable line of cases.def on the cpu backend: values and gradients against double,
 * `=` against `+=`, and what must not change a bit. */
#include "backend/cpu/lib/onednn.h"
#include "base/mem.h"
#include "noise.h"
#include "support/device.h"
#include "support/op_fixture.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

enum { ALL = ~0u };

/* Every case as it stands; and on the cpu, which chooses a layout for activations, the cases whose images may lie in
 * blocks of channels once more with activations as images.  With `mixed`, cases that may have all of their images in
 * blocks come twice more, with one half of the images as activations and with the other: then a kernel meets both
 * layouts, and the backend must copy what lies in the wrong one. */
enum { ROOM = 512 };
static int list_cases(op_case all[ROOM], bool mixed)
{
    static const unsigned activations[] = {ALL, 0x55555555u, 0xAAAAAAAAu};
    int n = 0, count = 0;
    const op_case *c = op_cases(&n);
    for (int i = 0; i < n; i++) all[count++] = c[i];
    for (int i = 0; i < n && !strcmp(test_device(), "cpu"); i++) {
        for (int k = 0; k < (mixed && op_fills_blocks(&c[i]) ? 3 : 1) && op_fills_some_blocks(&c[i]); k++) {
            cr_assert(count < ROOM);
            all[count] = c[i];
            all[count++].activations = activations[k];
        }
    }
    return count;
}

/* A test is SHARES processes: to start one takes longer than most cases. */
enum { SHARES = 8 };
static struct criterion_test_params shares(void)
{
    static int share[SHARES];
    for (int i = 0; i < SHARES; i++) share[i] = i;
    return cr_make_param_array(int, share, SHARES);
}
static void each_case(int share, bool mixed, void (*check)(const op_case *c))
{
    static op_case all[ROOM];
    const int count = list_cases(all, mixed);
    for (int i = share; i < count; i += SHARES) check(&all[i]);
}

static double norm_of(const double *a, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * a[i];
    return sqrt(sum);
}

/* ---- (a) the forward pass ---- */

/* Does the cpu backend compute it by Winograd's algorithm? */
static bool by_winograd(const op_case *c)
{
    if (strcmp(test_device(), "cpu") || test_conv() != CONV_ALGO_WINOGRAD || !op_fills_blocks(c)) return false;
    return c->op == OP_upconv || (c->op == OP_conv2d && c->kernel == 3 && c->stride == 1);
}

/* Rounding of float arithmetic, relative to the size of the whole output.  In bf16 a value is off by at most
 * 2^-8, and many values by 2^-8 / sqrt(3) in the mean; attention rounds its probabilities too, time_mlp what
 * lies between its layers.  Winograd's algorithm is less exact than the sums it stands for. */
static double forward_tolerance(const op_case *c, int64_t count)
{
    const double low = count == 1 ? 0x1p-8 : 2.5e-3;
    if (by_winograd(c)) return 1e-6;
    switch ((int)c->op) {
    case OP_copy:
    case OP_relu: return 0;
    case OP_affine: return test_bound(1e-7, 2e-3);
    case OP_attention:
    case OP_time_mlp: return test_bound(5e-7, 4e-3);
    default: return test_bound(5e-7, low);
    }
}

static void compare_forward(const op_case *c)
{
    char text[160];
    op_exact x = op_exact_create(c);
    op_result got = op_run(c, &(op_options){.threads = 1, .wanted = ALL});
    op_exact_run(&x);
    const double size = norm_of(x.y, x.y_count);
    for (int64_t i = 0; i < x.y_count; i++) x.y[i] -= (double)got.y[i];
    const double error = norm_of(x.y, x.y_count);
    cr_log_info("forward %.2e of %.2e: %s", error, size, op_case_text(c, text));
    cr_expect(error <= forward_tolerance(c, x.y_count) * size, "%s: off by %.2e", op_case_text(c, text), error);
    op_exact_free(&x);
    op_result_free(&got);
}
ParameterizedTestParameters(ops, forward_matches_double) { return shares(); }
ParameterizedTest(const int *share, ops, forward_matches_double) { each_case(*share, true, compare_forward); }

/* ---- the layout of activations ---- */

static void expect_blocks(const op_case *c)
{
    char text[160];
    if (!c->activations) return;
    const bool blocks = op_fills_blocks(c) && onednn_has_blocked_kernels();
    op_result got = op_run(c, &(op_options){.threads = 1, .wanted = ALL});
    (void)op_case_text(c, text);
    cr_expect(got.n_activation > 0, "%s: there is no activation", text);
    if (blocks && c->activations == ALL) /* with half of them, some take the NHWC layout of the others */
        cr_expect_eq(got.n_blocked, got.n_activation, "%s: %d of %d in blocks", text, got.n_blocked, got.n_activation);
    else if (!onednn_has_blocked_kernels() || c->op == OP_attention || c->op == OP_concat)
        cr_expect_eq(got.n_blocked, 0, "%s: %d of %d in blocks", text, got.n_blocked, got.n_activation);
    op_result_free(&got);
}
ParameterizedTestParameters(ops, activations_lie_in_blocks_where_there_are_kernels) { return shares(); }
ParameterizedTest(const int *share, ops, activations_lie_in_blocks_where_there_are_kernels)
{
    each_case(*share, true, expect_blocks);
}

/* ---- (b) gradients ---- */

/* An entry alone is measured by the root mean square of its gradient, a sum over random signs by
 * the gradient's norm.  Where a gradient vanishes (a group of one pixel), that of the output stands in. */
#define FLOOR 0.1
enum { FEW = 12, ENTRIES = 6, DIRECTIONS = 3 };

/* In bf16 the second layer of time_mlp hands the first a gradient that is rounded already. */
static double gradient_tolerance(op_kind op) { return test_bound(5e-6, op == OP_time_mlp ? 3e-2 : 2e-2); }

typedef struct checker {
    const op_case *c;
    op_exact *x;
    const float *grad;
    int operand;
    double floor, worst;
} checker;

static void check_slope(checker *k, const double *direction, double size)
{
    char text[160];
    const int64_t n = k->x->count[k->operand];
    double ours = 0;
    for (int64_t i = 0; i < n; i++)
        if (direction[i] != 0) ours += (double)k->grad[i] * direction[i];
    const double slope = op_exact_slope(k->x, k->operand, direction);
    const double error = fabs(ours - slope) / fmax(size, k->floor);
    if (!(error <= k->worst)) k->worst = error;
    cr_expect(error <= gradient_tolerance(k->c->op), "%s: operand %d: %.9g for a slope of %.9g, off by %.2e",
              op_case_text(k->c, text), k->operand, ours, slope, error);
}

/* A few single entries (all of a small gradient), and three random directions that see every entry. */
static void check_gradient(checker *k)
{
    err why = {0};
    const int64_t n = k->x->count[k->operand], entries = n <= FEW ? n : ENTRIES;
    double *direction, sum = 0;
    cr_assert_eq(mem_array(&direction, (size_t)n, sizeof *direction, "test", &why), DDPM_OK, "%s", why.text);
    for (int64_t i = 0; i < n; i++)
        if (op_reads(k->c, k->operand, i)) sum += (double)k->grad[i] * (double)k->grad[i];
    for (int64_t j = 0; j < entries; j++) {
        const int64_t i = n <= FEW ? j : j * (n - 1) / (entries - 1);
        if (!op_reads(k->c, k->operand, i)) continue;
        direction[i] = 1;
        check_slope(k, direction, sqrt(sum / (double)n));
        direction[i] = 0;
    }
    for (uint32_t j = 0; j < DIRECTIONS && n > FEW; j++) {
        for (int64_t i = 0; i < n; i++) {
            const float z = noise_normal4(5, j, 0, 0, (uint32_t)i).v[0];
            direction[i] = op_reads(k->c, k->operand, i) ? (double)z : 0;
        }
        check_slope(k, direction, sqrt(sum));
    }
    mem_free(direction);
}

static void compare_gradients(const op_case *c)
{
    char text[160];
    op_exact x = op_exact_create(c);
    op_result got = op_run(c, &(op_options){.threads = 1, .wanted = ALL});
    checker k = {.c = c, .x = &x, .floor = FLOOR * norm_of(x.dy, x.y_count) / sqrt((double)x.y_count)};
    for (k.operand = 0; k.operand < x.n_operand; k.operand++) {
        k.grad = got.grad[k.operand];
        cr_assert(op_differentiates(c, k.operand) == (k.grad != NULL), "%s: operand %d", op_case_text(c, text),
                  k.operand);
        if (k.grad) check_gradient(&k);
    }
    cr_log_info("gradients %.2e: %s", k.worst, op_case_text(c, text));
    op_exact_free(&x);
    op_result_free(&got);
}
ParameterizedTestParameters(ops, gradients_match_differences_of_double) { return shares(); }
ParameterizedTest(const int *share, ops, gradients_match_differences_of_double)
{
    each_case(*share, true, compare_gradients);
}

/* ---- (c) setting and adding ---- */

static double rms(const op_case *c, const op_result *r, int k)
{
    double sum = 0;
    for (int64_t i = 0; i < r->count[k]; i++)
        if (op_reads(c, k, i)) sum += (double)r->grad[k][i] * (double)r->grad[k][i];
    return sqrt(sum / (double)r->count[k]);
}

/* Gradient k set, or added to what was there; what the op does not read is not touched. */
static void check_sum(const op_case *c, const op_result *set, const op_result *got, int k, bool adds)
{
    char text[160];
    const double tolerance = test_bound(2e-6, 4e-3) * (1 + rms(c, set, k));
    for (int64_t i = 0; i < set->count[k]; i++) {
        const double before = op_initial_grad(k, i), now = (double)got->grad[k][i];
        if (!op_reads(c, k, i)) {
            cr_assert(isnan(set->grad[k][i]) && now == before,
                      "%s: gradient %d is written at %lld, outside its columns", op_case_text(c, text), k,
                      (long long)i);
            continue;
        }
        const double alone = (double)set->grad[k][i], want = (adds ? before : 0) + alone,
                     slack = tolerance + test_bound(2e-6, 8e-3) * fmax(fabs(want), fabs(alone)); /* both are rounded */
        cr_assert(fabs(now - want) <= slack, "%s: gradient %d at %lld: %.9g %s %.9g gives %.9g", op_case_text(c, text),
                  k, (long long)i, before, adds ? "+" : "replaced by", (double)set->grad[k][i], now);
    }
}

static void compare_sums(const op_case *c)
{
    static const unsigned masks[] = {ALL, 0x55555555u, 0xAAAAAAAAu}; /* all together, and each beside others that set */
    op_result set = op_run(c, &(op_options){.threads = 1, .wanted = ALL, .grad_init = OP_GRAD_NAN});
    for (int m = 0; m < 3; m++) {
        op_result got =
            op_run(c, &(op_options){.threads = 1, .wanted = ALL, .grad_init = OP_GRAD_RANDOM, .accumulate = masks[m]});
        for (int k = 0; k < set.n_operand; k++)
            if (set.grad[k]) check_sum(c, &set, &got, k, masks[m] >> k & 1);
        op_result_free(&got);
    }
    op_result_free(&set);
}
ParameterizedTestParameters(ops, every_gradient_is_set_or_added_to) { return shares(); }
ParameterizedTest(const int *share, ops, every_gradient_is_set_or_added_to) { each_case(*share, true, compare_sums); }

/* ---- (d), (e): what must not change a bit ---- */

static double difference(const float *a, const float *b, int64_t n)
{
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        if (float_bits(a[i]) == float_bits(b[i])) continue;
        const double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    for (int64_t i = 0; i < n; i++) size += isnan(a[i]) ? 0 : (double)a[i] * (double)a[i];
    return sum == 0 ? 0 : sqrt(sum / size);
}

typedef struct bounds {
    double output, gradient[OP_OPERANDS];
} bounds;

static void expect_same(const op_case *c, const op_result *a, const op_result *b, const bounds *bound)
{
    char text[160];
    const double forward = difference(a->y, b->y, a->y_count);
    cr_expect(forward <= bound->output, "%s: the output differs by %.2e", op_case_text(c, text), forward);
    for (int k = 0; k < a->n_operand; k++) {
        if (!a->grad[k] || !b->grad[k]) continue;
        const double error = difference(a->grad[k], b->grad[k], a->count[k]);
        if (error > 0) cr_log_info("differs by %.2e: gradient %d of %s", error, k, op_case_text(c, text));
        cr_expect(error <= bound->gradient[k], "%s: gradient %d differs by %.2e", op_case_text(c, text), k, error);
    }
}

static void compare_packing(const op_case *c)
{
    op_result packed = op_run(c, &(op_options){.threads = 1, .wanted = ALL});
    op_result apart = op_run(c, &(op_options){.threads = 1, .wanted = ALL, .unpacked = true});
    expect_same(c, &packed, &apart, &(bounds){0});
    op_result_free(&packed);
    op_result_free(&apart);
}
ParameterizedTestParameters(ops, packing_changes_no_bit) { return shares(); }
ParameterizedTest(const int *share, ops, packing_changes_no_bit) { each_case(*share, false, compare_packing); }

static bool by_onednn(const op_case *c) { return (c->op == OP_upconv || c->op == OP_conv2d) && !by_winograd(c); }

/* oneDNN's backward-weights convolution cuts its sum over pixels by the number of threads: the filter of a 3x3
 * convolution and, from the same pass, its bias; the filter alone of an upconv.  In blocks of channels every filter and
 * the bias of every conv2d comes from it. */
static bool sums_by_thread(const op_case *c, const op_result *r, int k)
{
    if (by_onednn(c) && onednn_sums_by_thread()) return true;
    if (by_winograd(c) || k < r->n_input) return false;
    if (c->op == OP_upconv) return k == r->n_input;
    return c->op == OP_conv2d && (c->activations || c->kernel == 3);
}

static void compare_threads(const op_case *c)
{
    if (!strcmp(test_device(), "cpu") && !onednn_has_blocked_kernels() && !by_winograd(c))
        return; /* without AVX-512 oneDNN's matrix product cuts its sums by the number of threads too */
    bounds bound = {.output = by_onednn(c) && onednn_sums_by_thread() ? 1e-6 : 0};
    op_result one = op_run(c, &(op_options){.threads = 1, .wanted = ALL});
    op_result two = op_run(c, &(op_options){.threads = 2, .wanted = ALL});
    for (int k = 0; k < one.n_operand; k++) bound.gradient[k] = sums_by_thread(c, &one, k) ? 1e-6 : 0;
    expect_same(c, &one, &two, &bound);
    op_result_free(&one);
    op_result_free(&two);
}
ParameterizedTestParameters(ops, threads_change_no_bit) { return shares(); }
ParameterizedTest(const int *share, ops, threads_change_no_bit) { each_case(*share, false, compare_threads); }

/* ---- (f) a gradient does not depend on which others are wanted ---- */

static void compare_wanted_alone(const op_case *c)
{
    char text[160];
    op_result all = op_run(c, &(op_options){.threads = 1, .wanted = ALL});
    for (int alone = -1; alone < all.n_input; alone++) { /* -1: none but the parameters' */
        if (alone < 0 && all.n_operand == all.n_input) continue;
        op_result one = op_run(c, &(op_options){.threads = 1, .wanted = alone < 0 ? 0 : 1u << alone});
        for (int k = 0; k < all.n_input; k++)
            cr_expect((k == alone && all.grad[k]) == (one.grad[k] != NULL), "%s: gradient %d with only %d wanted",
                      op_case_text(c, text), k, alone);
        expect_same(c, &all, &one, &(bounds){0});
        op_result_free(&one);
    }
    op_result_free(&all);
}
ParameterizedTestParameters(ops, gradients_wanted_alone_are_the_same) { return shares(); }
ParameterizedTest(const int *share, ops, gradients_wanted_alone_are_the_same)
{
    each_case(*share, false, compare_wanted_alone);
}
