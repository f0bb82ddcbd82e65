/* step.h - tensors and steps: what the builder makes, the vjps extend and a backend runs. */
#ifndef DDPM_STEP_H
#define DDPM_STEP_H
#include "ir/dtype.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STEP_IN = 8, STEP_OUT = 7, NAME_CAP = 96 };

/* The operands of a side step stay alive for this many steps. */
enum { SIDE_WINDOW = 6 };

typedef enum op_kind {
#define OP(name, vjp, flops, flags) OP_##name,
#include "ir/ops.def"
#undef OP
    OP_COUNT
} op_kind;

extern const char *const op_name[OP_COUNT];

/* What passes over a plan know of an op beside its name. */
typedef enum op_flags {
    OP_CHEAP = 1,     /* out[0] costs little to recompute from inputs that are kept anyway */
    OP_SUMS_BIAS = 2, /* NORM_BWD_DBIAS, DBIAS2: can sum its gradients over the pixels, as a bias gradient wants */
    OP_STATEFUL = 4,  /* changes what it reads: running it twice is not running it once */
    OP_UPDATE = 8,    /* belongs to the optimizer's update, after the backward pass */
    OP_UPDATES_WEIGHTS = 16 /* out[UPDATE_W] are parameters */
} op_flags;

extern const unsigned op_flag[OP_COUNT]; /* of op_flags */

/* Where a tensor's bytes live.  PARAM to EMA share one layout, so "the weights" of a plan can be
 * the raw ones or the EMA by changing one base pointer. */
typedef enum arena_kind {
    ARENA_IO,    /* written or read from outside; kept for the plan's whole life */
    ARENA_ACT,   /* activations and their gradients, overlaid by lifetime */
    ARENA_PARAM, /* weights */
    ARENA_GRAD,  /* their gradients */
    ARENA_M,     /* Adam's first moment */
    ARENA_V,     /* Adam's second moment */
    ARENA_EMA,   /* moving average of the weights */
    /* Copies in the backend's activation type, where that is not f32: same layout, other element size. */
    ARENA_PARAM_LOW,
    ARENA_EMA_LOW,
    /* The filters of upconv alone, folded (param_folds), in that type too; where the backend wants them. */
    ARENA_PARAM_FOLD,
    ARENA_EMA_FOLD,
    ARENA_COUNT
} arena_kind;

/* How a tensor's bytes lie in memory: the backend's own business. */
typedef enum tensor_layout {
    LAYOUT_NHWC,
    LAYOUT_BLOCKED, /* cpu: [n, c / 16, h, w, 16], c a multiple of 16 */
} tensor_layout;

/* How a parameter starts. */
typedef enum param_init {
    INIT_FAN_AVG,      /* U(-l, l), l = sqrt(3 / fan_avg): DDPM's default_init, scale 1 */
    INIT_FAN_AVG_TINY, /* the same with scale 1e-10: DDPM's "zero" init of last layers */
    INIT_ZEROS,
    INIT_ONES,
    INIT_FAN_IN, /* U(-l, l), l = 1 / sqrt(fan_in): PyTorch's default for conv and linear */
} param_init;

/* A parameter as checkpoints name it.  Several may lie side by side in one tensor (the q, k and v
 * projections; all time-embedding projections of a network), each a range of its rows. */
typedef struct param_part {
    char name[NAME_CAP]; /* diffusers' name: "down_blocks.0.resnets.1.conv1.weight" */
    int64_t rows;        /* of the tensor's n */
    int fan_in, fan_out; /* for the initialization */
    param_init init;
} param_part;

/* A filter [cout, 3, 3, cin] of upconv and its fold [cin, 4, 4, cout] (kernels/upconv_fold.h). */
typedef struct param_fold {
    size_t weight; /* elements into the arenas of weights */
    size_t fold;   /* elements into those of folds */
    int cout, cin;
} param_fold;

/* All of a model's. */
typedef struct param_folds {
    param_fold *list;
    int n, cap;
    size_t count; /* elements of an arena of folds, gaps for alignment included */
} param_folds;

typedef struct tensor {
    char name[NAME_CAP]; /* layer path: "up_blocks.2.resnets.0.norm1" */
    dtype dtype;
    arena_kind arena;
    tensor_layout layout; /* set by backend->arrange(), on activations that nobody else reads */
    int64_t n, h, w, c;   /* NHWC; a matrix is [n,1,1,c], a vector [n,1,1,1] */
    struct tensor *base;  /* not NULL: this is columns [column, column + c) of base, a matrix */
    int64_t column;
    struct tensor *grad;  /* NULL: none is needed, or none was asked for */
    bool needs_grad;      /* a parameter or a wanted input feeds it */
    bool grad_written;    /* a step writes grad already: the next one accumulates */
    bool keep;            /* readable after the run: never overlaid */
    int first, last;      /* steps between which it lives; -1: never used */
    size_t bytes, offset; /* in its arena */
    void *data;           /* NULL until memory is bound */
    void *low;            /* ARENA_PARAM: its copy in the backend's activation type; data where that is f32 */
    bool folded;          /* ARENA_PARAM: a filter that the backend wants folded too */
    void *fold;           /* of that: the fold, in the backend's activation type */
    int n_part;           /* ARENA_PARAM: the named parameters in it */
    param_part *part;
    int rank;          /* ARENA_PARAM: 1, 2 or 4, as PyTorch shapes it */
    uint64_t *version; /* ARENA_PARAM: grows with every change of the weights; NULL: assume it always does */
} tensor;

typedef enum norm_cond {
    COND_NONE,
    COND_ADD,         /* x + cond before the statistics: DDPM's time embedding */
    COND_SCALE_SHIFT, /* y = norm(x) (1 + scale) + shift, cond = [scale | shift] */
} norm_cond;

typedef union step_attr {
    struct {
        int kernel, stride; /* 1 or 3; 1 or 2 */
        bool pad_end;       /* pad one column right and one row bottom instead of all round */
    } conv;
    struct {
        int groups;
        float eps;
        bool silu;
        norm_cond cond;
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
        float p;
        uint32_t layer; /* which mask of the network */
    } dropout;
    struct {
        bool flip; /* random horizontal flips */
        int timesteps;
    } noise;
    struct {
        float grad_scale; /* of one value's squared error in the loss: 1 / (n * h * w * c * micro-batches) */
        int timesteps;
        bool flip;
    } mse;
    struct {
        double scale; /* 1 / (batch * micro-batches) */
    } tally;
    struct {
        double lr, beta1, beta2, eps, weight_decay, max_grad_norm, ema_decay;
        bool ema_warmup, zero_grad;
        int schedule; /* lr_schedule of kernels/update.h */
        int64_t warmup_steps, total_steps;
        const param_folds *folds; /* of adamw, set by nn_update(); borrowed */
    } update;
} step_attr;

typedef struct step {
    op_kind op;
    tensor *in[STEP_IN], *out[STEP_OUT]; /* positions: ir/operands.h; NULL where an operand is absent */
    unsigned accumulate;                 /* bit i: out[i] += , else out[i] = */
    step_attr a;
    char path[NAME_CAP]; /* the layer, for messages and timings */
    void *impl;          /* what the backend prepared */
    tensor *scratch;     /* memory the backend asked for, alive during this step */
    bool recomputed;     /* a repetition of a forward step (plan.recompute): not counted as work of the model */
    bool side;           /* set by prepare(): may still run while the next SIDE_WINDOW - 1 steps do */
} step;

static inline int64_t tensor_count(const tensor *t) { return t->n * t->h * t->w * t->c; }
static inline int64_t tensor_hw(const tensor *t) { return t->h * t->w; }
/* Elements from one row of a matrix to the next: more than c when it is a range of columns. */
static inline int64_t tensor_ld(const tensor *t) { return t->base ? t->base->c : t->c; }
static inline bool step_adds(const step *s, int out) { return s->accumulate >> out & 1; }

#endif
