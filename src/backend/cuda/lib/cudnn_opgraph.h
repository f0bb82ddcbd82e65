/* cudnn_opgraph.h - a cuDNN operation graph, and the primitive made of its engines.
 *
 *   cudnn_opgraph g = {0};                           owns everything below
 *   x = cudnn_nhwc(&g, 1, type, sizes); ...        tensors: with an id, or 0 for one that is never in memory
 *   cudnn_convolution(&g, ...); cudnn_pointwise(...) operations, in the order of the calls
 *   cudnn_opgraph_primitive(&g, c, &spec, &p, e);    finds the engines; what g owns is p's then
 *   cudnn_opgraph_release(&g);
 *
 * Errors while building are sticky: the first is kept with cuDNN's words, later calls do nothing and
 * return NULL, and cudnn_opgraph_primitive() hands it on; so what describes a graph needs no `if`. */
#ifndef DDPM_CUDNN_OPGRAPH_H
#define DDPM_CUDNN_OPGRAPH_H
#include "backend/cuda/lib/cudnn_problem.h"
#include <cudnn_graph.h>

struct cudnn_context {
    cudnnHandle_t handle;            /* NULL: engines for a device that need not be there */
    cudnnBackendDescriptor_t device; /* properties of that device; NULL where there is a handle */
};

enum { OPGRAPH_OWNED = 128, OPGRAPH_OPS = 32 };

typedef struct cudnn_opgraph {
    cudnnBackendDescriptor_t owned[OPGRAPH_OWNED]; /* all of them, destroyed last first */
    cudnnBackendDescriptor_t op[OPGRAPH_OPS];      /* the operations among them */
    int n_owned, n_op, n_virtual;
    err first;        /* the first error, if any */
    bool unsupported; /* cuDNN cannot do it; any other error means that something is wrong */
} cudnn_opgraph;

void cudnn_opgraph_release(cudnn_opgraph *g); /* takes a zeroed one, and one that was given to a primitive */

/* ---- descriptors of any kind ------------------------------------------------------------------ */

cudnnBackendDescriptor_t cudnn_make(cudnn_opgraph *g, cudnnBackendDescriptorType_t type);
cudnnBackendDescriptor_t cudnn_make_op(cudnn_opgraph *g,
                                       cudnnBackendDescriptorType_t type); /* an operation of the graph */
void cudnn_set(cudnn_opgraph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
               cudnnBackendAttributeType_t type, int64_t count, const void *values);
/* cudnn_set() of one descriptor.  NULL: an operand that is absent, nothing is set. */
void cudnn_set_operand(cudnn_opgraph *g, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                       cudnnBackendDescriptor_t operand);
void cudnn_finalize(cudnn_opgraph *g, cudnnBackendDescriptor_t d, const char *what); /* `what` names it in messages */

/* ---- tensors ---------------------------------------------------------------------------------- */

/* cuDNN is promised addresses that are multiples of this many bytes. */
enum { OPGRAPH_ALIGN = 16 };

typedef struct cudnn_tensor_spec {
    int64_t uid; /* > 0, unique in the graph; 0: virtual, never in memory */
    cudnnDataType_t type;
    int rank;
    int64_t dim[CUDNN_DIM_MAX], stride[CUDNN_DIM_MAX]; /* in elements; an image is n, c, h, w in any layout */
    bool by_value; /* a number handed over at the launch, not memory of the device */
} cudnn_tensor_spec;

cudnnBackendDescriptor_t cudnn_tensor(cudnn_opgraph *g, const cudnn_tensor_spec *t);
/* Packed with the channels last; nhwc: its sizes.  A filter [k, r, s, c] is one too, and a bias [1, 1, 1, k]. */
cudnnBackendDescriptor_t cudnn_nhwc(cudnn_opgraph *g, int64_t uid, cudnnDataType_t type, const int64_t nhwc[4]);
cudnnDataType_t cudnn_type(dtype d);

/* ---- operations; all of them compute in f32 --------------------------------------------------- */

typedef struct cudnn_convolution_args {
    conv_pass pass;
    cudnnBackendDescriptor_t x, w, y; /* the pass says which one is the result */
    int stride, pad_before, pad_after;
    bool accumulate; /* CONV_PASS_BACKWARD_DATA, CONV_PASS_BACKWARD_WEIGHTS: add to the result */
} cudnn_convolution_args;

void cudnn_convolution(cudnn_opgraph *g, const cudnn_convolution_args *a);
/* y = mode(x, b); b is NULL where mode has one operand. */
void cudnn_pointwise(cudnn_opgraph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                     cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y);
void cudnn_reduction(cudnn_opgraph *g, cudnnReduceTensorOp_t op, cudnnBackendDescriptor_t x,
                     cudnnBackendDescriptor_t y);
void cudnn_matmul(cudnn_opgraph *g, cudnnBackendDescriptor_t a, cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t c);
void cudnn_reshape(cudnn_opgraph *g, cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y);

/* ---- the primitive ---------------------------------------------------------------------------- */

enum { OPGRAPH_BINDINGS = 16, BIND_EXTRA = -1, BIND_VALUE = -2 };

/* Where a tensor lies when the primitive runs. */
typedef struct cudnn_binding {
    int64_t uid;
    int operand;   /* of primitive_table.run(); or BIND_EXTRA, or BIND_VALUE */
    size_t offset; /* bytes from its beginning, or from that of the extra memory */
    float value;   /* BIND_VALUE: of a tensor that is given by value */
} cudnn_binding;

typedef struct cudnn_primitive_spec {
    const char *key;
    const primitive_search *how;
    bool strict; /* leave out engines that use tensor cores or round what they are given */
    /* Plans that are compiled while they are made (0.3 to 2 s each) are tried, in the order of the
     * heuristics, as long as there are fewer engines than this. */
    int compile_below;
    int n_binding;
    cudnn_binding binding[OPGRAPH_BINDINGS];
    size_t extra; /* bytes behind the engine's own workspace, for tensors bound to BIND_EXTRA; part of workspace() */
} cudnn_primitive_spec;

/* The graph's operations as a primitive with one engine or more; the caller adds bytes and written.
 * *out = NULL with DDPM_OK where cuDNN has no engine: g->first.text then says why. */
DDPM_MUST_CHECK ddpm_status cudnn_opgraph_primitive(cudnn_opgraph *g, cudnn_context *c,
                                                    const cudnn_primitive_spec *spec, primitive **out, err *e);
/* Has the engine been compiled for this problem, or does cuDNN bring it? */
bool cudnn_engine_compiled(const primitive *p, int engine);

/* The operations of a convolution problem; the id of an operand's tensor is its number plus 1. */
void cudnn_convolution_graph(cudnn_opgraph *g, const conv_problem *q);

/* ---- between the files that call cuDNN ------------------------------------------------------------ */

/* One line: what failed, and cuDNN's own explanation. */
ddpm_status cudnn_failed(cudnnStatus_t status, const char *what, err *e);
static inline bool cudnn_broken(const cudnn_opgraph *g) { return g->first.status != DDPM_OK; }
/* Keep the first failure; true if there was none yet and this is none. */
bool cudnn_succeeds(cudnn_opgraph *g, cudnnStatus_t status, const char *what);

#endif
