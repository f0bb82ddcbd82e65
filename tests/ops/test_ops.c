/* Every differentiable line of cases.def on the cpu backend: values and gradients against double,
 * `=` against `+=`, and what must not change a bit. */
#include "core/mem.h"
#include "noise.h"
#include "plan/operands.h"
#include "support/op_rig.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

enum { ALL = ~0u, FEW = 12, ENTRIES = 6, DIRECTIONS = 3 };

/* Rounding of the cpu backend, of a whole output relative to its own size. */
static double forward_tolerance(op_kind op)
{
    switch ((int)op) {
    case OP_copy: return 0;
    case OP_relu: return 0;
    case OP_affine: return 1e-7;
    case OP_dropout: return 1e-7;
    case OP_time_embed: return 2e-7;
    case OP_attention: return 1e-6;
    default: return 5e-7;
    }
}
#define GRADIENT_TOLERANCE 2e-6

static struct criterion_test_params all_cases(void)
{
    int n = 0;
    op_case *c = (op_case *)(uintptr_t)op_cases(&n);
    return cr_make_param_array(op_case, c, (size_t)n);
}

static double norm_of(const double *a, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * a[i];
    return sqrt(sum);
}

static double distance(const float *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(sum);
}

ParameterizedTestParameters(ops, forward_matches_double) { return all_cases(); }
ParameterizedTest(const op_case *c, ops, forward_matches_double)
{
    char text[160];
    op_exact exact = op_exact_create(c);
    op_result got = op_run(c, &(op_options){.threads = 1, .only = ALL});
    op_exact_run(&exact);
    const double scale = norm_of(exact.y, exact.y_count), error = distance(got.y, exact.y, exact.y_count);
    cr_log_info("forward %.2e %s", error / scale, op_case_text(c, text));
    cr_expect(error <= forward_tolerance(c->op) * scale, "%s: off by %.2e", op_case_text(c, text), error / scale);
    op_exact_free(&exact);
    op_result_free(&got);
}

/* ---- gradients ---- */

typedef struct checker {
    const char *text;
    op_exact *exact;
    const op_result *got;
    double worst;
} checker;

/* One slope against the gradient; `size` is what the gradient's error is measured by. */
static void check_slope(checker *k, int operand, const double *direction, double size)
{
    const float *grad = k->got->grad[operand];
    double ours = 0;
    for (int64_t i = 0; i < k->got->count[operand]; i++)
        if (direction[i] != 0) ours += (double)grad[i] * direction[i];
    const double slope = op_exact_slope(k->exact, operand, direction), error = fabs(ours - slope) / size;
    if (!(error <= k->worst)) k->worst = error;
    cr_expect(error <= GRADIENT_TOLERANCE, "%s: gradient of operand %d: %.8g for a slope of %.8g (off by %.2e)",
              k->text, operand, ours, slope, error);
}

/* The norm of a whole gradient; where it is rounding noise only, that of the gradient it is the sum of. */
static double size_of(const checker *k, int operand)
{
    const int64_t n = k->got->count[operand];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)k->got->grad[operand][i];
        if (g == g) sum += g * g;
    }
    return fmax(sqrt(sum), norm_of(k->exact->dy, k->exact->y_count) * 0.1);
}

static void check_operand(checker *k, int operand)
{
    err why = {0};
    const int64_t n = k->got->count[operand];
    const double size = size_of(k, operand);
    double *direction;
    cr_assert_eq(mem_array(&direction, (size_t)n, sizeof *direction, "test", &why), DDPM_OK, "%s", why.text);
    op_graph g = {.operand = {NULL}};
    (void)g;
    const int64_t entries = n <= FEW ? n : ENTRIES;
    for (int64_t j = 0; j < entries; j++) {
        const int64_t i = n <= FEW ? j : j * (n - 1) / (entries - 1);
        direction[i] = 1;
        if (!isnan(k->got->grad[operand][i])) check_slope(k, operand, direction, size);
        direction[i] = 0;
    }
    mem_free(direction);
}
