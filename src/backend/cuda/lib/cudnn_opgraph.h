/* cudnn_opgraph.h - a cuDNN operation graph, and the primitive that holds its engines.
 *
 *   cudnn_opgraph g = {0};                           owns everything below
 *   x = cudnn_nhwc(&g, 1, type, sizes); ...        tensors: id > 0, or 0 for a virtual one
 *   cudnn_convolution(&g, ...); cudnn_pointwise(...) operations, in the order of the calls
 *   cudnn_opgraph_primitive(&g, c, &spec, &p, e);    finds the engines; p takes over what g owns
 *   cudnn_opgraph_release(&g);
 *
 * Errors while building are sticky: the first one is kept with cuDNN's message, later calls do nothing and return
 * NULL, and cudnn_opgraph_primitive() returns the error; so the code that describes a graph needs no `if`. */
#ifndef DDPM_CUDNN_OPGRAPH_H
#define DDPM_CUDNN_OPGRAPH_H
#include "backend/cuda/lib/cudnn_problem.h"
#include "backend/cuda/lib/cudnn_numbers.h"

struct cudnn_context {
    cudnnHandle_t handle;            /* NULL: engines are built for a described device, which need not exist */
    cudnnBackendDescriptor_t device; /* properties of the described device; NULL if there is a handle */
};

enum { OPGRAPH_OWNED = 128, OPGRAPH_OPS = 32 };

typedef struct cudnn_opgraph {
    cudnnBackendDescriptor_t owned[OPGRAPH_OWNED]; /* all descriptors, destroyed in reverse order */
    cudnnBackendDescriptor_t op[OPGRAPH_OPS];      /* the operations among them */
    int n_owned, n_op, n_virtual;
    err first;        /* the first error, if any */
    bool unsupported; /* the first error is that cuDNN does not support the graph, not a real failure */
} cudnn_opgraph;

void cudnn_opgraph_release(cudnn_opgraph *g); /* accepts a zeroed graph, and one that a primitive took over */

/* ---- descriptors of any kind ------------------------------------------------------------------ */

cudnnBackendDescriptor_t cudnn_make(cudnn_opgraph *g, cudnnBackendDescriptorType_t type);
cudnnBackendDescriptor_t cudnn_make_op(cudnn_opgraph *g,
                                       cudnnBackendDescriptorType_t type); /* an operation of the graph */
void cudnn_set(cudnn_opgraph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
               cudnnBackendAttributeType_t type, int64_t count, const void *values);
/* cudnn_set() of one descriptor.  NULL: an absent operand; nothing is set. */
void cudnn_set_operand(cudnn_opgraph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                       cudnnBackendDescriptor_t operand);
void cudnn_finalize(cudnn_opgraph *g, cudnnBackendDescriptor_t d, const char *what); /* `what` names it in messages */

/* ---- tensors ---------------------------------------------------------------------------------- */

/* The alignment of addresses, in bytes, that cuDNN is told to expect. */
enum { OPGRAPH_ALIGN = 16 };

typedef struct cudnn_tensor_spec {
    int64_t uid; /* > 0, unique in the graph; 0: virtual, never in memory */
    cudnnDataType_t type;
    int rank;
    int64_t dim[CUDNN_DIM_MAX], stride[CUDNN_DIM_MAX]; /* in elements; images: n, c, h, w in any layout */
    bool by_value;                                     /* a scalar passed at the launch, not device memory */
} cudnn_tensor_spec;

cudnnBackendDescriptor_t cudnn_tensor(cudnn_opgraph *g, const cudnn_tensor_spec *t);
/* A packed channels-last tensor of sizes nhwc.  Also for filters [k, r, s, c] and biases [1, 1, 1, k]. */
cudnnBackendDescriptor_t cudnn_nhwc(cudnn_opgraph *g, int64_t uid, cudnnDataType_t type, const int64_t nhwc[4]);
cudnnDataType_t cudnn_type(dtype d);

/* ---- operations; all of them compute in f32 --------------------------------------------------- */

/* The pass of q without bias and residual; it determines which of x, w and y is the result. */
void cudnn_convolution(cudnn_opgraph *g, const conv_problem *q, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t w,
                       cudnnBackendDescriptor_t y);
/* y = mode(x, b); b is NULL if mode has one operand. */
void cudnn_pointwise(cudnn_opgraph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                     cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y);
void cudnn_reduction(cudnn_opgraph *g, cudnnReduceTensorOp_t op, cudnnBackendDescriptor_t x,
                     cudnnBackendDescriptor_t y);
void cudnn_matmul(cudnn_opgraph *g, cudnnBackendDescriptor_t a, cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t c);
void cudnn_reshape(cudnn_opgraph *g, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y);

/* ---- the primitive ---------------------------------------------------------------------------- */

enum { OPGRAPH_BINDINGS = 16, BIND_EXTRA = -1, BIND_VALUE = -2 };

/* Where the memory of a tensor comes from when the primitive runs. */
typedef struct cudnn_binding {
    int64_t uid;
    int operand;   /* index into the operands of primitive_table.run(), or BIND_EXTRA, or BIND_VALUE */
    size_t offset; /* in bytes, from the start of the operand or of the extra memory */
    float value;   /* BIND_VALUE: value of a tensor with by_value */
} cudnn_binding;

typedef struct cudnn_primitive_spec {
    const char *key;
    const primitive_search *how;
    bool strict; /* exclude engines that use tensor cores or round their inputs */
    /* Runtime-compiled engines (0.3 to 2 s each) are created, in the order of the heuristics, only while fewer engines
     * than this exist. */
    int compile_below;
    int n_binding;
    cudnn_binding binding[OPGRAPH_BINDINGS];
    size_t extra; /* bytes behind the engine's own workspace, for tensors bound to BIND_EXTRA; part of workspace() */
} cudnn_primitive_spec;

/* The graph's operations as a primitive with at least one engine; the caller fills in bytes and written.
 * *out = NULL with DDPM_OK where cuDNN has no engine: g->first.text then holds the reason. */
DDPM_MUST_CHECK ddpm_status cudnn_opgraph_primitive(cudnn_opgraph *g, cudnn_context *c,
                                                    const cudnn_primitive_spec *spec, primitive **out, err *e);
/* true: the engine was compiled at run time; false: cuDNN ships it precompiled. */
bool cudnn_engine_compiled(const primitive *p, int engine);

/* Appends the operations of a convolution problem; the id of an operand's tensor is CUDNN_CONV_... + 1. */
void cudnn_convolution_graph(cudnn_opgraph *g, const conv_problem *q);

/* ---- shared by the files that call cuDNN ------------------------------------------------------------ */

/* Sets e to one line: `what` failed, and cuDNN's explanation. */
ddpm_status cudnn_failed(cudnnStatus_t status, const char *what, err *e);
static inline bool cudnn_broken(const cudnn_opgraph *g) { return g->first.status != DDPM_OK; }
/* Keeps the first failure; true if neither this call nor an earlier one failed. */
bool cudnn_succeeds(cudnn_opgraph *g, cudnnStatus_t status, const char *what);

#endif
