/* nn.h - the layers from which networks are built.
 *
 * Each call checks shapes, appends one forward step to the plan and returns its output; the op's vjp appends the
 * backward steps later.  Every function returns NULL if an operand is NULL (an earlier call failed) or if the plan
 * has failed; the plan keeps the first error.  Shapes are [n, h, w, c]. */
#ifndef DDPM_NN_H
#define DDPM_NN_H
#include "plan/plan.h"

/* ---- networks ----------------------------------------------------------------------------------- */

typedef struct nn_conv_args {
    tensor *x;        /* [n, h, w, c1] */
    tensor *x2;       /* optional [n, h, w, c2]: the convolution reads cat(x, x2); 1x1 only */
    tensor *residual; /* optional, of y's shape: added to y */
    int64_t cout;
    int kernel, stride;     /* 1 or 3 (0: 3); 1 or 2 (0: 1).  Padding keeps h and w, or halves them */
    bool pad_end;           /* stride 2: pad on the right and at the bottom only (TensorFlow SAME, DDPM) */
    bool matrix;            /* store the weight of a 1x1 convolution with rank 2, like a Linear layer's */
    param_init init;        /* of the weight */
    param_init bias_init;   /* INIT_ZEROS (also the meaning of INIT_FAN_AVG here), or INIT_FAN_IN */
    const char *name;       /* layer name: "conv1" */
    const layer_rows *rows; /* optional, replaces name and cout: several layers that share x, computed as one */
    int n_rows;
} nn_conv_args;
/* y [n, h', w', cout] = conv(cat(x, x2)) + bias + residual; h' = ceil(h / stride). */
tensor *nn_conv2d(plan *p, const nn_conv_args *a);

/* Nearest-neighbour x2 upsampling, then a 3x3 convolution: [n, 2h, 2w, cout].  Computed as one 4x4 transposed
 * convolution of stride 2, whose filter is folded from the 3x3 filter. */
tensor *nn_upconv(plan *p, tensor *x, int64_t cout, param_init init, const char *name);

typedef struct nn_norm_args {
    tensor *x, *x2; /* [n, h, w, c1], optional [n, h, w, c2]: normalized as cat(x, x2) */
    tensor *cond;   /* COND_ADD: [n,1,1,c1+c2]; COND_SCALE_SHIFT: [n,1,1,2(c1+c2)] */
    norm_cond kind;
    int groups; /* divides c1 + c2 */
    double eps;
    bool silu;
    /* optional, train_state: apply dropout (kernels/dropout.h) last; the mask is drawn per training sample */
    tensor *state;
    float dropout;          /* probability, in [0, 1) */
    uint32_t dropout_layer; /* number of the dropout layer in the network */
    const char *name;
} nn_norm_args;
/* Group normalization (Wu & He 2018), then SiLU and dropout if asked: y [n, h, w, c1 + c2]. */
tensor *nn_norm_act(plan *p, const nn_norm_args *a);

typedef struct nn_linear_args {
    tensor *x; /* [n, 1, 1, cin] */
    int64_t cout;
    bool silu; /* apply SiLU to the output */
    param_init init;
    const char *name;
    const layer_rows *rows; /* optional, as in nn_conv_args */
    int n_rows;
} nn_linear_args;
tensor *nn_linear(plan *p, const nn_linear_args *a);

/* Self-attention over positions: qkv [n, h, w, 3c] = (q | k | v), each split into heads of c / heads
 * channels; y [n, h, w, c] = softmax(q k^T / sqrt(c / heads)) v.  Vaswani et al. 2017, eq. 1. */
tensor *nn_attention(plan *p, tensor *qkv, int heads);

/* Sinusoidal embedding of t [n], f32 or i64: y [n, 1, 1, dim], whose last column is 0 if dim is odd.  The owner of the
 * plan fills freq [dim / 2] with time_embed_frequencies(). */
tensor *nn_time_embed(plan *p, tensor *t, tensor *freq, int64_t dim, bool flip_sin_to_cos);

typedef struct nn_time_mlp_args {
    tensor *t, *freq; /* as for nn_time_embed() */
    int64_t dim, width;
    bool flip_sin_to_cos;
    bool linear;      /* without the last SiLU, for nn_class_embed() */
    const char *name; /* prefix of the layers "<name>.linear_1" and "<name>.linear_2" */
} nn_time_mlp_args;
/* y [n, 1, 1, width] = silu(linear_2(silu(linear_1(nn_time_embed(t))))): one op, or separate ops if the embedding is
 * too large for the backend's fused op (backend.time_mlp) or `linear` is set. */
tensor *nn_time_mlp(plan *p, const nn_time_mlp_args *a);

/* y = silu(x + table[row]): x [n, 1, 1, width], table [rows, 1, 1, width].  labels: i64 [n] in [0, rows), or -1 for no
 * row at all; table is then f32.  NULL: n rows, one for each image. */
tensor *nn_class_embed(plan *p, tensor *x, tensor *table, tensor *labels);

/* y [n, h, w, c1 + c2] = cat(x, x2), copied: for backends that cannot read two sources (backend.two_sources). */
tensor *nn_concat(plan *p, tensor *x, tensor *x2);

tensor *nn_relu(plan *p, tensor *x);
tensor *nn_affine(plan *p, tensor *x, float scale, float shift); /* scale x + shift */
/* f32 or bf16; returns x if it has that type already */
tensor *nn_cast(plan *p, tensor *x, dtype to);
tensor *nn_copy(plan *p, tensor *x);

/* ---- training ------------------------------------------------------------------------------------ */

typedef struct nn_distribution {
    tensor *cumulative; /* i64 [T + 1] */
    tensor *factors;    /* [T] */
} nn_distribution;
/* The distribution of the levels by a history [T, 1, 1, HISTORY_COLUMNS] of their losses (kernels/loss_history.h). */
nn_distribution nn_importance(plan *p, tensor *history);

typedef struct nn_drawn {
    tensor *rows;           /* [n, 1, 1, TABLE_COLUMNS] */
    tensor *t;              /* [n] */
    tensor *labels;         /* i64 [n]; NULL without labels */
    tensor *factor, *level; /* [n]; NULL without factors */
} nn_drawn;
typedef struct nn_draw_args {
    int64_t n;
    tensor *table, *state; /* [T, TABLE_COLUMNS], train_state */
    tensor *index;         /* optional i64 [n]: the position of each image in a whole data set */
    tensor *labels;        /* optional i64 [n]; with index, those of the whole data set */
    tensor *cumulative; /* optional i64 [T + 1]: the distribution of the timesteps (kernels/draw.h); absent: uniform */
    tensor *factors;    /* optional, of nn_importance(): the factor of the loss at each level */
    bool stratified;
    float label_dropout; /* probability in [0, 1] that an image's label is replaced by null_label */
    int null_label;
} nn_draw_args;
/* What each image is trained with: a row of the table, its time, and its label (kernels/draw.h). */
nn_drawn nn_draw(plan *p, const nn_draw_args *a);

typedef struct nn_q_sample_args {
    tensor *images;       /* u8 [n, h, w, c] */
    tensor *index;        /* optional i64 [n]: `images` is a whole data set, and index selects the batch */
    tensor *rows, *state; /* of nn_draw(), train_state */
    bool flip;
    float noise_offset, input_perturbation; /* kernels/q_sample.h; 0: none */
    uint32_t stream;                        /* of the noise, noise_stream of kernels/noise.h; 0: that of training */
} nn_q_sample_args;
/* x_t [n, h, w, c], whose noise is drawn from the state. */
tensor *nn_q_sample(plan *p, const nn_q_sample_args *a);

typedef struct nn_loss_args {
    tensor *pred, *images, *index, *rows, *state; /* images, index, rows: as for nn_q_sample() */
    bool flip;
    float noise_offset; /* as for nn_q_sample() */
    int kind;           /* loss_kind of kernels/loss_kind.h */
    tensor *factor;     /* optional [n]: the gradient's factor */
    int micro_batches;  /* the loss is the mean over this many runs of the plan (gradient accumulation) */
    bool learned, kl;   /* pred [n, h, w, 2c] has a variance; the bound is the loss (kernels/loss.h) */
    double bound;       /* with learned: factor of the bound */
} nn_loss_args;
typedef struct nn_losses {
    tensor *loss;  /* [n]  the weighted loss of each image, which is trained */
    tensor *error; /* [n]  its mean squared error without the weight */
    tensor *vb;    /* [n]  its variational bound, in bits per dimension; NULL without a learned variance */
} nn_losses;
/* The losses of each image; the same step computes the gradient. */
nn_losses nn_loss(plan *p, const nn_loss_args *a);

typedef struct nn_bound_args {
    tensor *pred, *images, *index, *rows, *state; /* images, index, rows, state: as for nn_q_sample() */
    uint32_t stream;                              /* as for nn_q_sample() */
    bool fixed;                                   /* v is that below; else the second half of pred's channels */
    float v, clip;                                /* kernels/bound.h */
} nn_bound_args;
typedef struct nn_bounds {
    tensor *vb;       /* [n]  the variational bound of each image's step, in bits per dimension */
    tensor *x0_error; /* [n]  the mean squared error of the predicted x_0 */
} nn_bounds;
nn_bounds nn_bound(plan *p, const nn_bound_args *a);

/* End of a micro-batch: adds the losses to the state and n to its sample counter.  Call after plan_differentiate().
 * seen [n * micro_batches, 1, 1, 2]: where the losses of a step's images are kept, if the rows were drawn with factors. */
void nn_tally(plan *p, const nn_losses *l, const nn_drawn *drawn, tensor *state, tensor *seen, int micro_batches);
/* After nn_update(): the losses of the step enter the history, unless it was skipped. */
void nn_remember(plan *p, tensor *seen, tensor *state, tensor *history);

/* Writes the gradient norm and the scalars of this optimizer step to the state (and a line of the optional history),
 * then updates `count` floats by AdamW or Adam, and their averages.  `fixed`: the weights that do not decay
 * (kernels/adamw.h), NULL: none. */
void nn_update(plan *p, tensor *state, tensor *history, tensor *fixed, int64_t count, const step_attr *update);

/* ---- sampling ------------------------------------------------------------------------------------ */

typedef struct nn_sampler_init_args {
    tensor *x;           /* [n, h, w, c] */
    tensor *state, *ids; /* sampler_state, i64 [n] */
    tensor *image;       /* optional [m, h, w, c], n a multiple of m */
    float noise, signal; /* x = signal image + noise xi, xi the noise of seed and ids */
} nn_sampler_init_args;
void nn_sampler_init(plan *p, const nn_sampler_init_args *a);

/* state.row += 1 and t[:] = rows[row].t */
void nn_sampler_next(plan *p, tensor *rows, tensor *state, tensor *t);

enum { NN_SAMPLER_SLOTS = 4 }; /* SAMPLER_SLOTS of kernels/sampler_row.h */

typedef struct nn_sampler_args {
    tensor *x;                  /* [n, h, w, c], updated in place; [2n, h, w, c], its halves equal, if guided */
    tensor *model;              /* the network's output for x; with 2c channels the second half is a learned variance */
    tensor *rows, *state, *ids; /* sampler_row[], sampler_state, i64 [n] */
    tensor *h[NN_SAMPLER_SLOTS]; /* [n, h, w, c], those that the rows use */
    tensor *x0;                  /* optional [n, h, w, c]: x0_hat of the last row */
    tensor *image, *mask;        /* optional [n, h, w, c], u8 [1, h, w, 1]: where the mask is 0 the image is kept */
    bool guided;                 /* the model's first half was told a class label, the second none */
    double rescale;              /* of guidance (sampler_rescale.h), in [0, 1]; 0: none */
    double quantile;             /* dynamic thresholding (sampler_limit.h), in (0, 1]; 0: none */
} nn_sampler_args;
void nn_sampler_step(plan *p, const nn_sampler_args *a);

/* y u8 = x f32, images from [-1, 1] to bytes (kernels/to_u8.h); both tensors are passed in. */
void nn_to_u8(plan *p, tensor *x, tensor *y);

#endif
