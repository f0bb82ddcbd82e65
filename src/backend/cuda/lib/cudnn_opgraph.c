#include "backend/cuda/lib/cudnn_opgraph.h"

#include <stdio.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

ddpm_status cudnn_failed(cudnnStatus_t status, const char *what, err *e)
{
    char why[400] = "";
    cudnnGetLastErrorString(why, sizeof why);
    why[sizeof why - 1] = 0;
    for (char *c = why; *c; c++)
        if (*c == '\n' || *c == '\r' || *c == '\t') *c = ' ';
    const bool host = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED,
               device = status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    return err_set(e, host || device ? DDPM_ENOMEM : DDPM_EBACKEND, "cuDNN: %s: %s%s%s%s", what,
                   cudnnGetErrorString(status), *why ? ": " : "", why, device ? ": a smaller batch needs less" : "");
}

/* ---- building ---------------------------------------------------------------------------------- */

bool cudnn_succeeds(cudnn_opgraph *g, cudnnStatus_t status, const char *what)
{
    if (cudnn_broken(g)) return false;
    if (status == CUDNN_STATUS_SUCCESS) return true;
    (void)cudnn_failed(status, what, &g->first);
    g->unsupported = CUDNN_STATUS_CATEGORY((int)status) == CUDNN_STATUS_NOT_SUPPORTED;
    return false;
}

void cudnn_opgraph_release(cudnn_opgraph *g)
{
    while (g->n_owned > 0) (void)cudnnBackendDestroyDescriptor(g->owned[--g->n_owned]);
    g->n_op = 0;
}

descriptor cudnn_make(cudnn_opgraph *g, cudnnBackendDescriptorType_t type)
{
    descriptor d = NULL;
    if (cudnn_broken(g)) return NULL;
    if (g->n_owned == OPGRAPH_OWNED) {
        (void)err_set(&g->first, DDPM_EBACKEND, "cuDNN: a graph of more than %d descriptors", OPGRAPH_OWNED);
        return NULL;
    }
    if (!cudnn_succeeds(g, cudnnBackendCreateDescriptor(type, &d), "a descriptor")) return NULL;
    g->owned[g->n_owned++] = d;
    return d;
}

descriptor cudnn_make_op(cudnn_opgraph *g, cudnnBackendDescriptorType_t type)
{
    if (!cudnn_broken(g) && g->n_op == OPGRAPH_OPS)
        (void)err_set(&g->first, DDPM_EBACKEND, "cuDNN: a graph of more than %d operations", OPGRAPH_OPS);
    const descriptor d = cudnn_make(g, type);
    if (d) g->op[g->n_op++] = d;
    return d;
}

void cudnn_set(cudnn_opgraph *g, descriptor d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
               int64_t count, const void *values)
{
    char what[32];
    if (cudnn_broken(g)) return;
    (void)snprintf(what, sizeof what, "attribute %d", (int)name);
    (void)cudnn_succeeds(g, cudnnBackendSetAttribute(d, name, type, count, values), what);
}

void cudnn_set_operand(cudnn_opgraph *g, descriptor d, cudnnBackendAttributeName_t name, descriptor operand)
{
    if (operand) cudnn_set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operand);
}

void cudnn_finalize(cudnn_opgraph *g, descriptor d, const char *what)
{
    if (!cudnn_broken(g)) (void)cudnn_succeeds(g, cudnnBackendFinalize(d), what);
}

static void set_int(cudnn_opgraph *g, descriptor d, cudnnBackendAttributeName_t name, int64_t value)
{
    cudnn_set(g, d, name, CUDNN_TYPE_INT64, 1, &value);
}

static void set_bool(cudnn_opgraph *g, descriptor d, cudnnBackendAttributeName_t name, bool value)
{
    cudnn_set(g, d, name, CUDNN_TYPE_BOOLEAN, 1, &value);
}

static void set_type(cudnn_opgraph *g, descriptor d, cudnnBackendAttributeName_t name, cudnnDataType_t value)
{
    cudnn_set(g, d, name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}

cudnnDataType_t cudnn_type(dtype d)
{
    switch (d) {
    case DTYPE_BF16: return CUDNN_DATA_BFLOAT16;
    case DTYPE_I64: return CUDNN_DATA_INT64;
    case DTYPE_U8: return CUDNN_DATA_UINT8;
    case DTYPE_F32: break;
    }
    return CUDNN_DATA_FLOAT;
}

descriptor cudnn_tensor(cudnn_opgraph *g, const cudnn_tensor_spec *t)
{
    enum { VIRTUAL = 1000 }; /* the first id of virtual tensors */
    const descriptor d = cudnn_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_type(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, t->type);
    cudnn_set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, t->rank, t->dim);
    cudnn_set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, t->rank, t->stride);
    set_int(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, t->uid ? t->uid : VIRTUAL + g->n_virtual++);
    set_int(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, OPGRAPH_ALIGN);
    set_bool(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, !t->uid);
    if (t->by_value) set_bool(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, true);
    cudnn_finalize(g, d, "tensor");
    return d;
}

descriptor cudnn_nhwc(cudnn_opgraph *g, int64_t uid, cudnnDataType_t type, const int64_t nhwc[4])
{
    const int64_t n = nhwc[0], h = nhwc[1], w = nhwc[2], c = nhwc[3];
    return cudnn_tensor(
        g, &(cudnn_tensor_spec){
               .uid = uid, .type = type, .rank = 4, .dim = {n, c, h, w}, .stride = {h * w * c, 1, w * c, c}});
}

/* ---- operations -------------------------------------------------------------------------------- */

static descriptor convolution(cudnn_opgraph *g, const conv_shape *s)
{
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t before[2] = {s->pad_begin, s->pad_begin}, after[2] = {s->pad_end, s->pad_end};
    const int64_t stride[2] = {s->stride, s->stride}, dilation[2] = {1, 1};
    const descriptor d = cudnn_make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_type(g, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    cudnn_set(g, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_int(g, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    cudnn_set(g, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    cudnn_set(g, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    cudnn_set(g, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    cudnn_set(g, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    cudnn_finalize(g, d, "convolution");
    return d;
}

void cudnn_convolution(cudnn_opgraph *g, const conv_problem *q, descriptor x, descriptor w, descriptor y)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
    } pass[] = {
        [CONV_PASS_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                               CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        [CONV_PASS_BACKWARD_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        [CONV_PASS_BACKWARD_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                                        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    const float alpha = 1, beta = q->accumulate ? 1 : 0;
    const descriptor c = convolution(g, &q->shape), d = cudnn_make_op(g, pass[q->shape.pass].type);
    cudnn_set_operand(g, d, pass[q->shape.pass].x, x);
    cudnn_set_operand(g, d, pass[q->shape.pass].w, w);
    cudnn_set_operand(g, d, pass[q->shape.pass].y, y);
    cudnn_set_operand(g, d, pass[q->shape.pass].convolution, c);
    cudnn_set(g, d, pass[q->shape.pass].alpha, CUDNN_TYPE_FLOAT, 1, &alpha); /* the only type that cuDNN accepts here */
    cudnn_set(g, d, pass[q->shape.pass].beta, CUDNN_TYPE_FLOAT, 1, &beta);
    cudnn_finalize(g, d, "convolution operation");
}

void cudnn_pointwise(cudnn_opgraph *g, cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y)
{
    const descriptor how = cudnn_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    cudnn_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_type(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    cudnn_finalize(g, how, "pointwise");
    const descriptor d = cudnn_make_op(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    cudnn_finalize(g, d, "pointwise operation");
}

void cudnn_reduction(cudnn_opgraph *g, cudnnReduceTensorOp_t op, descriptor x, descriptor y)
{
    const descriptor how = cudnn_make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    cudnn_set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &op);
    set_type(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    cudnn_finalize(g, how, "reduction");
    const descriptor d = cudnn_make_op(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    cudnn_finalize(g, d, "reduction operation");
}

void cudnn_matmul(cudnn_opgraph *g, descriptor a, descriptor b, descriptor c)
{
    const descriptor how = cudnn_make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    cudnn_finalize(g, how, "product");
    const descriptor d = cudnn_make_op(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    cudnn_finalize(g, d, "product operation");
}

void cudnn_reshape(cudnn_opgraph *g, descriptor x, descriptor y)
{
    const descriptor d = cudnn_make_op(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    cudnn_set_operand(g, d, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    cudnn_finalize(g, d, "reshape operation");
}
