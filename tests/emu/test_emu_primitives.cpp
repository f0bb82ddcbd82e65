/* The emulated libraries against PyTorch, and the calls that they reject. */
#include "emu/emu_fixture.h"
#include "emu/machine.h"
#include "math/bf16.h"
extern "C" {
#include "backend/cuda/lib/cublas_gemm.h"
#include "backend/cuda/lib/cudnn_problem.h"
}

/* ---- operands ---- */

enum { X, W, DY, A, B, QKV, DOUT, BIAS, BEFORE }; /* seeds of operands: those of make_emu_fixture.py, then our own */

static double value(int salt, int64_t i) { return (double)((i * 7 + i / 5 + salt * 13) % 17 - 8) / 8.0; }

struct rig {
    const bool first = emu_live_total() == 0;
    void *stream = nullptr;
    cudnn_context *cudnn = nullptr;
    cublas_context *blas = nullptr;
    primitive *p = nullptr;
    void *at[PRIMITIVE_OPERANDS] = {};
    void *room = nullptr;

    rig()
    {
        OK(rt_stream_create(false, &stream, &why));
        OK(cudnn_context_create(nullptr, &cudnn, &why));
        OK(cublas_context_create(&blas, &why));
    }
    ~rig()
    {
        primitive_destroy(p);
        for (void *memory : at) rt_free(memory);
        rt_free(room);
        cudnn_context_destroy(cudnn);
        cublas_context_destroy(blas);
        rt_stream_destroy(stream);
        if (first) cr_expect_eq(emu_live_total(), 0);
    }
    void get_operands()
    {
        for (int i = 0; i < PRIMITIVE_OPERANDS; i++)
            if (p->bytes[i]) OK(rt_alloc(p->bytes[i], &at[i], &why));
        OK(rt_alloc(EMU_LARGE_WORKSPACE, &room, &why));
    }
    ddpm_status run(int algo) { return p->fn->run(p, algo, at, room, stream, &why); }
};

static const primitive_search anything = {false, SIZE_MAX, nullptr};

static void fill(rig &r, int operand, dtype type, const std::vector<double> &v)
{
    std::vector<char> bytes(v.size() * dtype_size(type));
    cr_assert_eq(bytes.size(), r.p->bytes[operand], "operand %d", operand);
    for (size_t i = 0; i < v.size(); i++)
        if (type == DTYPE_BF16)
            ((bf16 *)bytes.data())[i] = bf16_of((float)v[i]);
        else
            ((float *)bytes.data())[i] = (float)v[i];
    OK(rt_upload(r.at[operand], bytes.data(), bytes.size(), r.stream, &why));
    OK(rt_sync(r.stream, &why));
}

static std::vector<double> values(int salt, size_t count)
{
    std::vector<double> v(count);
    for (size_t i = 0; i < count; i++) v[i] = value(salt, (int64_t)i);
    return v;
}

static std::vector<float> read(rig &r, int operand, dtype type)
{
    std::vector<char> bytes(r.p->bytes[operand]);
    OK(rt_download(bytes.data(), r.at[operand], bytes.size(), r.stream, &why));
    OK(rt_sync(r.stream, &why));
    std::vector<float> v(bytes.size() / dtype_size(type));
    for (size_t i = 0; i < v.size(); i++)
        v[i] = type == DTYPE_BF16 ? bf16_to_f32(((bf16 *)bytes.data())[i]) : ((float *)bytes.data())[i];
    return v;
}

static float rounded(dtype type, double v) { return type == DTYPE_BF16 ? bf16_to_f32(bf16_of((float)v)) : (float)v; }

/* ---- convolutions ---- */

static conv_problem problem_of(const conv_fixture &f, conv_pass pass, dtype io, bool extras)
{
    conv_problem q = {};
    q.shape = {pass, f.n, f.h, f.w, f.c, f.oh, f.ow, f.k, f.filter, f.stride, f.before, f.after};
    q.io = io;
    q.bias = q.residual = extras && pass == CONV_PASS_FORWARD;
    q.accumulate = extras && pass != CONV_PASS_FORWARD;
    return q;
}

/* With `extras` the pass adds bias and residual, or accumulates into its result. */
static void check_conv(const conv_fixture &f, conv_pass pass, dtype io, bool extras)
{
    static const int result_of[] = {CUDNN_CONV_Y, CUDNN_CONV_X, CUDNN_CONV_W};
    rig r;
    const conv_problem q = problem_of(f, pass, io, extras);
    const int result = result_of[pass];
    const double *want = pass == CONV_PASS_FORWARD ? f.y : pass == CONV_PASS_BACKWARD_DATA ? f.dx : f.dw;
    OK(cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why));
    r.get_operands();
    const size_t size = dtype_size(io), count = r.p->bytes[result] / size;
    fill(r, CUDNN_CONV_X, io, values(X, r.p->bytes[CUDNN_CONV_X] / size));
    fill(r, CUDNN_CONV_W, io, values(W, r.p->bytes[CUDNN_CONV_W] / size));
    fill(r, CUDNN_CONV_Y, io, values(DY, r.p->bytes[CUDNN_CONV_Y] / size));
    if (q.bias) fill(r, CUDNN_CONV_BIAS, io, values(BIAS, (size_t)f.k));
    if (q.residual) fill(r, CUDNN_CONV_RESIDUAL, io, values(BEFORE, count));
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++) cr_assert_eq(r.p->written[i], i == result);
    cr_assert_eq(r.p->fn->count(r.p), 3);
    for (int algo = 0; algo < 3; algo++) {
        fill(r, result, io, values(BEFORE, count));
        OK(r.run(algo));
        const std::vector<float> got = read(r, result, io);
        for (size_t i = 0; i < count; i++) {
            double sum = want[i];
            if (q.bias) sum += value(BIAS, (int64_t)i % f.k);
            if (q.residual || q.accumulate) sum += value(BEFORE, (int64_t)i);
            cr_assert_eq(got[i], rounded(io, sum), "%s: element %zu: %g, not %g", r.p->key, i, (double)got[i], sum);
        }
    }
}

Test(emu_primitives, convolutions_are_those_of_pytorch)
{
    for (const conv_fixture &f : conv_fixtures)
        for (conv_pass pass : {CONV_PASS_FORWARD, CONV_PASS_BACKWARD_DATA, CONV_PASS_BACKWARD_WEIGHTS})
            for (dtype io : {DTYPE_F32, DTYPE_BF16})
                for (bool extras : {false, true}) check_conv(f, pass, io, extras);
}

Test(emu_primitives, sizes_that_contradict_each_other_are_refused)
{
    rig r;
    const conv_problem good = problem_of(conv_fixtures[1], CONV_PASS_FORWARD, DTYPE_F32, false);
    conv_problem q = good;
    q.shape.oh++;
    REFUSED(DDPM_EBACKEND, cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why), "contradict");
    q = good, q.shape.pad_end = 4;
    REFUSED(DDPM_EBACKEND, cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why), "contradict");
    q = good, q.accumulate = true;
    REFUSED(DDPM_EBACKEND, cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why), "contradict");
    cr_assert_null(r.p);
}

/* 1 + 2^-11 and 1 + 3 2^-11 need 12 bits, one more than tf32 has: both are ties and round to even. */
Test(emu_primitives, tf32_rounds_the_factors)
{
    static const int operand[][3] = {/* result, factors */
                                     {CUDNN_CONV_Y, CUDNN_CONV_X, CUDNN_CONV_W},
                                     {CUDNN_CONV_X, CUDNN_CONV_Y, CUDNN_CONV_W},
                                     {CUDNN_CONV_W, CUDNN_CONV_X, CUDNN_CONV_Y}};
    for (conv_pass pass : {CONV_PASS_FORWARD, CONV_PASS_BACKWARD_DATA, CONV_PASS_BACKWARD_WEIGHTS})
        for (bool tf32 : {false, true}) {
            rig r;
            conv_problem q =
                problem_of({1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, nullptr, nullptr, nullptr}, pass, DTYPE_F32, false);
            q.tf32 = tf32;
            OK(cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why));
            r.get_operands();
            fill(r, operand[pass][1], DTYPE_F32, {1 + 0x1p-11});
            fill(r, operand[pass][2], DTYPE_F32, {1 + 3 * 0x1p-11});
            OK(r.run(0));
            cr_assert_eq(read(r, operand[pass][0], DTYPE_F32)[0],
                         (float)(tf32 ? 1 + 0x1p-9 : (1 + 0x1p-11) * (1 + 3 * 0x1p-11)));
        }
}

/* ---- products ---- */

/* Rows of the stored matrix are 3 elements longer than needed; matrices of the batch are 7 elements apart. */
static std::vector<double> stored(int salt, int rows, int cols, bool transpose)
{
    const int lines = transpose ? cols : rows, length = transpose ? rows : cols, ld = length + 3,
              stride = lines * ld + 7;
    std::vector<double> v((size_t)((GEMM_BATCH - 1) * stride + (lines - 1) * ld + length), NAN);
    for (int b = 0; b < GEMM_BATCH; b++)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < cols; j++)
                v[(size_t)(b * stride + (transpose ? j * ld + i : i * ld + j))] =
                    value(salt, (b * rows + i) * cols + j);
    return v;
}

static gemm_problem product_problem(bool ta, bool tb, dtype in, dtype out)
{
    gemm_problem q = {};
    q.in = in, q.out = out, q.transpose_a = ta, q.transpose_b = tb;
    q.m = GEMM_M, q.n = GEMM_N, q.k = GEMM_K, q.batch = GEMM_BATCH;
    q.lda = (ta ? GEMM_M : GEMM_K) + 3, q.ldb = (tb ? GEMM_K : GEMM_N) + 3, q.ldd = GEMM_N + 3, q.ldc = GEMM_N + 3;
    q.stride_a = (ta ? GEMM_K : GEMM_M) * q.lda + 7, q.stride_b = (tb ? GEMM_N : GEMM_K) * q.ldb + 7;
    q.stride_d = GEMM_M * q.ldd + 7;
    q.alpha = -0.5f;
    q.align = 2;
    return q;
}

static void check_gemm(const gemm_problem &q, bool in_place)
{
    rig r;
    OK(cublas_gemm_create(r.blas, &q, &anything, &r.p, &why));
    r.get_operands();
    fill(r, GEMM_A, q.in, stored(A, GEMM_M, GEMM_K, q.transpose_a));
    fill(r, GEMM_B, q.in, stored(B, GEMM_K, GEMM_N, q.transpose_b));
    const std::vector<double> before = stored(BEFORE, GEMM_M, GEMM_N, false);
    fill(r, GEMM_D, q.out, before);
    if (q.addend) fill(r, GEMM_C, q.out, before);
    void *const c = r.at[GEMM_C];
    if (in_place) r.at[GEMM_C] = r.at[GEMM_D];
    OK(r.run(1));
    r.at[GEMM_C] = c;
    const std::vector<float> got = read(r, GEMM_D, q.out);
    for (size_t i = 0; i < got.size(); i++) {
        const int b = (int)((int64_t)i / q.stride_d), row = (int)((int64_t)i % q.stride_d / q.ldd);
        const int col = (int)((int64_t)i % q.stride_d % q.ldd);
        if (row >= GEMM_M || col >= GEMM_N) {
            cr_assert(std::isnan(got[i]), "element %zu lies between rows", i);
            continue;
        }
        const double sum = (double)q.alpha * gemm_d[(b * GEMM_M + row) * GEMM_N + col] + (q.addend ? before[i] : 0.0);
        cr_assert_eq(got[i], rounded(q.out, sum), "%s: element %zu: %g, not %g", r.p->key, i, (double)got[i], sum);
    }
}

Test(emu_primitives, products_are_those_of_pytorch)
{
    for (int flags = 0; flags < 8; flags++) {
        gemm_problem q = product_problem(flags & 1, flags & 2, DTYPE_F32, DTYPE_F32);
        q.addend = flags & 4;
        check_gemm(q, false);
        if (q.addend) check_gemm(q, true);
        q.in = DTYPE_BF16;
        check_gemm(q, false);
        q.out = DTYPE_BF16;
        check_gemm(q, false);
    }
}

Test(emu_primitives, a_bias_is_added_to_every_row)
{
    rig r;
    gemm_problem q = product_problem(false, false, DTYPE_F32, DTYPE_F32);
    q.batch = 1, q.stride_a = q.stride_b = q.stride_d = -1; /* not used */
    q.bias = true;
    OK(cublas_gemm_create(r.blas, &q, &anything, &r.p, &why));
    r.get_operands();
    std::vector<double> a = stored(A, GEMM_M, GEMM_K, false), b = stored(B, GEMM_K, GEMM_N, false);
    a.resize(r.p->bytes[GEMM_A] / sizeof(float)), b.resize(r.p->bytes[GEMM_B] / sizeof(float));
    fill(r, GEMM_A, DTYPE_F32, a);
    fill(r, GEMM_B, DTYPE_F32, b);
    fill(r, GEMM_BIAS, DTYPE_F32, values(BIAS, GEMM_N));
    OK(r.run(0));
    const std::vector<float> got = read(r, GEMM_D, DTYPE_F32);
    for (int i = 0; i < GEMM_M; i++)
        for (int j = 0; j < GEMM_N; j++)
            cr_assert_eq(got[(size_t)(i * q.ldd + j)], (float)(-0.5 * gemm_d[i * GEMM_N + j] + value(BIAS, j)));
    q.batch = 2;
    primitive *none;
    REFUSED(DDPM_EBACKEND, cublas_gemm_create(r.blas, &q, &anything, &none, &why), "contradict");
    q = product_problem(false, false, DTYPE_F32, DTYPE_F32);
    q.lda = GEMM_K - 1;
    REFUSED(DDPM_EBACKEND, cublas_gemm_create(r.blas, &q, &anything, &none, &why), "contradict");
    cr_assert_null(none);
}

/* ---- attention ---- */

static void check_all(const std::vector<float> &got, const double *want, double tolerance, const char *what)
{
    for (size_t i = 0; i < got.size(); i++)
        cr_assert_float_eq(got[i], want[i], tolerance, "%s: element %zu: %g, not %g", what, i, (double)got[i], want[i]);
}

Test(emu_primitives, attention_is_that_of_pytorch)
{
    rig forward, backward;
    const size_t rows = ATTENTION_N * ATTENTION_S, row = ATTENTION_HEADS * ATTENTION_D;
    attention_problem q = {false, DTYPE_BF16, ATTENTION_N, ATTENTION_S, ATTENTION_HEADS, ATTENTION_D};
    OK(cudnn_attention_create(forward.cudnn, &q, &anything, &forward.p, &why));
    q.backward = true;
    OK(cudnn_attention_create(backward.cudnn, &q, &anything, &backward.p, &why));
    forward.get_operands(), backward.get_operands();
    fill(forward, SDPA_QKV, DTYPE_BF16, values(QKV, 3 * rows * row));
    OK(forward.run(2));
    const std::vector<float> y = read(forward, SDPA_Y, DTYPE_BF16), lse = read(forward, SDPA_LSE, DTYPE_F32);
    check_all(y, attention_y, 0x1p-9, "y"); /* |y| < 1 */
    check_all(lse, attention_lse, 1e-6, "lse");
    fill(backward, SDPA_QKV, DTYPE_BF16, values(QKV, 3 * rows * row));
    fill(backward, SDPA_Y, DTYPE_BF16, std::vector<double>(y.begin(), y.end()));
    fill(backward, SDPA_LSE, DTYPE_F32, std::vector<double>(lse.begin(), lse.end()));
    fill(backward, SDPA_DY, DTYPE_BF16, values(DOUT, rows * row));
    OK(backward.run(0));
    check_all(read(backward, SDPA_DQKV, DTYPE_BF16), attention_dqkv, 0x1p-7, "dqkv");
}

Test(emu_primitives, attention_can_be_absent)
{
    rig r;
    attention_problem q = {false, DTYPE_BF16, 2, 5, 2, 8};
    for (int what = 0; what < 4; what++) {
        q.io = what == 0 ? DTYPE_F32 : DTYPE_BF16;
        q.d = what == 1 ? 12 : what == 2 ? 136 : 8;
        emu_get_device()->attention = what != 3 ? 128 : 0;
        OK(cudnn_attention_create(r.cudnn, &q, &anything, &r.p, &why));
        cr_assert_null(r.p);
    }
}

/* ---- algos and runs ---- */

static primitive *simple(rig &r, const primitive_search *how)
{
    const conv_problem q = problem_of(conv_fixtures[3], CONV_PASS_FORWARD, DTYPE_F32, false);
    OK(cudnn_convolution_create(r.cudnn, &q, how, &r.p, &why));
    return r.p;
}

static std::string names(const primitive *p)
{
    std::string all;
    for (int i = 0; i < p->fn->count(p); i++) {
        char name[PRIMITIVE_NAME];
        p->fn->name(p, i, name);
        cr_assert_null(strchr(name, ' '));
        all += std::string(i ? " " : "") + name;
    }
    return all;
}

Test(emu_primitives, the_search_leaves_algos_out)
{
    const struct {
        primitive_search how;
        const char *left;
    } cases[] = {
        {{false, SIZE_MAX, nullptr}, "plain with-256-bytes large-nondet"},
        {{true, SIZE_MAX, nullptr}, "plain with-256-bytes"},
        {{false, EMU_LARGE_WORKSPACE - 1, nullptr}, "plain with-256-bytes"},
        {{false, 256, nullptr}, "plain with-256-bytes"},
        {{false, 255, nullptr}, "plain"},
        {{false, 0, nullptr}, "plain"},
        {{false, SIZE_MAX, "with-256-bytes"}, "with-256-bytes"},
        {{true, SIZE_MAX, "large-nondet"}, "plain with-256-bytes"}, /* the cached algo is excluded: all others */
    };
    for (const auto &c : cases) {
        rig r;
        const std::string left = names(simple(r, &c.how));
        cr_assert_eq(left, c.left, "%s", left.c_str());
    }
}

Test(emu_primitives, a_kept_algo_is_the_only_one)
{
    rig r;
    simple(r, &anything);
    r.get_operands();
    OK(r.p->fn->keep(r.p, 1, &why));
    cr_assert_eq(names(r.p), "with-256-bytes");
    cr_assert_eq(r.p->fn->workspace(r.p, 0), 256u);
    OK(r.run(0));
    REFUSED(DDPM_EBACKEND, r.run(1), "algo 1 of 1");
}

Test(emu_primitives, the_workspace_is_written_and_nothing_beside_it)
{
    rig r;
    std::vector<unsigned char> v(512);
    simple(r, &anything);
    r.get_operands();
    OK(r.run(1));
    OK(rt_download(v.data(), r.room, v.size(), r.stream, &why));
    OK(rt_sync(r.stream, &why));
    for (size_t i = 0; i < v.size(); i++) cr_assert_eq(v[i], i < 256 ? 0xff : 0);
}

Test(emu_primitives, algos_take_their_time)
{
    rig r;
    void *from, *to;
    float ms;
    simple(r, &anything);
    r.get_operands();
    OK(rt_event_create(true, &from, &why));
    OK(rt_event_create(true, &to, &why));
    emu_get_device()->algo_us[2] = 7000;
    OK(rt_event_record(from, r.stream, &why));
    OK(r.run(2));
    OK(rt_event_record(to, r.stream, &why));
    OK(rt_event_ms(from, to, &ms, &why));
    cr_assert_float_eq(ms, 7, 1e-6);
    rt_event_destroy(from);
    rt_event_destroy(to);
}

/* One mistake at a time, in a run that is otherwise correct. */
Test(emu_primitives, operands_are_checked)
{
    rig r;
    simple(r, &anything);
    r.get_operands();
    char on_host[1024] = {};
    void *const x = r.at[CUDNN_CONV_X], *const y = r.at[CUDNN_CONV_Y], *const room = r.room;
    r.at[CUDNN_CONV_X] = on_host;
    REFUSED(DDPM_EBACKEND, r.run(0), "operand 0", "not device memory");
    r.at[CUDNN_CONV_X] = static_cast<char *>(x) + 4;
    REFUSED(DDPM_EBACKEND, r.run(0), "operand 0", "not device memory"); /* the memory is too short */
    r.at[CUDNN_CONV_X] = static_cast<char *>(room) + 4;
    REFUSED(DDPM_EBACKEND, r.run(0), "operand 0", "not aligned to 16 bytes");
    r.at[CUDNN_CONV_X] = room;
    REFUSED(DDPM_EBACKEND, r.run(1), "operand 0 and the workspace overlap");
    r.at[CUDNN_CONV_Y] = static_cast<char *>(room) + 16;
    REFUSED(DDPM_EBACKEND, r.run(0), "operand 0 overlaps the result, operand 2");
    r.at[CUDNN_CONV_Y] = room;
    REFUSED(DDPM_EBACKEND, r.run(0), "operand 0 overlaps the result, operand 2");
    r.at[CUDNN_CONV_X] = x, r.at[CUDNN_CONV_Y] = y, r.room = on_host;
    OK(r.run(0)); /* algo 0 needs no workspace */
    REFUSED(DDPM_EBACKEND, r.run(1), "workspace", "not device memory");
    r.room = static_cast<char *>(room) + 16;
    REFUSED(DDPM_EBACKEND, r.run(1), "workspace", "not aligned to 256 bytes");
    r.room = room;
    OK(r.run(1));
}

/* An addend may be the result itself, because each element is read before it is written; an input may not. */
Test(emu_primitives, only_what_is_added_may_be_the_result)
{
    rig r;
    const conv_problem q = problem_of(conv_fixtures[3], CONV_PASS_FORWARD, DTYPE_F32, true);
    OK(cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why));
    r.get_operands();
    void *const residual = r.at[CUDNN_CONV_RESIDUAL], *const bias = r.at[CUDNN_CONV_BIAS];
    r.at[CUDNN_CONV_RESIDUAL] = r.at[CUDNN_CONV_Y];
    OK(r.run(0));
    r.at[CUDNN_CONV_RESIDUAL] = residual, r.at[CUDNN_CONV_BIAS] = r.at[CUDNN_CONV_Y];
    REFUSED(DDPM_EBACKEND, r.run(0), "operand 3 overlaps the result, operand 2");
    r.at[CUDNN_CONV_BIAS] = bias;
}

Test(emu_primitives, a_recording_does_not_outlive_its_primitives)
{
    rig r;
    rt_graph *g;
    simple(r, &anything);
    r.get_operands();
    OK(rt_graph_begin(r.stream, &why));
    OK(r.run(0));
    OK(rt_graph_end(r.stream, &g, &why));
    OK(rt_graph_launch(g, r.stream, &why));
    OK(rt_sync(r.stream, &why));
    primitive_destroy(r.p);
    r.p = nullptr;
    OK(rt_graph_launch(g, r.stream, &why));
    REFUSED(DDPM_EBACKEND, rt_sync(r.stream, &why), "conv:forward:f32", "runs after it was destroyed");
    rt_graph_destroy(g);
}

Test(emu_primitives, algos_for_another_device_cannot_run)
{
    rig r;
    cudnn_context *there;
    OK(cudnn_context_create("{}", &there, &why));
    const conv_problem q = problem_of(conv_fixtures[0], CONV_PASS_FORWARD, DTYPE_F32, false);
    OK(cudnn_convolution_create(there, &q, &anything, &r.p, &why));
    r.get_operands();
    REFUSED(DDPM_EBACKEND, r.run(0), "planned for another device");
    cudnn_context_destroy(there);
}

Test(emu_primitives, creation_selection_and_run_fail_on_purpose)
{
    rig r;
    cudnn_context *d;
    cublas_context *b;
    const conv_problem q = problem_of(conv_fixtures[3], CONV_PASS_FORWARD, DTYPE_F32, false);
    emu_fail_at(1);
    REFUSED(DDPM_EBACKEND, cudnn_convolution_create(r.cudnn, &q, &anything, &r.p, &why),
            "call 1: creation of conv:forward");
    cr_assert_null(r.p);
    simple(r, &anything);
    r.get_operands();
    emu_fail_at(1);
    REFUSED(DDPM_EBACKEND, r.p->fn->keep(r.p, 0, &why), "call 1: primitive keep");
    emu_fail_at(2);
    OK(r.run(0));
    REFUSED(DDPM_EBACKEND, r.run(0), "call 2: conv:forward");
    emu_fail_at(1);
    REFUSED(DDPM_EBACKEND, cudnn_context_create(nullptr, &d, &why), "cudnn_context_create");
    emu_fail_at(1);
    REFUSED(DDPM_EBACKEND, cublas_context_create(&b, &why), "cublas_context_create");
    cr_assert(!d && !b);
}
