/* The calls to cuDNN: every attribute of every operation of a convolution. */
#include "backend/cuda/fake_cudnn.h"
#include "backend/cuda/odd_problem.h"

static const int64_t size_x[4] = {2, 8, 12, 16}, size_w[4] = {24, 3, 3, 16}, size_y[4] = {2, 4, 6, 24},
                     size_bias[4] = {1, 1, 1, 24};

static int64_t int_of(const fake *f, cudnnBackendAttributeName_t name)
{
    int64_t v;
    memcpy(&v, set(f, name, CUDNN_TYPE_INT64, 1), sizeof v);
    return v;
}

/* Checks a packed channels-last tensor, described with dimensions n, c, h, w; uid 0: virtual. */
static int64_t check_tensor(const fake *t, int64_t uid, const int64_t nhwc[4], cudnnDataType_t type)
{
    const int64_t n = nhwc[0], h = nhwc[1], w = nhwc[2], c = nhwc[3];
    const int64_t dim[4] = {n, c, h, w}, stride[4] = {h * w * c, 1, w * c, c};
    const bool in_memory = uid != 0, is_virtual = !in_memory;
    cr_assert(t->final);
    cr_assert_arr_eq(set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4), dim, sizeof dim);
    cr_assert_arr_eq(set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4), stride, sizeof stride);
    cr_assert_arr_eq(set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1), &type, sizeof type);
    cr_assert_arr_eq(set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1), &is_virtual, sizeof is_virtual);
    cr_assert_eq(int_of(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT), 16);
    const int64_t is = int_of(t, CUDNN_ATTR_TENSOR_UNIQUE_ID);
    if (in_memory)
        cr_assert_eq(is, uid);
    else
        cr_assert_gt(is, 100);
    return is;
}

static void check_pair(const fake *f, cudnnBackendAttributeName_t name, int64_t expected)
{
    cr_assert_arr_eq(set(f, name, CUDNN_TYPE_INT64, 2), ((int64_t[]){expected, expected}), 2 * sizeof expected);
}

static void check_float(const fake *f, cudnnBackendAttributeName_t name, float expected)
{
    cr_assert_arr_eq(set(f, name, CUDNN_TYPE_FLOAT, 1), &expected, sizeof expected);
}

static void check_convolution(const fake *c)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    check_pair(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 0);
    check_pair(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 1);
    check_pair(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 2);
    check_pair(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, 1);
    cr_assert_eq(int_of(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS), 2);
    cr_assert_arr_eq(set(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1), &type, sizeof type);
    cr_assert_arr_eq(set(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1), &mode, sizeof mode);
}

static void check_addition(const fake *op)
{
    const cudnnPointwiseMode_t add = CUDNN_POINTWISE_ADD;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const fake *how = operand(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    cr_assert_eq(op->type, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    cr_assert_arr_eq(set(how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1), &add, sizeof add);
    cr_assert_arr_eq(set(how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1), &type, sizeof type);
}

/* Describes q; g->op[i] becomes operation i. */
static void describe(cudnn_opgraph *g, const conv_problem *q, int operations)
{
    *g = (cudnn_opgraph){.n_op = 0};
    cudnn_convolution_graph(g, q);
    cr_assert_eq(g->first.status, DDPM_OK, "%s", g->first.text);
    cr_assert_eq(g->n_op, operations);
    for (int i = 0; i < operations; i++) cr_assert(((fake *)g->op[i])->final);
}

static void check_forward(bool residual, bool bias, dtype io)
{
    const cudnnDataType_t type = io == DTYPE_F32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
    cudnn_opgraph g;
    conv_problem q = odd_problem(CONV_PASS_FORWARD);
    q.residual = residual, q.bias = bias, q.io = io;
    describe(&g, &q, 1 + residual + bias);
    const fake *op = g.op[0];
    cr_assert_eq(op->type, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X), CUDNN_CONV_X + 1, size_x, type);
    check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W), CUDNN_CONV_W + 1, size_w, type);
    check_convolution(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC));
    check_float(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 1);
    check_float(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 0);
    const fake *sum = operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
    int64_t seen = 0;
    for (int i = 1; i < g.n_op; i++) { /* intermediate results are f32 and virtual */
        const bool is_bias = i == 2 || !residual;
        const int64_t id = check_tensor(sum, 0, size_y, CUDNN_DATA_FLOAT);
        cr_assert_neq(id, seen);
        seen = id;
        op = g.op[i];
        check_addition(op);
        cr_assert_eq(operand(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC), sum);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
                     1 + (is_bias ? CUDNN_CONV_BIAS : CUDNN_CONV_RESIDUAL), is_bias ? size_bias : size_y, type);
        sum = operand(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    }
    check_tensor(sum, CUDNN_CONV_Y + 1, size_y, type);
    cudnn_opgraph_release(&g);
    cr_assert_eq(cudnn.live, 0);
}

Test(cudnn_opgraph, a_forward_convolution_adds_the_residual_and_then_the_bias)
{
    check_forward(true, true, DTYPE_BF16);
    check_forward(true, false, DTYPE_BF16);
    check_forward(false, true, DTYPE_F32);
    check_forward(false, false, DTYPE_F32);
}

Test(cudnn_opgraph, gradients_are_added_where_that_is_asked)
{
    const cudnnDataType_t type = CUDNN_DATA_BFLOAT16;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        cudnn_opgraph g;
        conv_problem q = odd_problem(CONV_PASS_BACKWARD_DATA);
        q.accumulate = accumulate;
        describe(&g, &q, 1);
        const fake *op = g.op[0];
        cr_assert_eq(op->type, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX), CUDNN_CONV_X + 1, size_x, type);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W), CUDNN_CONV_W + 1, size_w, type);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY), CUDNN_CONV_Y + 1, size_y, type);
        check_convolution(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC));
        check_float(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 1);
        check_float(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, (float)accumulate);
        cudnn_opgraph_release(&g);
        q.shape.pass = CONV_PASS_BACKWARD_WEIGHTS;
        describe(&g, &q, 1);
        op = g.op[0];
        cr_assert_eq(op->type, CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X), CUDNN_CONV_X + 1, size_x, type);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW), CUDNN_CONV_W + 1, size_w, type);
        check_tensor(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY), CUDNN_CONV_Y + 1, size_y, type);
        check_convolution(operand(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC));
        check_float(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 1);
        check_float(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, (float)accumulate);
        cudnn_opgraph_release(&g);
    }
    cr_assert_eq(cudnn.live, 0);
}
