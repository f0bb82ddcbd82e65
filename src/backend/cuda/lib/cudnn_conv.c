#include "backend/cuda/lib/cudnn_opgraph.h"
#include "base/mem.h"

#include <cudnn.h>
#include <stdio.h>
#include <string.h>

/* ---- the context -------------------------------------------------------------------------------- */

static ddpm_status describe_device(cudnn_context *c, const char *json, err *e)
{
    const size_t version = cudnnGetVersion();
    if (version && version < CUDNN_FIRST_DEVICEPROP)
        return err_set(e, DDPM_EBACKEND,
                       "cuDNN: the JSON description of the device: it needs cuDNN 9.8, this is %zu.%zu",
                       version / 10000, version / 100 % 100);
    cudnnStatus_t s = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &c->device);
    if (!s)
        s = cudnnBackendSetAttribute(c->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                     (int64_t)strlen(json), json);
    if (!s) s = cudnnBackendFinalize(c->device);
    return s ? cudnn_failed(s, "the JSON description of the device", e) : DDPM_OK;
}

ddpm_status cudnn_context_create(const char *device_json, cudnn_context **out, err *e)
{
    cudnn_context *c = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(mem_array(&c, 1, sizeof *c, "cuDNN", e));
    if (device_json) {
        TRY_GOTO(describe_device(c, device_json, e));
    } else {
        const cudnnStatus_t s = cudnnCreate(&c->handle);
        if (s) TRY_GOTO(cudnn_failed(s, "cudnnCreate", e));
    }
    *out = c;
    c = NULL;
done:
    cudnn_context_destroy(c);
    return st;
}

void cudnn_context_destroy(cudnn_context *c)
{
    if (!c) return;
    if (c->device) (void)cudnnBackendDestroyDescriptor(c->device);
    if (c->handle) (void)cudnnDestroy(c->handle);
    mem_free(c);
}

void cudnn_context_describe(const cudnn_context *c, char text[80])
{
    const size_t v = cudnnGetVersion();
    if (v)
        (void)snprintf(text, 80, "cuDNN %zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
    else
        (void)snprintf(text, 80, "cuDNN not found");
}

/* ---- convolutions ------------------------------------------------------------------------------- */

/* The engines that cuDNN ships precompiled are created in less than a millisecond, and every convolution of a network
 * has some (1 to 75 on an H200).  A runtime-compiled engine takes 0.3 to 2 s and, but for fusions that are not used
 * here, uses older instructions; so compiled engines are tried only where fewer than COMPILE_BELOW others exist.
 *
 * No engine is excluded for the sake of loops in graphs: avoiding cooperative clusters can be requested of compiled
 * engines only (CUDNN_ATTR_ENGINE_DISABLE_CLUSTER_COOPERATIVE), the others do not report whether they use them. */
enum { COMPILE_BELOW = 2 };

static void write_key(const conv_problem *q, char key[PRIMITIVE_KEY])
{
    static const char *const pass[] = {
        [CONV_PASS_FORWARD] = "fwd", [CONV_PASS_BACKWARD_DATA] = "data", [CONV_PASS_BACKWARD_WEIGHTS] = "filter"};
    const conv_shape *s = &q->shape;
    const char *io = q->io == DTYPE_BF16 ? "bf16" : q->tf32 ? "tf32" : "fp32";
    (void)snprintf(key, PRIMITIVE_KEY, "conv:%s:%s:n%lldh%lldw%lldc%lld:oh%lldow%lldk%lld:f%ds%dp%d,%d:b%dr%da%d",
                   pass[s->pass], io, (long long)s->n, (long long)s->h, (long long)s->w, (long long)s->cin,
                   (long long)s->oh, (long long)s->ow, (long long)s->cout, s->kernel, s->stride, s->pad_begin,
                   s->pad_end, q->bias, q->residual, q->accumulate);
}

/* y = conv + residual + bias, in this order and with the bias in the type of x: the pattern for which cuDNN ships
 * precompiled kernels.  Any other pattern is compiled at run time. */
static void forward(cudnn_opgraph *g, const conv_problem *q, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                    cudnnBackendDescriptor_t y, const int64_t sizes[4])
{
    const cudnnDataType_t io = cudnn_type(q->io);
    cudnnBackendDescriptor_t sum = q->bias || q->residual ? cudnn_nhwc(g, 0, CUDNN_DATA_FLOAT, sizes) : y;
    cudnn_convolution(g, q, x, w, sum);
    if (q->residual) {
        const cudnnBackendDescriptor_t residual = cudnn_nhwc(g, CUDNN_CONV_RESIDUAL + 1, io, sizes);
        const cudnnBackendDescriptor_t to = q->bias ? cudnn_nhwc(g, 0, CUDNN_DATA_FLOAT, sizes) : y;
        cudnn_pointwise(g, CUDNN_POINTWISE_ADD, sum, residual, to);
        sum = to;
    }
    if (q->bias) {
        const int64_t each[4] = {1, 1, 1, q->shape.cout};
        cudnn_pointwise(g, CUDNN_POINTWISE_ADD, sum, cudnn_nhwc(g, CUDNN_CONV_BIAS + 1, io, each), y);
    }
}

void cudnn_convolution_graph(cudnn_opgraph *g, const conv_problem *q)
{
    const cudnnDataType_t io = cudnn_type(q->io);
    const conv_shape *s = &q->shape;
    const int64_t sizes_x[4] = {s->n, s->h, s->w, s->cin}, sizes_y[4] = {s->n, s->oh, s->ow, s->cout};
    const int64_t sizes_w[4] = {s->cout, s->kernel, s->kernel, s->cin};
    const cudnnBackendDescriptor_t x = cudnn_nhwc(g, CUDNN_CONV_X + 1, io, sizes_x);
    const cudnnBackendDescriptor_t w = cudnn_nhwc(g, CUDNN_CONV_W + 1, io, sizes_w);
    const cudnnBackendDescriptor_t y = cudnn_nhwc(g, CUDNN_CONV_Y + 1, io, sizes_y);
    if (s->pass == CONV_PASS_FORWARD)
        forward(g, q, x, w, y, sizes_y);
    else
        cudnn_convolution(g, q, x, w, y);
}

static void measure(const conv_problem *q, primitive *p)
{
    static const int result[] = {[CONV_PASS_FORWARD] = CUDNN_CONV_Y,
                                 [CONV_PASS_BACKWARD_DATA] = CUDNN_CONV_X,
                                 [CONV_PASS_BACKWARD_WEIGHTS] = CUDNN_CONV_W};
    const size_t each = dtype_size(q->io), y = (size_t)conv_y_count(&q->shape) * each;
    p->bytes[CUDNN_CONV_X] = (size_t)conv_x_count(&q->shape) * each;
    p->bytes[CUDNN_CONV_W] = (size_t)conv_w_count(&q->shape) * each;
    p->bytes[CUDNN_CONV_Y] = y;
    p->bytes[CUDNN_CONV_BIAS] = q->bias ? (size_t)q->shape.cout * each : 0;
    p->bytes[CUDNN_CONV_RESIDUAL] = q->residual ? y : 0;
    p->written[result[q->shape.pass]] = true;
    p->result[result[q->shape.pass]] = q->io;
}

ddpm_status cudnn_convolution_create(cudnn_context *c, const conv_problem *q, const primitive_search *how,
                                     primitive **out, err *e)
{
    char key[PRIMITIVE_KEY];
    write_key(q, key);
    cudnn_primitive_spec spec = {
        .key = key, .how = how, .strict = q->io == DTYPE_F32 && !q->tf32, .compile_below = COMPILE_BELOW};
    cudnn_opgraph g = {0};
    for (int i = CUDNN_CONV_X; i <= CUDNN_CONV_RESIDUAL; i++)
        if (i <= CUDNN_CONV_Y || (i == CUDNN_CONV_BIAS ? q->bias : q->residual))
            spec.binding[spec.n_binding++] = (cudnn_binding){.uid = i + 1, .operand = i};
    cudnn_convolution_graph(&g, q);
    ddpm_status st = cudnn_opgraph_primitive(&g, c, &spec, out, e);
    if (st == DDPM_OK && !*out)
        st = err_set(e, DDPM_EBACKEND, "%s: no cuDNN engine supports this problem: %s", key,
                     *g.first.text ? g.first.text : "the heuristics returned none");
    if (st == DDPM_OK) measure(q, *out);
    cudnn_opgraph_release(&g);
    return st;
}
