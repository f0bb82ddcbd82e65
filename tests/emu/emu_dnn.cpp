/* cudnn_problem.h by plain loops: sums in double, rounded once at the end. */
#include "emu/emu_loops.h"
#include "emu/emu_primitive.h"

#include <cstdio>
extern "C" {
#include "backend/cuda/lib/cudnn_problem.h"
}

using namespace emu;

struct cudnn_context {
    bool elsewhere; /* the context is for a described device that does not exist */
};

ddpm_status cudnn_context_create(const char *device_json, cudnn_context **out, err *e)
{
    *out = nullptr;
    ENTER(e);
    *out = new cudnn_context{device_json != nullptr};
    count_context(1);
    return DDPM_OK;
}

void cudnn_context_destroy(cudnn_context *c)
{
    if (!c) return;
    count_context(-1);
    delete c;
}

void cudnn_context_describe(const cudnn_context *, char text[80]) { snprintf(text, 80, "emulated cuDNN"); }

/* ---- convolutions ---- */

static size_t count_x(const conv_problem &q) { return (size_t)conv_x_count(&q.shape); }
static size_t count_y(const conv_problem &q) { return (size_t)conv_y_count(&q.shape); }
static size_t count_w(const conv_problem &q) { return (size_t)conv_w_count(&q.shape); }

static bool consistent(const conv_problem &q)
{
    const conv_shape &s = q.shape;
    const int64_t pads = s.pad_begin + s.pad_end;
    if (s.n < 1 || s.cin < 1 || s.cout < 1 || s.kernel < 1 || s.stride < 1 || s.pad_begin < 0 || s.pad_end < 0)
        return false;
    if (s.h + pads < s.kernel || s.w + pads < s.kernel) return false;
    if (s.pass != CONV_PASS_FORWARD && (q.bias || q.residual)) return false;
    if (s.pass == CONV_PASS_FORWARD && q.accumulate) return false;
    if (q.io != DTYPE_F32 && q.io != DTYPE_BF16) return false;
    return s.oh == (s.h + pads - s.kernel) / s.stride + 1 && s.ow == (s.w + pads - s.kernel) / s.stride + 1;
}

static void run_forward(const conv_problem &q, void *const *at)
{
    const std::vector<float> x = values_of(at[CUDNN_CONV_X], q.io, count_x(q), q.tf32);
    const std::vector<float> w = values_of(at[CUDNN_CONV_W], q.io, count_w(q), q.tf32);
    std::vector<double> y(count_y(q));
    conv_forward(q.shape, x.data(), w.data(), y.data());
    for (size_t i = 0; i < y.size(); i++) {
        if (q.bias) y[i] += (double)value_at(at[CUDNN_CONV_BIAS], q.io, i % (size_t)q.shape.cout);
        if (q.residual) y[i] += (double)value_at(at[CUDNN_CONV_RESIDUAL], q.io, i);
        put_value(at[CUDNN_CONV_Y], q.io, i, y[i]);
    }
}

static void put_all(void *to, dtype type, const std::vector<double> &values, bool add)
{
    for (size_t i = 0; i < values.size(); i++)
        put_value(to, type, i, add ? values[i] + (double)value_at(to, type, i) : values[i]);
}

static void run_data(const conv_problem &q, void *const *at)
{
    const std::vector<float> y = values_of(at[CUDNN_CONV_Y], q.io, count_y(q), q.tf32);
    const std::vector<float> w = values_of(at[CUDNN_CONV_W], q.io, count_w(q), q.tf32);
    std::vector<double> x(count_x(q));
    conv_data(q.shape, y.data(), w.data(), x.data());
    put_all(at[CUDNN_CONV_X], q.io, x, q.accumulate);
}

static void run_filter(const conv_problem &q, void *const *at)
{
    const std::vector<float> x = values_of(at[CUDNN_CONV_X], q.io, count_x(q), q.tf32);
    const std::vector<float> y = values_of(at[CUDNN_CONV_Y], q.io, count_y(q), q.tf32);
    std::vector<double> w(count_w(q));
    conv_filter(q.shape, x.data(), y.data(), w.data());
    put_all(at[CUDNN_CONV_W], q.io, w, q.accumulate);
}

static std::string conv_key(const conv_problem &q)
{
    static const char *const pass[] = {"forward", "data", "filter"};
    const conv_shape &s = q.shape;
    char text[PRIMITIVE_KEY];
    snprintf(text, sizeof text, "conv:%s:%s:%lldx%lldx%lldx%lld:%lldx%lldx%lld:f%ds%dp%d,%d%s%s%s", pass[s.pass],
             q.io == DTYPE_F32 && q.tf32 ? "tf32" : dtype_name(q.io), (long long)s.n, (long long)s.h, (long long)s.w,
             (long long)s.cin, (long long)s.oh, (long long)s.ow, (long long)s.cout, s.kernel, s.stride, s.pad_begin,
             s.pad_end, q.bias ? ":bias" : "", q.residual ? ":residual" : "", q.accumulate ? ":add" : "");
    return text;
}

ddpm_status cudnn_convolution_create(cudnn_context *c, const conv_problem *problem, const primitive_search *how,
                                     primitive **out, err *e)
{
    const conv_problem q = *problem;
    description d;
    *out = nullptr;
    d.key = conv_key(q);
    if (!consistent(q)) return err_set(e, DDPM_EBACKEND, "%s: the sizes contradict each other", d.key.c_str());
    const size_t each = dtype_size(q.io);
    d.bytes[CUDNN_CONV_X] = count_x(q) * each;
    d.bytes[CUDNN_CONV_W] = count_w(q) * each;
    d.bytes[CUDNN_CONV_Y] = count_y(q) * each;
    d.bytes[CUDNN_CONV_BIAS] = q.bias ? (size_t)q.shape.cout * each : 0;
    d.bytes[CUDNN_CONV_RESIDUAL] = q.residual ? count_y(q) * each : 0;
    d.may_alias[CUDNN_CONV_RESIDUAL] = true;
    d.runs = !c->elsewhere;
    switch (q.shape.pass) {
    case CONV_PASS_FORWARD:
        d.written[CUDNN_CONV_Y] = true, d.result[CUDNN_CONV_Y] = q.io;
        d.loops = [q](void *const *at) { run_forward(q, at); };
        break;
    case CONV_PASS_BACKWARD_DATA:
        d.written[CUDNN_CONV_X] = true, d.result[CUDNN_CONV_X] = q.io;
        d.loops = [q](void *const *at) { run_data(q, at); };
        break;
    case CONV_PASS_BACKWARD_WEIGHTS:
        d.written[CUDNN_CONV_W] = true, d.result[CUDNN_CONV_W] = q.io;
        d.loops = [q](void *const *at) { run_filter(q, at); };
        break;
    }
    return make_primitive(d, how, out, e);
}

/* ---- attention ---- */

struct attention_sizes {
    attention_shape t;
    size_t qkv, y, lse;
};

static attention_sizes sizes_of(const attention_problem &q)
{
    const size_t rows = (size_t)(q.n * q.s), row = (size_t)q.heads * (size_t)q.d;
    return {{q.n, q.s, q.heads, q.d}, 3 * rows * row, rows * row, rows * (size_t)q.heads};
}

static void run_attention(const attention_problem &q, void *const *at)
{
    const attention_sizes n = sizes_of(q);
    const std::vector<float> qkv = values_of(at[SDPA_QKV], q.io, n.qkv, false);
    std::vector<double> y(n.y), lse(n.lse);
    attention_forward(n.t, qkv.data(), y.data(), lse.data());
    put_all(at[SDPA_Y], q.io, y, false);
    put_all(at[SDPA_LSE], DTYPE_F32, lse, false);
}

static void run_attention_backward(const attention_problem &q, void *const *at)
{
    const attention_sizes n = sizes_of(q);
    const std::vector<float> qkv = values_of(at[SDPA_QKV], q.io, n.qkv, false);
    const std::vector<float> y = values_of(at[SDPA_Y], q.io, n.y, false);
    const std::vector<float> lse = values_of(at[SDPA_LSE], DTYPE_F32, n.lse, false);
    const std::vector<float> dy = values_of(at[SDPA_DY], q.io, n.y, false);
    std::vector<double> dqkv(n.qkv);
    attention_backward(n.t, qkv.data(), y.data(), lse.data(), dy.data(), dqkv.data());
    put_all(at[SDPA_DQKV], q.io, dqkv, false);
}

/* By default the problems that cuDNN's fused attention supports on all GPUs. */
static bool fusable(const attention_problem &q)
{
    return q.io == DTYPE_BF16 && q.d % 8 == 0 && q.d <= emu_get_device()->attention;
}

ddpm_status cudnn_attention_create(cudnn_context *c, const attention_problem *problem, const primitive_search *how,
                                   primitive **out, err *e)
{
    const attention_problem q = *problem;
    *out = nullptr;
    if (!fusable(q)) return DDPM_OK;
    const attention_sizes n = sizes_of(q);
    const size_t each = dtype_size(q.io);
    char text[PRIMITIVE_KEY];
    snprintf(text, sizeof text, "sdpa:%s:%s:%lldx%lld:%dx%d", q.backward ? "backward" : "forward", dtype_name(q.io),
             (long long)q.n, (long long)q.s, q.heads, q.d);
    description d;
    d.key = text;
    d.runs = !c->elsewhere;
    d.bytes[SDPA_QKV] = n.qkv * each;
    d.bytes[SDPA_Y] = n.y * each;
    d.bytes[SDPA_LSE] = n.lse * sizeof(float);
    d.bytes[SDPA_DY] = q.backward ? n.y * each : 0;
    d.bytes[SDPA_DQKV] = q.backward ? n.qkv * each : 0;
    d.written[SDPA_Y] = d.written[SDPA_LSE] = !q.backward;
    d.written[SDPA_DQKV] = q.backward;
    d.result[SDPA_Y] = d.result[SDPA_DQKV] = q.io;
    if (q.backward)
        d.loops = [q](void *const *at) { run_attention_backward(q, at); };
    else
        d.loops = [q](void *const *at) { run_attention(q, at); };
    return make_primitive(d, how, out, e);
}
