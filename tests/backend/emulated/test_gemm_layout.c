/* A row-major product against the column-major one that it is mapped to. */
#include "backend/cuda/lib/gemm_layout.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { GAP = 12345 }; /* the value between the rows of a result, which must not change */

typedef struct operands {
    double *at[GEMM_C + 1]; /* allocated with exactly the extent of the layout */
} operands;

/* Small whole numbers: every sum is exact, so both results must be equal. */
static double number(int64_t i) { return (double)((i * 7 + i / 5 + 3) % 11 - 5); }

static double *filled(int64_t count, int64_t salt)
{
    double *x = malloc((size_t)count * sizeof *x);
    cr_assert_not_null(x);
    for (int64_t i = 0; i < count; i++) x[i] = number(i + salt);
    return x;
}

/* ---- the product by its definition, from cublas_gemm.h ---- */

static void by_definition(const gemm_problem *q, const operands *o)
{
    const int64_t sa = q->batch > 1 ? q->stride_a : 0, sb = q->batch > 1 ? q->stride_b : 0;
    const int64_t sd = q->batch > 1 ? q->stride_d : 0;
    for (int64_t p = 0; p < q->batch; p++)
        for (int64_t i = 0; i < q->m; i++)
            for (int64_t j = 0; j < q->n; j++) {
                const double *a = o->at[GEMM_A] + p * sa, *b = o->at[GEMM_B] + p * sb;
                double sum = 0;
                for (int64_t l = 0; l < q->k; l++)
                    sum += (q->transpose_a ? a[l * q->lda + i] : a[i * q->lda + l]) *
                           (q->transpose_b ? b[j * q->ldb + l] : b[l * q->ldb + j]);
                sum *= q->alpha;
                if (q->bias) sum += o->at[GEMM_BIAS][j];
                if (q->addend) sum += o->at[GEMM_C][p * sd + i * q->ldc + j];
                o->at[GEMM_D][p * sd + i * q->ldd + j] = sum;
            }
}

/* ---- the product as a BLAS computes it, on column-major matrices ---- */

static double *element(const gemm_matrix *x, const operands *o, int64_t p, int64_t row, int64_t col)
{
    cr_assert(row < x->rows && col < x->cols, "element (%ld, %ld) of [%ld, %ld]", (long)row, (long)col, (long)x->rows,
              (long)x->cols);
    return o->at[x->operand] + p * x->stride + col * x->ld + row;
}

static double factor(const gemm_matrix *x, const operands *o, int64_t p, int64_t row, int64_t col)
{
    return x->transpose ? *element(x, o, p, col, row) : *element(x, o, p, row, col);
}

static void by_columns(const gemm_layout *l, const gemm_problem *q, const operands *o)
{
    const double beta = q->addend ? 1 : 0;
    for (int64_t p = 0; p < q->batch; p++)
        for (int64_t j = 0; j < l->n; j++)
            for (int64_t i = 0; i < l->m; i++) {
                double sum = 0;
                for (int64_t r = 0; r < l->k; r++) sum += factor(&l->left, o, p, i, r) * factor(&l->right, o, p, r, j);
                sum = (double)q->alpha * sum + (beta != 0 ? beta * *element(&l->addend, o, p, i, j) : 0);
                if (q->bias) sum += o->at[GEMM_BIAS][i]; /* [m], added to each column */
                *element(&l->result, o, p, i, j) = sum;
            }
}

/* ---- comparison of the two ---- */

static const gemm_matrix *matrix_of(const gemm_layout *l, int operand)
{
    const gemm_matrix *const all[] = {&l->left, &l->right, &l->result, &l->addend};
    for (int i = 0; i < 4; i++)
        if (all[i]->operand == operand) return all[i];
    return NULL;
}

/* in_place: the addend and the result are the same memory */
static void compare(const gemm_problem *q, bool in_place)
{
    gemm_layout l;
    err why = {0};
    operands ours, theirs;
    cr_assert_eq(gemm_layout_of(q, &l, &why), DDPM_OK, "%s", why.text);
    cr_assert(l.left.transpose ? l.left.cols == l.m && l.left.rows == l.k : l.left.rows == l.m && l.left.cols == l.k);
    cr_assert(l.right.transpose ? l.right.rows == l.n && l.right.cols == l.k
                                : l.right.cols == l.n && l.right.rows == l.k);
    cr_assert(l.result.rows == l.m && l.result.cols == l.n && !l.result.transpose);
    cr_assert_eq(l.addend.operand, q->addend ? GEMM_C : GEMM_D);
    const int64_t result = gemm_matrix_extent(&l.result, q->batch);
    for (int i = GEMM_A; i <= GEMM_C; i++) {
        const gemm_matrix *x = matrix_of(&l, i);
        const int64_t count = i == GEMM_BIAS ? q->n : x ? gemm_matrix_extent(x, q->batch) : 1;
        ours.at[i] = filled(count, 100 * i);
        theirs.at[i] = filled(count, 100 * i);
        for (int64_t k = 0; i == GEMM_D && k < count; k++) ours.at[i][k] = theirs.at[i][k] = in_place ? number(k) : GAP;
    }
    operands o = ours, t = theirs;
    if (in_place) o.at[GEMM_C] = o.at[GEMM_D], t.at[GEMM_C] = t.at[GEMM_D];
    by_definition(q, &o);
    by_columns(&l, q, &t);
    cr_assert(!memcmp(ours.at[GEMM_D], theirs.at[GEMM_D], (size_t)result * sizeof(double)),
              "%c%c m %ld n %ld k %ld batch %ld bias %d addend %d", q->transpose_a ? 't' : 'n',
              q->transpose_b ? 't' : 'n', (long)q->m, (long)q->n, (long)q->k, (long)q->batch, q->bias, q->addend);
    for (int i = GEMM_A; i <= GEMM_C; i++) free(ours.at[i]), free(theirs.at[i]);
}

enum { ADD_NOTHING, ADD_IN_PLACE, ADD_ANOTHER, ADDENDS };

/* `loose`: strides of rows and products are larger than necessary. */
static gemm_problem problem(const int64_t mnk[3], bool ta, bool tb, int64_t batch, bool loose)
{
    gemm_problem q = {.m = mnk[0], .n = mnk[1], .k = mnk[2], .transpose_a = ta, .transpose_b = tb, .batch = batch};
    q.alpha = 2;
    q.lda = (ta ? q.m : q.k) + (loose ? 3 : 0);
    q.ldb = (tb ? q.k : q.n) + (loose ? 5 : 0);
    q.ldd = q.n + (loose ? 2 : 0);
    q.ldc = q.ldd;
    q.stride_a = (ta ? q.k : q.m) * q.lda + (loose ? 7 : 0);
    q.stride_b = (tb ? q.n : q.k) * q.ldb + (loose ? 1 : 0);
    q.stride_d = q.m * (q.ldd + 4) + (loose ? 9 : 0);
    return q;
}

Test(gemm_layout, computes_what_the_problem_says)
{
    static const int64_t mnk[][3] = {{4, 5, 6}, {1, 7, 3}, {6, 1, 2}, {3, 2, 1}, {1, 1, 1}, {5, 5, 5}};
    int cases = 0;
    for (size_t shape = 0; shape < sizeof mnk / sizeof *mnk; shape++)
        for (int bits = 0; bits < 16; bits++)
            for (int addend = 0; addend < ADDENDS; addend++)
                for (int64_t batch = 1; batch <= 3; batch += 2) {
                    gemm_problem q = problem(mnk[shape], bits & 1, bits & 2, batch, bits & 4);
                    q.bias = (bits & 8) && batch == 1;
                    q.addend = addend != ADD_NOTHING;
                    if (addend == ADD_ANOTHER) q.ldc += 4;
                    compare(&q, addend == ADD_IN_PLACE);
                    cases++;
                }
    cr_assert_eq(cases, 6 * 16 * ADDENDS * 2);
}

/* Attention heads: products whose matrices are columns of one wide matrix, one product for each head. */
Test(gemm_layout, matrices_may_be_columns_of_a_wider_one)
{
    enum { S = 5, D = 3, HEADS = 4 };
    for (int bits = 0; bits < 4; bits++) {
        gemm_problem q = problem((int64_t[]){S, bits & 2 ? S : D, bits & 2 ? D : S}, false, bits & 2, HEADS, false);
        q.lda = q.ldb = 3 * HEADS * D, q.stride_a = q.stride_b = D;
        if (!(bits & 2)) q.lda = S, q.stride_a = S * S, q.ldd = q.ldc = HEADS * D, q.stride_d = D;
        q.addend = bits & 1;
        compare(&q, bits & 1);
    }
}

Test(gemm_layout, extents_end_with_the_last_element)
{
    gemm_layout l;
    err why = {0};
    gemm_problem q = problem((int64_t[]){4, 5, 6}, false, false, 1, false);
    q.lda = 10, q.ldb = 20, q.ldd = 30;
    q.stride_a = 1000, q.stride_b = 2000, q.stride_d = 3000;
    cr_assert_eq(gemm_layout_of(&q, &l, &why), DDPM_OK);
    cr_expect_eq(gemm_matrix_extent(matrix_of(&l, GEMM_A), 1), 3 * 10 + 6);
    cr_expect_eq(gemm_matrix_extent(matrix_of(&l, GEMM_B), 1), 5 * 20 + 5);
    cr_expect_eq(gemm_matrix_extent(matrix_of(&l, GEMM_D), 1), 3 * 30 + 5);
    cr_expect(!l.left.stride && !l.right.stride && !l.result.stride &&
              !l.addend.stride); /* strides are 0 for a batch of one, whatever the problem has */
    q.batch = 3, q.addend = true, q.ldc = 40;
    cr_assert_eq(gemm_layout_of(&q, &l, &why), DDPM_OK);
    cr_expect_eq(gemm_matrix_extent(matrix_of(&l, GEMM_A), 3), 2 * 1000 + 3 * 10 + 6);
    cr_expect_eq(gemm_matrix_extent(matrix_of(&l, GEMM_C), 3), 2 * 3000 + 3 * 40 + 5);
}

Test(gemm_layout, refuses_what_is_no_product)
{
    const int64_t mnk[3] = {4, 5, 6};
    const gemm_problem good = problem(mnk, false, true, 2, false);
    gemm_problem bad[10];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) bad[i] = good;
    bad[0].m = 0, bad[1].n = 0, bad[2].k = 0, bad[3].batch = 0;
    bad[4].lda = 5, bad[5].ldb = 5, bad[6].ldd = 4, bad[6].ldc = 5;
    bad[7].addend = true, bad[7].ldc = 4;
    bad[8].bias = true;
    bad[9].k = -3;
    gemm_layout l;
    cr_assert_eq(gemm_layout_of(&good, &l, NULL), DDPM_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err why = {0};
        cr_expect_eq(gemm_layout_of(&bad[i], &l, &why), DDPM_EINVAL, "problem %zu", i);
        cr_expect(strstr(why.text, "matrix product"), "problem %zu: %s", i, why.text);
    }
}
