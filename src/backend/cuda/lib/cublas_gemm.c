/* cublas_gemm.c - see cublas_gemm.h; gemm_layout.h says how a row-major product is described to cuBLASLt.
 *
 * Determinism.  cuBLAS promises the same bits at every run for the same algo with a workspace of the caller, which
 * every algo gets here.  Where the sum over k is split among blocks (split-K), the partial sums are combined by one of
 * three schemes: through the workspace in f32, through the workspace in the type of the result, or in place, where the
 * blocks add to the result in memory one after the other.  The first two add in a fixed order in a step of their own.
 * For the third only "sequentiality" is documented and no order, so in-place algos are excluded where results must be
 * deterministic.  And as we promise f32 sums, the second and third schemes are never used for a bf16 result. */
#include "backend/cuda/lib/cublas_gemm.h"
#include "backend/cuda/lib/gemm_layout.h"
#include "base/mem.h"

#include <cublasLt.h>
#include <stdio.h>
#include <string.h>

enum { PROPOSALS = 16 }; /* number of algos requested: the fastest by cuBLASLt's estimate */

struct cublas_context {
    cublasLtHandle_t handle;
};

typedef struct gemm_algo {
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
} gemm_algo;

typedef struct cublas_gemm {
    primitive base;
    cublasLtHandle_t handle; /* borrowed */
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t left, right, result, addend; /* addend NULL: the same layout as the result */
    gemm_layout layout;
    float alpha, beta;
    bool bias;
    gemm_algo algo[PROPOSALS];
    int n;
} cublas_gemm;

static ddpm_status failed(cublasStatus_t status, const char *what, err *e)
{
    if (status == CUBLAS_STATUS_SUCCESS) return DDPM_OK;
    const ddpm_status st = status == CUBLAS_STATUS_ALLOC_FAILED      ? DDPM_ENOMEM
                           : status == CUBLAS_STATUS_NOT_INITIALIZED ? DDPM_EDEVICE
                           : status == CUBLAS_STATUS_ARCH_MISMATCH   ? DDPM_EDEVICE
                                                                     : DDPM_EBACKEND;
    return err_set(e, st, "cuBLASLt: %s: %s (%s)%s", what, cublasLtGetStatusName(status),
                   cublasLtGetStatusString(status), st == DDPM_ENOMEM ? ": a smaller batch needs less" : "");
}

ddpm_status cublas_context_create(cublas_context **out, err *e)
{
    cublas_context *c = NULL;
    ddpm_status st;
    *out = NULL;
    TRY_GOTO(mem_array(&c, 1, sizeof *c, "cuBLASLt's handle", e));
    TRY_GOTO(failed(cublasLtCreate(&c->handle), "cublasLtCreate", e));
    *out = c;
    c = NULL;
done:
    mem_free(c);
    return st;
}

void cublas_context_destroy(cublas_context *c)
{
    if (!c) return;
    (void)cublasLtDestroy(c->handle);
    mem_free(c);
}

void cublas_context_describe(const cublas_context *c, char text[80])
{
    const size_t v = cublasLtGetVersion();
    if (v)
        (void)snprintf(text, 80, "cuBLASLt %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    else
        (void)snprintf(text, 80, "cuBLASLt not found");
}

/* ---- the problem as cuBLASLt's descriptors ----------------------------------------------------- */

static cudaDataType_t type_of(dtype d) { return d == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

static ddpm_status make_matrix(const gemm_matrix *x, dtype type, int64_t batch, cublasLtMatrixLayout_t *out, err *e)
{
    const int32_t count = (int32_t)batch;
    TRY(failed(cublasLtMatrixLayoutCreate(out, type_of(type), (uint64_t)x->rows, (uint64_t)x->cols, x->ld),
               "matrix layout", e));
    if (batch == 1) return DDPM_OK;
    TRY(failed(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
               "batch count", e));
    return failed(cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &x->stride,
                                                   sizeof x->stride),
                  "batch stride", e);
}

static ddpm_status set_product(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value,
                               size_t size, err *e)
{
    return failed(cublasLtMatmulDescSetAttribute(d, name, value, size), "attribute of the matrix product", e);
}

static ddpm_status make_bias(cublasLtMatmulDesc_t d, const gemm_problem *q, err *e)
{
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const int32_t type = type_of(q->out);
    /* Never dereferenced: the heuristics only take the alignment from this address. */
    const void *const somewhere = (const void *)(uintptr_t)q->align;
    TRY(set_product(d, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue, e));
    TRY(set_product(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type, e));
    return set_product(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &somewhere, sizeof somewhere, e);
}

static ddpm_status make_product(cublas_gemm *g, const gemm_problem *q, err *e)
{
    const gemm_layout *l = &g->layout;
    const int32_t op[] = {[false] = CUBLAS_OP_N, [true] = CUBLAS_OP_T};
    const bool tf32 = q->tf32 && q->in == DTYPE_F32;
    TRY(failed(
        cublasLtMatmulDescCreate(&g->product, tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "matrix product", e));
    TRY(set_product(g->product, CUBLASLT_MATMUL_DESC_TRANSA, &op[l->left.transpose], sizeof *op, e));
    TRY(set_product(g->product, CUBLASLT_MATMUL_DESC_TRANSB, &op[l->right.transpose], sizeof *op, e));
    if (q->bias) TRY(make_bias(g->product, q, e));
    TRY(make_matrix(&l->left, q->in, q->batch, &g->left, e));
    TRY(make_matrix(&l->right, q->in, q->batch, &g->right, e));
    TRY(make_matrix(&l->result, q->out, q->batch, &g->result, e));
    /* If c is d, cuBLASLt requires the same descriptor for both. */
    if (l->addend.ld == l->result.ld) return DDPM_OK;
    return make_matrix(&l->addend, q->out, q->batch, &g->addend, e);
}

/* ---- algos -------------------------------------------------------------------------------- */

static uint32_t reductions(const gemm_problem *q, const primitive_search *how)
{
    if (q->out == DTYPE_BF16) return CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t ordered = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    return how->deterministic ? ordered : ordered | CUBLASLT_REDUCTION_SCHEME_INPLACE;
}

static ddpm_status set_preference(cublasLtMatmulPreference_t p, cublasLtMatmulPreferenceAttributes_t name,
                                  const void *value, size_t size, err *e)
{
    return failed(cublasLtMatmulPreferenceSetAttribute(p, name, value, size), "attribute of the heuristics", e);
}

static ddpm_status restrict_search(cublasLtMatmulPreference_t p, const gemm_problem *q, const primitive_search *how,
                                   err *e)
{
    static const cublasLtMatmulPreferenceAttributes_t address[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t cap = how->workspace_cap;
    const uint32_t mask = reductions(q, how), align = (uint32_t)q->align;
    TRY(set_preference(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &cap, sizeof cap, e));
    TRY(set_preference(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &mask, sizeof mask, e));
    for (size_t i = 0; i < sizeof address / sizeof *address; i++)
        TRY(set_preference(p, address[i], &align, sizeof align, e));
    return DDPM_OK;
}

/* One attribute of an algo's configuration; 0 where this version of cuBLASLt does not report it. */
static long long configured(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t name, size_t size)
{
    uint32_t wide = 0;
    uint16_t narrow = 0;
    size_t written = 0;
    void *const value = size == sizeof narrow ? (void *)&narrow : (void *)&wide;
    const bool told = cublasLtMatmulAlgoConfigGetAttribute(algo, name, value, size, &written) == CUBLAS_STATUS_SUCCESS;
    return !told ? 0 : size == sizeof narrow ? narrow : (int32_t)wide;
}

static void algo_name(const cublasLtMatmulAlgo_t *algo, char text[PRIMITIVE_NAME])
{
    static const struct {
        const char *name;
        cublasLtMatmulAlgoConfigAttributes_t attribute;
        size_t size;
    } part[] = {
        {"algo", CUBLASLT_ALGO_CONFIG_ID, 4},
        {":t", CUBLASLT_ALGO_CONFIG_TILE_ID, 4},
        {":st", CUBLASLT_ALGO_CONFIG_STAGES_ID, 4},
        {":sk", CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4},
        {":r", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4},
        {":sw", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4},
        {":c", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4},
        {":in", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2},
        {":cl", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2},
    };
    size_t at = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        at += (size_t)snprintf(text + at, PRIMITIVE_NAME - at, "%s%lld", part[i].name,
                               configured(algo, part[i].attribute, part[i].size));
}

/* The heuristics were given the same limits; an algo that violates one would show only in the results. */
static bool acceptable(const cublasLtMatmulHeuristicResult_t *r, const gemm_problem *q, const primitive_search *how)
{
    if (r->state != CUBLAS_STATUS_SUCCESS || r->workspaceSize > how->workspace_cap) return false;
    const long long scheme = configured(&r->algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, sizeof(uint32_t));
    return configured(&r->algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, sizeof(uint32_t)) == 1 ||
           !(scheme & ~(long long)reductions(q, how));
}

static int algo_named(const cublas_gemm *g, const char *cached)
{
    char name[PRIMITIVE_NAME];
    for (int i = 0; cached && i < g->n; i++) {
        algo_name(&g->algo[i].algo, name);
        if (!strcmp(name, cached)) return i;
    }
    return -1;
}

static void keep_only(cublas_gemm *g, int i)
{
    g->algo[0] = g->algo[i];
    g->n = 1;
}

static ddpm_status find_algos(cublas_gemm *g, const gemm_problem *q, const primitive_search *how, err *e)
{
    cublasLtMatmulHeuristicResult_t found[PROPOSALS];
    cublasLtMatmulPreference_t preference = NULL;
    int n = 0;
    ddpm_status st;
    TRY_GOTO(failed(cublasLtMatmulPreferenceCreate(&preference), "heuristics", e));
    TRY_GOTO(restrict_search(preference, q, how, e));
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(g->handle, g->product, g->left, g->right, g->addend ? g->addend : g->result,
                                       g->result, preference, PROPOSALS, found, &n);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) TRY_GOTO(failed(status, "cublasLtMatmulAlgoGetHeuristic", e));
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < n; i++)
        if (acceptable(&found[i], q, how))
            g->algo[g->n++] = (gemm_algo){.algo = found[i].algo, .workspace = found[i].workspaceSize};
    const int cached = algo_named(g, how->cached_algo);
    if (cached >= 0) keep_only(g, cached);
    if (!g->n) st = err_set(e, DDPM_EBACKEND, "cuBLASLt: no algorithm for %s", g->base.key);
done:
    if (preference) (void)cublasLtMatmulPreferenceDestroy(preference);
    return st;
}

/* ---- the primitive ----------------------------------------------------------------------------- */

static int gemm_count(const primitive *p) { return ((const cublas_gemm *)p)->n; }

static void gemm_name(const primitive *p, int i, char text[PRIMITIVE_NAME])
{
    algo_name(&((const cublas_gemm *)p)->algo[i].algo, text);
}

static size_t gemm_workspace(const primitive *p, int i) { return ((const cublas_gemm *)p)->algo[i].workspace; }

static ddpm_status gemm_keep(primitive *p, int i, err *e)
{
    keep_only((cublas_gemm *)p, i);
    return DDPM_OK;
}

static ddpm_status gemm_run(primitive *p, int i, void *const operands[PRIMITIVE_OPERANDS], void *workspace,
                            void *stream, err *e)
{
    cublas_gemm *g = (cublas_gemm *)p;
    const gemm_layout *l = &g->layout;
    const gemm_algo *algo = &g->algo[i];
    if (g->bias)
        TRY(set_product(g->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands[GEMM_BIAS], sizeof operands[GEMM_BIAS],
                        e));
    return failed(cublasLtMatmul(g->handle, g->product, &g->alpha, operands[l->left.operand], g->left,
                                 operands[l->right.operand], g->right, &g->beta, operands[l->addend.operand],
                                 g->addend ? g->addend : g->result, operands[l->result.operand], g->result, &algo->algo,
                                 algo->workspace ? workspace : NULL, algo->workspace, (cudaStream_t)stream),
                  g->base.key, e);
}

static void gemm_destroy(primitive *p)
{
    cublas_gemm *g = (cublas_gemm *)p;
    cublasLtMatrixLayout_t const matrix[] = {g->left, g->right, g->result, g->addend};
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++)
        if (matrix[i]) (void)cublasLtMatrixLayoutDestroy(matrix[i]);
    if (g->product) (void)cublasLtMatmulDescDestroy(g->product);
    mem_free(g);
}

static const primitive_table gemm_table = {gemm_count, gemm_name, gemm_workspace, gemm_keep, gemm_run, gemm_destroy};

static void fill_base(cublas_gemm *g, const gemm_problem *q)
{
    const gemm_layout *l = &g->layout;
    const char *const in = q->tf32 && q->in == DTYPE_F32 ? "tf32" : dtype_name(q->in);
    g->base.fn = &gemm_table;
    (void)snprintf(g->base.key, sizeof g->base.key,
                   "gemm:%s-%s:%c%c:%lldx%lldx%lld:ld%lld,%lld,%lld,%lld:b%lld,%lld,%lld,%lld:a%.9g:al%d%s%s", in,
                   dtype_name(q->out), q->transpose_a ? 't' : 'n', q->transpose_b ? 't' : 'n', (long long)q->m,
                   (long long)q->n, (long long)q->k, (long long)q->lda, (long long)q->ldb, (long long)q->ldd,
                   (long long)l->addend.ld, (long long)q->batch, (long long)l->right.stride, (long long)l->left.stride,
                   (long long)l->result.stride, (double)q->alpha, q->align, q->bias ? ":bias" : "",
                   q->addend ? ":addend" : "");
    size_t *bytes = g->base.bytes;
    bytes[GEMM_A] = (size_t)gemm_matrix_extent(&l->right, q->batch) * dtype_size(q->in);
    bytes[GEMM_B] = (size_t)gemm_matrix_extent(&l->left, q->batch) * dtype_size(q->in);
    bytes[GEMM_D] = (size_t)gemm_matrix_extent(&l->result, q->batch) * dtype_size(q->out);
    if (q->bias) bytes[GEMM_BIAS] = (size_t)q->n * dtype_size(q->out);
    if (q->addend) bytes[GEMM_C] = (size_t)gemm_matrix_extent(&l->addend, q->batch) * dtype_size(q->out);
    g->base.written[GEMM_D] = true;
    g->base.result[GEMM_D] = q->out;
}

ddpm_status cublas_gemm_create(cublas_context *c, const gemm_problem *q, const primitive_search *how, primitive **out,
                               err *e)
{
    cublas_gemm *g = NULL;
    ddpm_status st;
    *out = NULL;
    TRY_GOTO(mem_array(&g, 1, sizeof *g, "matrix product", e));
    g->handle = c->handle;
    g->alpha = q->alpha;
    g->beta = q->addend ? 1 : 0;
    g->bias = q->bias;
    TRY_GOTO(gemm_layout_of(q, &g->layout, e));
    fill_base(g, q);
    TRY_GOTO(make_product(g, q, e));
    TRY_GOTO(find_algos(g, q, how, e));
    *out = &g->base;
    g = NULL;
done:
    if (g) gemm_destroy(&g->base);
    return st;
}
