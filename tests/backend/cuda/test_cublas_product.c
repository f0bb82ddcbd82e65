/* Matrix products as they are described to cuBLASLt.  Descriptors are cuBLASLt's own, which need no device; the
 * functions that need one are replaced here: the heuristics, which return algos of a table, and the matrix product,
 * computed from the descriptors as cuBLASLt documents them. */
#include "backend/cuda/lib/cublas_gemm.h"
#include "math/bf16.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <cublasLt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An algo is defined by its configuration; its other bytes are ignored. */
typedef struct fake_algo {
    int id, tile, stages, splits, scheme, swizzle, custom, inner, cluster;
    size_t workspace;
    cublasStatus_t state;
} fake_algo;

static struct {
    cublasStatus_t create, search;
    const fake_algo *offer;
    int n_offer, asked, used; /* used: index of the algo of the last product */
    uint64_t cap;
    uint32_t schemes, align[4];
    bool same; /* were the addend's and the result's descriptors the same in the last product? */
    cublasComputeType_t compute;
} lt;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = lt.create ? NULL : (cublasLtHandle_t)&lt;
    return lt.create;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) { return CUBLAS_STATUS_SUCCESS; }

static void preference(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name, void *value,
                       size_t size)
{
    size_t written = 0;
    cr_assert_eq(cublasLtMatmulPreferenceGetAttribute(p, name, value, size, &written), CUBLAS_STATUS_SUCCESS);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t p, int count,
                                              cublasLtMatmulHeuristicResult_t result[], int *n)
{
    cr_assert(a && b && c && d);
    lt.asked = count;
    preference(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &lt.cap, sizeof lt.cap);
    preference(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &lt.schemes, sizeof lt.schemes);
    for (int i = 0; i < 4; i++)
        preference(p, (cublasLtMatmulPreferenceAttributes_t)(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
                   &lt.align[i], sizeof lt.align[i]);
    *n = lt.n_offer < count ? lt.n_offer : count;
    for (int i = 0; i < *n; i++) {
        result[i] =
            (cublasLtMatmulHeuristicResult_t){.workspaceSize = lt.offer[i].workspace, .state = lt.offer[i].state};
        result[i].algo.data[0] = (uint64_t)i;
    }
    return lt.search;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name, void *value, size_t size,
                                                    size_t *written)
{
    const fake_algo *a = &lt.offer[algo->data[0]];
    const int part[] = {a->id, a->tile, a->splits, a->scheme, a->swizzle, a->custom, a->stages, a->inner, a->cluster};
    const bool narrow = name == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID || name == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID;
    cr_assert_eq(size, narrow ? sizeof(uint16_t) : sizeof(uint32_t));
    memcpy(value, &part[name], size); /* little-endian */
    *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the matrix product, from its descriptors ---- */

typedef struct matrix {
    int32_t type, order, batch;
    uint64_t rows, cols;
    int64_t ld, stride;
} matrix;

static matrix matrix_of(cublasLtMatrixLayout_t l)
{
    matrix m;
    size_t w;
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_TYPE, &m.type, sizeof m.type, &w));
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &m.order, sizeof m.order, &w));
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &m.batch, sizeof m.batch, &w));
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ROWS, &m.rows, sizeof m.rows, &w));
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_COLS, &m.cols, sizeof m.cols, &w));
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_LD, &m.ld, sizeof m.ld, &w));
    cr_assert(!cublasLtMatrixLayoutGetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.stride,
                                                sizeof m.stride, &w));
    cr_assert_eq(m.order, CUBLASLT_ORDER_COL);
    return m;
}

static double load(const void *at, int32_t type, int64_t i)
{
    return type == CUDA_R_16BF ? (double)bf16_to_f32(((const bf16 *)at)[i]) : (double)((const float *)at)[i];
}

static void store(void *at, int32_t type, int64_t i, double value)
{
    if (type == CUDA_R_16BF)
        ((bf16 *)at)[i] = bf16_of((float)value);
    else
        ((float *)at)[i] = (float)value;
}

static int32_t product_number(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name)
{
    int32_t v = 0;
    size_t w;
    cr_assert(!cublasLtMatmulDescGetAttribute(d, name, &v, sizeof v, &w), "attribute %d", (int)name);
    return v;
}

static const void *bias_of(cublasLtMatmulDesc_t d)
{
    const void *at;
    size_t w;
    cr_assert(!cublasLtMatmulDescGetAttribute(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &at, sizeof at, &w));
    return at;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t p, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t al, const void *B, cublasLtMatrixLayout_t bl, const void *beta,
                              const void *C, cublasLtMatrixLayout_t cl, void *D, cublasLtMatrixLayout_t dl,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t size, cudaStream_t stream)
{
    const matrix a = matrix_of(al), b = matrix_of(bl), c = matrix_of(cl), d = matrix_of(dl);
    const bool ta = product_number(p, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T;
    const bool tb = product_number(p, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
    const bool bias = product_number(p, CUBLASLT_MATMUL_DESC_EPILOGUE) == CUBLASLT_EPILOGUE_BIAS;
    const int32_t bias_type = product_number(p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE);
    const uint64_t m = ta ? a.cols : a.rows, k = ta ? a.rows : a.cols, n = tb ? b.rows : b.cols;
    lt.used = (int)algo->data[0], lt.same = cl == dl;
    lt.compute = (cublasComputeType_t)product_number(p, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE);
    cr_assert_eq(product_number(p, CUBLASLT_MATMUL_DESC_SCALE_TYPE), CUDA_R_32F);
    cr_assert(C != D || lt.same, "in place, with descriptors of two kinds");
    cr_assert(size == lt.offer[lt.used].workspace && !workspace == !size);
    cr_assert(a.type == b.type && c.type == d.type && (!bias || bias_type == d.type));
    cr_assert((tb ? b.cols : b.rows) == k && d.rows == m && d.cols == n && c.rows == m && c.cols == n);
    cr_assert(a.batch == d.batch && b.batch == d.batch && c.batch == d.batch);
    for (int64_t i = 0; i < d.batch; i++)
        for (int64_t col = 0; col < (int64_t)n; col++)
            for (int64_t row = 0; row < (int64_t)m; row++) {
                double sum = 0;
                for (int64_t l = 0; l < (int64_t)k; l++)
                    sum += load(A, a.type, i * a.stride + (ta ? row * a.ld + l : l * a.ld + row)) *
                           load(B, b.type, i * b.stride + (tb ? l * b.ld + col : col * b.ld + l));
                sum *= (double)*(const float *)alpha;
                if (*(const float *)beta != 0)
                    sum += (double)*(const float *)beta * load(C, c.type, i * c.stride + col * c.ld + row);
                if (bias) sum += load(bias_of(p), bias_type, row);
                store(D, d.type, i * d.stride + col * d.ld + row, sum);
            }
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the tests ---- */

static const fake_algo offer[] = {
    {.id = 21, .tile = 18, .stages = 12, .splits = 1},
    {.id = 66, .tile = 301, .stages = 3, .splits = 1, .custom = 5, .inner = 2, .cluster = 7, .workspace = 4096},
    {.id = 21,
     .tile = 18,
     .stages = 12,
     .splits = 4,
     .scheme = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE,
     .workspace = 512},
    {.id = 21,
     .tile = 18,
     .stages = 12,
     .splits = 4,
     .scheme = CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE,
     .workspace = 256},
    {.id = 21, .tile = 18, .stages = 12, .splits = 4, .scheme = CUBLASLT_REDUCTION_SCHEME_INPLACE, .workspace = 128},
    {.id = 9, .splits = 1, .workspace = 1 << 21},
    {.id = 10, .splits = 1, .state = CUBLAS_STATUS_NOT_SUPPORTED},
};
enum { OFFERS = sizeof offer / sizeof *offer };

static const primitive_search usual = {.deterministic = true, .workspace_cap = 1 << 20};

static cublas_context *context(void)
{
    err why = {0};
    cublas_context *c;
    lt.offer = offer, lt.n_offer = OFFERS;
    OK(cublas_context_create(&c, &why));
    return c;
}

static gemm_problem problem(bool ta, bool tb, dtype in, dtype out, int64_t batch)
{
    gemm_problem q = {.in = in, .out = out, .transpose_a = ta, .transpose_b = tb, .m = 4, .n = 6, .k = 5};
    q.batch = batch, q.alpha = 2, q.align = 4;
    q.lda = 8, q.ldb = 10, q.ldd = q.ldc = 7;
    q.stride_a = 50, q.stride_b = 70, q.stride_d = 60;
    return q;
}

static primitive *create(cublas_context *c, const gemm_problem *q, const primitive_search *how)
{
    err why = {0};
    primitive *p;
    OK(cublas_gemm_create(c, q, how, &p, &why));
    return p;
}

enum { ROOM = 256 };

/* Whole numbers below 9, so that even bf16 holds most sums; the array is large enough for either type. */
static void fill(float at[ROOM], dtype type, int salt)
{
    for (int i = 0; i < ROOM; i++)
        store(at, type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F, i, (double)((i * 5 + salt + i / 3) % 9 - 4));
}

static double read_as(const float at[ROOM], dtype type, int64_t i)
{
    return load(at, type == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F, i);
}

enum { NO_ADDEND, IN_PLACE, ANOTHER };

static void check(cublas_context *c, gemm_problem q, int addend)
{
    float a[ROOM], b[ROOM], d[ROOM], bias[ROOM], other[ROOM], was[ROOM], workspace[1024];
    err why = {0};
    q.addend = addend != NO_ADDEND;
    if (addend == ANOTHER) q.ldc = 9;
    fill(a, q.in, 0), fill(b, q.in, 1), fill(d, q.out, 2), fill(bias, q.out, 3), fill(other, q.out, 4);
    memcpy(was, d, sizeof was);
    const float *const c_from = addend == IN_PLACE ? was : other;
    primitive *p = create(c, &q, &usual);
    for (int i = 0; i < p->fn->count(p); i++) {
        memcpy(d, was, sizeof d);
        void *const operands[PRIMITIVE_OPERANDS] = {a, b, d, q.bias ? bias : NULL, addend == IN_PLACE ? d : other};
        OK(p->fn->run(p, i, operands, workspace, NULL, &why));
        for (int64_t n = 0; n < q.batch; n++)
            for (int64_t row = 0; row < q.m; row++)
                for (int64_t col = 0; col < q.n; col++) {
                    double sum = 0;
                    for (int64_t k = 0; k < q.k; k++)
                        sum += read_as(a, q.in, n * q.stride_a + (q.transpose_a ? k * q.lda + row : row * q.lda + k)) *
                               read_as(b, q.in, n * q.stride_b + (q.transpose_b ? col * q.ldb + k : k * q.ldb + col));
                    sum *= (double)q.alpha;
                    if (q.bias) sum += read_as(bias, q.out, col);
                    if (q.addend) sum += read_as(c_from, q.out, n * q.stride_d + row * q.ldc + col);
                    const double got = read_as(d, q.out, n * q.stride_d + row * q.ldd + col);
                    cr_assert_float_eq(got, sum, q.out == DTYPE_BF16 ? fabs(sum) / 256 : 0,
                                       "%s, row %ld column %ld: %g, not %g", p->key, (long)row, (long)col, got, sum);
                }
        cr_assert_eq(read_as(d, q.out, q.n), read_as(was, q.out, q.n), "what lies between rows");
    }
    cr_expect_eq(lt.same, addend != ANOTHER);
    primitive_destroy(p);
}

Test(cublas_product, describes_every_product)
{
    static const dtype types[][2] = {{DTYPE_F32, DTYPE_F32}, {DTYPE_BF16, DTYPE_BF16}, {DTYPE_BF16, DTYPE_F32}};
    cublas_context *c = context();
    for (int type = 0; type < 3; type++)
        for (int bits = 0; bits < 8; bits++)
            for (int addend = NO_ADDEND; addend <= ANOTHER; addend++)
                for (int64_t batch = 1; batch <= 2; batch++) {
                    gemm_problem q = problem(bits & 1, bits & 2, types[type][0], types[type][1], batch);
                    q.bias = (bits & 4) && batch == 1;
                    check(c, q, addend);
                }
    cublas_context_destroy(c);
}

Test(cublas_product, rounds_to_tf32_only_where_it_may)
{
    static const struct {
        dtype in;
        bool tf32;
        cublasComputeType_t expected;
    } all[] = {{DTYPE_F32, false, CUBLAS_COMPUTE_32F},
               {DTYPE_F32, true, CUBLAS_COMPUTE_32F_FAST_TF32},
               {DTYPE_BF16, false, CUBLAS_COMPUTE_32F},
               {DTYPE_BF16, true, CUBLAS_COMPUTE_32F}};
    cublas_context *c = context();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        gemm_problem q = problem(false, false, all[i].in, DTYPE_F32, 1);
        q.tf32 = all[i].tf32;
        check(c, q, NO_ADDEND);
        cr_expect_eq(lt.compute, all[i].expected);
        primitive *p = create(c, &q, &usual);
        cr_expect_eq(!strncmp(p->key, "gemm:tf32-f32:", 14), all[i].expected == CUBLAS_COMPUTE_32F_FAST_TF32, "%s",
                     p->key);
        primitive_destroy(p);
    }
    cublas_context_destroy(c);
}

static int count_of(cublas_context *c, dtype out, bool deterministic)
{
    const gemm_problem q = problem(false, true, DTYPE_BF16, out, 1);
    const primitive_search how = {.deterministic = deterministic, .workspace_cap = 1 << 20};
    primitive *p = create(c, &q, &how);
    const int n = p->fn->count(p);
    for (int i = 0; i < n; i++) cr_expect_leq(p->fn->workspace(p, i), how.workspace_cap);
    primitive_destroy(p);
    return n;
}

/* Unwanted algos are excluded even if the heuristics return them; and the limits given to the heuristics. */
Test(cublas_product, leaves_out_what_varies_and_what_rounds)
{
    enum { F32 = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, OUT = CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE };
    cublas_context *c = context();
    cr_expect_eq(count_of(c, DTYPE_F32, true), 4);
    cr_expect_eq(lt.schemes, F32 | OUT);
    cr_expect_eq(count_of(c, DTYPE_F32, false), 5);
    cr_expect_eq(lt.schemes, F32 | OUT | CUBLASLT_REDUCTION_SCHEME_INPLACE);
    cr_expect_eq(count_of(c, DTYPE_BF16, true), 3);
    cr_expect_eq(lt.schemes, F32);
    cr_expect_eq(count_of(c, DTYPE_BF16, false), 3);
    cr_expect_eq(lt.schemes, F32);
    cr_expect_eq(lt.cap, 1 << 20);
    for (int i = 0; i < 4; i++) cr_expect_eq(lt.align[i], 4);
    cr_expect_geq(lt.asked, 16);
    cublas_context_destroy(c);
}

Test(cublas_product, plans_have_names_and_can_be_asked_for)
{
    err why = {0};
    char name[2][PRIMITIVE_NAME];
    cublas_context *c = context();
    const gemm_problem q = problem(false, false, DTYPE_F32, DTYPE_F32, 1);
    primitive *p = create(c, &q, &usual);
    p->fn->name(p, 0, name[0]);
    p->fn->name(p, 1, name[1]);
    cr_expect_str_eq(name[0], "algo21:t18:st12:sk1:r0:sw0:c0:in0:cl0");
    cr_expect_str_eq(name[1], "algo66:t301:st3:sk1:r0:sw0:c5:in2:cl7");
    cr_expect_eq(p->fn->workspace(p, 1), 4096);
    OK(p->fn->keep(p, 2, &why));
    cr_assert_eq(p->fn->count(p), 1);
    p->fn->name(p, 0, name[0]);
    cr_expect_str_eq(name[0], "algo21:t18:st12:sk4:r2:sw0:c0:in0:cl0");
    cr_expect_eq(p->fn->workspace(p, 0), 512);
    primitive_destroy(p);

    primitive_search how = usual;
    how.cached_algo = name[1];
    p = create(c, &q, &how);
    cr_assert_eq(p->fn->count(p), 1);
    cr_expect_eq(p->fn->workspace(p, 0), 4096);
    primitive_destroy(p);
    how.cached_algo = "algo21";
    p = create(c, &q, &how);
    cr_expect_eq(p->fn->count(p), 4);
    primitive_destroy(p);
    cublas_context_destroy(c);
}

Test(cublas_product, says_what_its_operands_are)
{
    cublas_context *c = context();
    gemm_problem q = problem(false, true, DTYPE_BF16, DTYPE_F32, 2);
    q.addend = true;
    primitive *p = create(c, &q, &usual);
    const size_t bytes[PRIMITIVE_OPERANDS] = {[GEMM_A] = 2 * (50 + 3 * 8 + 5),
                                              [GEMM_B] = 2 * (70 + 5 * 10 + 5),
                                              [GEMM_D] = 4 * (60 + 3 * 7 + 6),
                                              [GEMM_C] = 4 * (60 + 3 * 7 + 6)};
    const bool written[PRIMITIVE_OPERANDS] = {[GEMM_D] = true};
    cr_expect_arr_eq(p->bytes, bytes, sizeof bytes);
    cr_expect_arr_eq(p->written, written, sizeof written);
    cr_expect_str_eq(p->key, "gemm:bf16-f32:nt:4x6x5:ld8,10,7,7:b2,50,70,60:a2:al4:addend");
    primitive_destroy(p);
    q = problem(false, true, DTYPE_BF16, DTYPE_BF16, 1);
    q.bias = true;
    p = create(c, &q, &usual);
    cr_expect_eq(p->bytes[GEMM_BIAS], 2 * 6);
    cr_expect_eq(p->bytes[GEMM_C], 0);
    cr_expect_str_eq(p->key, "gemm:bf16-bf16:nt:4x6x5:ld8,10,7,7:b1,0,0,0:a2:al4:bias");
    primitive_destroy(p);
    cublas_context_destroy(c);
}

Test(cublas_product, failures_are_one_line)
{
    err why = {0};
    cublas_context *c = context(), *none = c;
    primitive *p = (primitive *)c;
    char text[80];
    cublas_context_describe(c, text);
    cr_expect(!strncmp(text, "cuBLASLt 1", 10), "%s", text);
    gemm_problem q = problem(false, false, DTYPE_F32, DTYPE_F32, 1);
    lt.n_offer = 0;
    cr_expect_eq(cublas_gemm_create(c, &q, &usual, &p, &why), DDPM_EBACKEND);
    cr_expect_null(p);
    cr_expect(strstr(why.text, "no algorithm for gemm:f32-f32:nn:4x6x5"), "%s", why.text);
    lt.n_offer = OFFERS, lt.search = CUBLAS_STATUS_NOT_SUPPORTED;
    cr_expect_eq(cublas_gemm_create(c, &q, &usual, &p, &why), DDPM_EBACKEND);
    cr_expect(strstr(why.text, "no algorithm for"), "%s", why.text);
    lt.search = CUBLAS_STATUS_INVALID_VALUE;
    cr_expect_eq(cublas_gemm_create(c, &q, &usual, &p, &why), DDPM_EBACKEND);
    cr_expect(strstr(why.text, "CUBLAS_STATUS_INVALID_VALUE"), "%s", why.text);
    lt.search = CUBLAS_STATUS_SUCCESS, q.lda = 1;
    cr_expect_eq(cublas_gemm_create(c, &q, &usual, &p, &why), DDPM_EINVAL);
    cublas_context_destroy(c);
    cublas_context_destroy(NULL);
    lt.create = CUBLAS_STATUS_NOT_INITIALIZED;
    cr_expect_eq(cublas_context_create(&none, &why), DDPM_EDEVICE);
    cr_expect_null(none);
    cr_expect(strstr(why.text, "cuBLASLt: cublasLtCreate: CUBLAS_STATUS_NOT_INITIALIZED"), "%s", why.text);
    cr_expect_null(strchr(why.text, '\n'));
}
