/* step.h - tensors and steps: created by the plan builder, extended by the vjps, run by a backend. */
#ifndef DDPM_STEP_H
#define DDPM_STEP_H
#include "ir/dtype.h"
#include "rates.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEP_IN = 9, STEP_OUT = 9, NAME_CAP = 96 };

/* The operands of a step on the side stream stay alive for this many steps. */
enum { SIDE_WINDOW = 6 };

typedef enum op_kind {
#define OP(name, vjp, flops, flags) OP_##name,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} op_kind;

extern const char *const op_name[OP_COUNT];

/* Properties of an op that passes over a plan test instead of its name. */
typedef enum op_flags {
    OP_CHEAP = 1, /* out[0] is cheap to recompute from inputs that are kept anyway */
    /* can compute NORM_BWD_DBIAS, DBIAS2 and their TWINs: sums of its gradients over the pixels, for bias gradients */
    OP_SUMS_BIAS = 2,
    OP_STATEFUL = 4,         /* changes its own inputs: running it twice differs from running it once */
    OP_UPDATE = 8,           /* part of the optimizer's update, after the backward pass */
    OP_UPDATES_WEIGHTS = 16, /* out[UPDATE_W] are parameters */
    OP_OF_WEIGHTS = 32 /* reads weights alone: in a plan that is not for training it runs only after they changed */
} op_flags;

extern const unsigned op_flag[OP_COUNT]; /* of op_flags */

/* The arena in which a tensor's bytes live.  PARAM to EMA_3 share one layout, so that changing one base pointer
 * switches a plan between the raw weights and the EMA. */
typedef enum arena_kind {
    ARENA_IO,    /* inputs and outputs, accessed from outside; allocated for the plan's whole life */
    ARENA_ACT,   /* activations and their gradients, sharing memory by lifetime */
    ARENA_PARAM, /* weights */
    ARENA_GRAD,  /* gradients of the weights */
    ARENA_M,     /* Adam's first moment */
    ARENA_V,     /* Adam's second moment */
    ARENA_EMA,   /* average of the weights, the one to sample with */
    ARENA_EMA_1, /* EMA_MORE further ones */
    ARENA_EMA_2,
    ARENA_EMA_3,
    /* Weights in the backend's activation type, if that is not f32: the same layout with another element size. */
    ARENA_PARAM_LOW,
    ARENA_EMA_LOW,
    ARENA_COUNT
} arena_kind;

/* Memory layout of a tensor, chosen by the backend. */
typedef enum tensor_layout {
    LAYOUT_NHWC,
    LAYOUT_BLOCKED, /* cpu: [n, c / 16, h, w, 16], c a multiple of 16 */
} tensor_layout;

/* Initial values of a parameter. */
typedef enum param_init {
    INIT_FAN_AVG,      /* U(-l, l), l = sqrt(3 / fan_avg): DDPM's default_init, scale 1 */
    INIT_FAN_AVG_TINY, /* the same, with scale 1e-10: DDPM's "zero" init of last layers */
    INIT_ZEROS,
    INIT_ONES,
    INIT_FAN_IN, /* U(-l, l), l = 1 / sqrt(fan_in): PyTorch's default for conv and linear */
    INIT_NORMAL, /* N(0, 1): PyTorch's default for Embedding */
} param_init;

/* A named parameter of a checkpoint.  Several may share one tensor (the q, k and v projections; all time-embedding
 * projections of a network), each a range of its rows. */
typedef struct param_part {
    char name[NAME_CAP]; /* name in diffusers: "down_blocks.0.resnets.1.conv1.weight" */
    int64_t rows;        /* its share of the tensor's n rows */
    int fan_in, fan_out; /* for the initialization */
    param_init init;
} param_part;

typedef struct tensor {
    char name[NAME_CAP]; /* layer path: "up_blocks.2.resnets.0.norm1" */
    dtype dtype;
    arena_kind arena;
    tensor_layout layout; /* set by backend->arrange(), for activations that only steps read */
    int64_t n, h, w, c;   /* NHWC; a matrix is [n,1,1,c], a vector [n,1,1,1] */
    struct tensor *base;  /* not NULL: this tensor is a view of columns [column, column + c) of the matrix base */
    int64_t column;
    struct tensor *grad;  /* NULL: not needed or not requested */
    bool needs_grad;      /* depends on a parameter or on an input with plan_want_grad() */
    bool grad_written;    /* some step writes grad already: the next one accumulates */
    bool keep;            /* readable after the run: shares its memory with no other tensor */
    int first, last;      /* first and last step that uses it; -1: never used */
    size_t bytes, offset; /* size, and offset in its arena */
    void *data;           /* NULL until memory is bound */
    void *low;            /* ARENA_PARAM: copy in the backend's activation type; equals data if that is f32 */
    int n_part;           /* ARENA_PARAM: number of named parameters in the tensor */
    param_part *part;
    int rank;          /* ARENA_PARAM: rank in PyTorch: 1, 2 or 4 */
    uint64_t *version; /* ARENA_PARAM: grows with every change of the weights; NULL: assume a change before every run */
} tensor;

typedef enum norm_cond {
    COND_NONE,
    COND_ADD,         /* added to x before the statistics: DDPM's time embedding */
    COND_SCALE_SHIFT, /* y = norm(x) (1 + scale) + shift, cond = [scale | shift] */
} norm_cond;

typedef union step_attr {
    struct {
        int kernel, stride; /* 1 or 3; 1 or 2 */
        bool pad_end;       /* pad one column on the right and one row at the bottom instead of all sides */
    } conv;
    struct {
        int groups;
        float eps;
        bool silu;
        norm_cond cond;
        float dropout;          /* probability, applied last if NORM_STATE is given */
        uint32_t dropout_layer; /* number of the dropout layer in the network, selects the mask */
    } norm;
    struct {
        bool silu;
    } linear;
    struct {
        float scale, shift; /* y = scale x + shift */
    } affine;
    struct {
        int heads;
    } attention;
    struct {
        bool flip_sin_to_cos;
    } embed;
    struct {
        int timesteps;
        bool stratified;
        float label_dropout; /* probability that a label is replaced by null_label */
        int null_label;
    } draw;
    struct {
        bool flip;                  /* random horizontal flips */
        float offset, perturbation; /* noise_offset and input_perturbation of kernels/q_sample.h */
        uint32_t stream;            /* kernels/q_sample.h */
    } noise;
    struct {
        float grad_scale; /* factor of one value's squared error in the loss: 1 / (n * h * w * c * micro-batches) */
        bool flip;
        float noise_offset;
        int kind;         /* loss_kind of kernels/loss_kind.h */
        bool learned, kl; /* kernels/loss.h */
        double bound;
    } loss;
    struct {
        bool fixed;
        float v, clip; /* kernels/bound.h */
        uint32_t stream;
    } bound;
    struct {
        double scale; /* 1 / (batch * micro-batches) */
    } tally;
    struct {
        lr_rule lr;
        double beta1, beta2, eps, weight_decay, max_grad_norm;
        ema_rule ema[EMA_MOST]; /* without gaps; the first is the one to sample with */
        int64_t images;         /* of an optimizer step; set by the trainer */
        bool adam;              /* Adam, whose decay is L2, instead of AdamW */
        bool no_vector_decay;   /* biases and the weights of norms do not decay */
        bool zero_grad;
    } update;
    struct {
        float noise, signal; /* standard deviation of the noise, factor of the image */
    } init;
    struct {
        bool guided; /* the model's batch is twice that of the images */
        float phi;   /* sampler_rescale */
        int k;       /* sampler_limit: order statistic, and fraction of the way to the next */
        float fraction;
    } sampler;
} step_attr;

typedef struct step {
    op_kind op;
    tensor *in[STEP_IN], *out[STEP_OUT]; /* positions as in ir/operands.h; NULL: operand absent */
    unsigned accumulate;                 /* bit i set: out[i] += ..., clear: out[i] = ... */
    step_attr a;
    char path[NAME_CAP]; /* layer path, for messages and timings */
    void *impl;          /* the backend's prepared primitive */
    tensor *scratch;     /* the workspace the backend requested, alive during this step only */
    /* Partial sums of gradients of parameters: alive until the steps that read these gradients (OP_UPDATE), or the end
     * of the list.  The backend completes the gradients by then. */
    tensor *partial;
    size_t partial_bytes; /* set by prepare(): bytes of `partial`; 0: none */
    bool recomputed;      /* recomputes a forward step (plan.recompute): not counted in the FLOPs of the model */
    /* set by prepare(): runs on the side stream, possibly still during the next SIDE_WINDOW - 1 steps */
    bool side;
} step;

static inline int64_t tensor_count(const tensor *t) { return t->n * t->h * t->w * t->c; }
static inline int64_t tensor_hw(const tensor *t) { return t->h * t->w; }
/* Elements from one row of a matrix to the next: more than c for a view of columns. */
static inline int64_t tensor_ld(const tensor *t) { return t->base ? t->base->c : t->c; }
static inline bool step_adds(const step *s, int out) { return s->accumulate >> out & 1; }

#endif
