/* cublas_gemm.h by plain loops: sums in double, rounded once at the end. */
#include "emu/emu_loops.h"
#include "emu/emu_primitive.h"

#include <cstdio>
extern "C" {
#include "backend/cuda/lib/cublas_gemm.h"
}

using namespace emu;

struct cublas_context {
    int unused;
};

ddpm_status cublas_context_create(cublas_context **out, err *e)
{
    *out = nullptr;
    ENTER(e);
    *out = new cublas_context{0};
    count_context(1);
    return DDPM_OK;
}

void cublas_context_destroy(cublas_context *c)
{
    if (!c) return;
    count_context(-1);
    delete c;
}

void cublas_context_describe(const cublas_context *, char text[80]) { snprintf(text, 80, "emulated cuBLASLt"); }

/* A stored matrix. */
struct matrix {
    dtype type;
    int64_t rows, cols, ld, stride;
};

static matrix stored_a(const gemm_problem &q)
{
    return {q.in, q.transpose_a ? q.k : q.m, q.transpose_a ? q.m : q.k, q.lda, q.stride_a};
}
static matrix stored_b(const gemm_problem &q)
{
    return {q.in, q.transpose_b ? q.n : q.k, q.transpose_b ? q.k : q.n, q.ldb, q.stride_b};
}
static matrix stored_d(const gemm_problem &q) { return {q.out, q.m, q.n, q.ldd, q.stride_d}; }
static matrix stored_c(const gemm_problem &q) { return {q.out, q.m, q.n, q.ldc, q.stride_d}; }

static bool fits(const matrix &x) { return x.rows > 0 && x.cols > 0 && x.ld >= x.cols; }

/* Number of elements from the first to the last, over all matrices of the batch. */
static size_t extent(const matrix &x, int64_t batch)
{
    const int64_t before = batch > 1 ? (batch - 1) * x.stride : 0;
    return (size_t)(before + (x.rows - 1) * x.ld + x.cols) * dtype_size(x.type);
}

/* Matrix `which` of the batch as packed floats [rows, cols], transposed if `transpose`. */
static std::vector<float> packed(const matrix &x, const void *from, int64_t which, bool transpose, bool tf32)
{
    std::vector<float> v((size_t)(x.rows * x.cols));
    for (int64_t i = 0; i < x.rows; i++) {
        const size_t at = (size_t)(which * x.stride + i * x.ld) * dtype_size(x.type);
        const std::vector<float> row = values_of(static_cast<const char *>(from) + at, x.type, (size_t)x.cols, tf32);
        for (int64_t j = 0; j < x.cols; j++) v[(size_t)(transpose ? j * x.rows + i : i * x.cols + j)] = row[(size_t)j];
    }
    return v;
}

static void run_one(const gemm_problem &q, void *const *at, int64_t which)
{
    const std::vector<float> a = packed(stored_a(q), at[GEMM_A], which, q.transpose_a, q.tf32);
    const std::vector<float> b = packed(stored_b(q), at[GEMM_B], which, q.transpose_b, q.tf32);
    std::vector<double> sum((size_t)(q.m * q.n));
    product(q.m, q.n, q.k, a.data(), b.data(), sum.data());
    for (int64_t i = 0; i < q.m; i++)
        for (int64_t j = 0; j < q.n; j++) {
            double value = (double)q.alpha * sum[(size_t)(i * q.n + j)];
            if (q.bias) value += (double)value_at(at[GEMM_BIAS], q.out, (size_t)j);
            if (q.addend) value += (double)value_at(at[GEMM_C], q.out, (size_t)(which * q.stride_d + i * q.ldc + j));
            put_value(at[GEMM_D], q.out, (size_t)(which * q.stride_d + i * q.ldd + j), value);
        }
}

static void run_gemm(const gemm_problem &q, void *const *at)
{
    for (int64_t which = 0; which < q.batch; which++) run_one(q, at, which);
}

static std::string gemm_key(const gemm_problem &q)
{
    char text[PRIMITIVE_KEY];
    snprintf(
        text, sizeof text, "gemm:%s-%s:%c%c:%lldx%lldx%lld:ld%lld,%lld,%lld,%lld:b%lld,%lld,%lld,%lld:a%.9g:al%d%s%s",
        q.in == DTYPE_F32 && q.tf32 ? "tf32" : dtype_name(q.in), dtype_name(q.out), q.transpose_a ? 't' : 'n',
        q.transpose_b ? 't' : 'n', (long long)q.m, (long long)q.n, (long long)q.k, (long long)q.lda, (long long)q.ldb,
        (long long)q.ldd, (long long)q.ldc, (long long)q.batch, (long long)q.stride_a, (long long)q.stride_b,
        (long long)q.stride_d, (double)q.alpha, q.align, q.bias ? ":bias" : "", q.addend ? ":addend" : "");
    return text;
}

static bool possible(const gemm_problem &q)
{
    const bool aligned = q.align == 2 || q.align == 4 || q.align == 8 || q.align == 16;
    if (!fits(stored_a(q)) || !fits(stored_b(q)) || !fits(stored_d(q)) || (q.addend && !fits(stored_c(q))))
        return false;
    return aligned && q.batch >= 1 && !(q.bias && q.batch > 1) && !(q.in == DTYPE_F32 && q.out == DTYPE_BF16);
}

ddpm_status cublas_gemm_create(cublas_context *, const gemm_problem *problem, const primitive_search *how,
                               primitive **out, err *e)
{
    const gemm_problem q = *problem;
    description d;
    *out = nullptr;
    d.key = gemm_key(q);
    if (!possible(q)) return err_set(e, DDPM_EBACKEND, "%s: the sizes contradict each other", d.key.c_str());
    d.bytes[GEMM_A] = extent(stored_a(q), q.batch);
    d.bytes[GEMM_B] = extent(stored_b(q), q.batch);
    d.bytes[GEMM_D] = extent(stored_d(q), q.batch);
    d.bytes[GEMM_BIAS] = q.bias ? (size_t)q.n * dtype_size(q.out) : 0;
    d.bytes[GEMM_C] = q.addend ? extent(stored_c(q), q.batch) : 0;
    d.written[GEMM_D] = true, d.result[GEMM_D] = q.out;
    d.may_alias[GEMM_C] = true;
    d.dense = false;
    d.align = (size_t)q.align;
    d.loops = [q](void *const *at) { run_gemm(q, at); };
    return make_primitive(d, how, out, e);
}
