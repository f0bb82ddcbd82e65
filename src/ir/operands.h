/* operands.h - positions of a step's operands in in[] and out[]: one pair of enums per op, with shapes. */
#ifndef DDPM_OPERANDS_H
#define DDPM_OPERANDS_H

/* conv2d: y = conv(cat(x, x2), weight) + bias + residual.  weight is [cout, k, k, c1 + c2]. */
enum { CONV_X, CONV_X2, CONV_W, CONV_BIAS, CONV_RESIDUAL };
enum { CONV_Y };
enum { CONV_DX_DY, CONV_DX_W };
enum { CONV_DX_DX, CONV_DX_DX2 };
enum { CONV_DW_X, CONV_DW_X2, CONV_DW_DY };
enum { CONV_DW_DW, CONV_DW_DBIAS };

/* upconv_fold: the folded filter k [cin, 4, 4, cout] of an upconv's weight [cout, 3, 3, cin] (kernels/upconv_fold.h) */
enum { UPCONV_FOLD_W };
enum { UPCONV_FOLD_K };

/* upconv: nearest-neighbour x2 upsampling, then a 3x3 convolution.  Operands as for conv2d, without x2 and residual.
 * K: the folded filter, which is applied instead of W; absent if backend.folds is not set. */
enum { UPCONV_X, UPCONV_W, UPCONV_BIAS, UPCONV_K };
enum { UPCONV_Y };
enum { UPCONV_DX_DY, UPCONV_DX_W, UPCONV_DX_K };
enum { UPCONV_DX_DX };
enum { UPCONV_DW_X, UPCONV_DW_DY };
enum { UPCONV_DW_DW, UPCONV_DW_DBIAS };

/* norm_act: y = dropout(act(groupnorm(cat(x, x2) (+ cond)) (scaled and shifted by cond))).  STATE: train_state, from
 * which dropout draws its mask; absent: no dropout */
enum { NORM_X, NORM_X2, NORM_GAMMA, NORM_BETA, NORM_COND, NORM_STATE };
enum { NORM_Y, NORM_MEAN, NORM_RSTD }; /* mean, rstd [n, groups] */
enum {
    NORM_BWD_DY,
    NORM_BWD_X,
    NORM_BWD_X2,
    NORM_BWD_GAMMA,
    NORM_BWD_BETA,
    NORM_BWD_COND,
    NORM_BWD_MEAN,
    NORM_BWD_RSTD,
    NORM_BWD_STATE
};
/* DBIAS [c1], DBIAS2 [c2]: sums of the final DX and DX2 over n, h, w; the TWINs have the same values, for the biases of
 * two convolutions whose outputs are added */
enum {
    NORM_BWD_DX,
    NORM_BWD_DX2,
    NORM_BWD_DGAMMA,
    NORM_BWD_DBETA,
    NORM_BWD_DCOND,
    NORM_BWD_DBIAS,
    NORM_BWD_DBIAS2,
    NORM_BWD_DBIAS_TWIN,
    NORM_BWD_DBIAS2_TWIN
};

/* linear: y = act(x W^T + bias); pre = the input of act, kept for the backward pass */
enum { LINEAR_X, LINEAR_W, LINEAR_BIAS };
enum { LINEAR_Y, LINEAR_PRE };
enum { LINEAR_BWD_DY, LINEAR_BWD_X, LINEAR_BWD_W, LINEAR_BWD_PRE };
enum { LINEAR_BWD_DX, LINEAR_BWD_DW, LINEAR_BWD_DBIAS };

/* attention: y = softmax(q k^T / sqrt(d)) v over h * w positions, qkv [n, h, w, 3 c] */
enum { ATTN_QKV };
enum { ATTN_Y, ATTN_LSE }; /* lse [n, heads, h * w, 1]: log of the softmax denominators */
enum { ATTN_BWD_DY, ATTN_BWD_QKV, ATTN_BWD_Y, ATTN_BWD_LSE };
enum { ATTN_BWD_DQKV };

/* concat: y [n, h, w, c1 + c2] = cat(x, x2) along the channels */
enum { CONCAT_X, CONCAT_X2 };
enum { CONCAT_Y };
enum { CONCAT_BWD_DY };
enum { CONCAT_BWD_DX, CONCAT_BWD_DX2 };

enum { EMBED_T, EMBED_FREQ }; /* T f32 or i64 [n] */
enum { EMBED_Y };

/* time_mlp: h0 = time_embed(t), h1 = silu(pre1 = h0 W1^T + b1), y = silu(pre2 = h1 W2^T + b2).  All outputs except y
 * are kept for the backward pass and are absent in plans without one. */
enum { TIME_MLP_T, TIME_MLP_FREQ, TIME_MLP_W1, TIME_MLP_B1, TIME_MLP_W2, TIME_MLP_B2 };
enum { TIME_MLP_Y, TIME_MLP_H0, TIME_MLP_PRE1, TIME_MLP_H1, TIME_MLP_PRE2 };

/* class_embed: y = silu(x + table[label]), table [classes, 1, 1, width] f32, labels i64 [n]; without LABELS image b has
 * row b of a table of any type */
enum { CLASS_EMBED_X, CLASS_EMBED_TABLE, CLASS_EMBED_LABELS };
enum { CLASS_EMBED_Y };
enum { CLASS_EMBED_BWD_DY, CLASS_EMBED_BWD_X, CLASS_EMBED_BWD_TABLE, CLASS_EMBED_BWD_LABELS };
enum { CLASS_EMBED_BWD_DX, CLASS_EMBED_BWD_DTABLE };

enum { POINT_X }; /* relu, affine, copy (which converts types), to_u8 */
enum { POINT_Y };
enum { RELU_BWD_DY, RELU_BWD_Y };
enum { RELU_BWD_DX };

/* importance: CUMULATIVE i64 [T + 1] and FACTORS [T] of a HISTORY [T, 1, 1, HISTORY_COLUMNS] (kernels/loss_history.h) */
enum { IMPORTANCE_HISTORY };
enum { IMPORTANCE_CUMULATIVE, IMPORTANCE_FACTORS };
/* remember: the losses SEEN [per_step, 1, 1, 2] of a step enter HISTORY */
enum { REMEMBER_SEEN, REMEMBER_STATE };
enum { REMEMBER_HISTORY };

/* draw: ROWS [n, 1, 1, TABLE_COLUMNS], T [n], LABEL i64 [n] of a batch; INDEX, LABELS and CUMULATIVE are optional,
 * i64 [n], [n] or with INDEX those of the whole data set, [T + 1].
 * With FACTORS [T], FACTOR and LEVEL [n] are those of the rows. */
enum { DRAW_TABLE, DRAW_STATE, DRAW_INDEX, DRAW_LABELS, DRAW_CUMULATIVE, DRAW_FACTORS };
enum { DRAW_ROWS, DRAW_T, DRAW_LABEL, DRAW_FACTOR, DRAW_LEVEL };

/* IMAGES [n, h, w, c], the batch; or a whole data set, with INDEX i64 [n]: the image at each position of the batch */
enum { Q_SAMPLE_IMAGES, Q_SAMPLE_ROWS, Q_SAMPLE_STATE, Q_SAMPLE_INDEX };
enum { Q_SAMPLE_XT };
/* FACTOR: optional, [n] */
enum { LOSS_PRED, LOSS_IMAGES, LOSS_ROWS, LOSS_STATE, LOSS_INDEX, LOSS_FACTOR };
/* EACH, ERROR, VB [n]: loss, squared error and, with a learned variance, variational bound of each image */
enum { LOSS_EACH, LOSS_ERROR, LOSS_DPRED, LOSS_VB };
enum { BOUND_PRED, BOUND_IMAGES, BOUND_ROWS, BOUND_STATE, BOUND_INDEX };
enum { BOUND_VB, BOUND_X0_ERROR }; /* [n] */
/* FACTOR, LEVEL [n] and SEEN [per_step, 1, 1, 2] are optional */
enum { TALLY_LOSS, TALLY_ERROR, TALLY_ROWS, TALLY_STATE, TALLY_VB, TALLY_FACTOR, TALLY_LEVEL };
enum { TALLY_STATE_OUT, TALLY_SEEN };

/* of grad_norm and adamw.  FIXED: u8, bitmap of the weights that do not decay (kernels/adamw.h); absent: all decay */
enum { UPDATE_G, UPDATE_STATE, UPDATE_FIXED };
enum { UPDATE_STATE_OUT, UPDATE_HISTORY }; /* grad_norm's outputs; HISTORY: train_record[TRAIN_HISTORY] */
/* adamw's outputs, updated in place.  LOW: low-precision copy of W; MORE: EMA_MORE further averages */
enum { UPDATE_W, UPDATE_M, UPDATE_V, UPDATE_EMA, UPDATE_LOW, UPDATE_MORE };

enum { SAMPLER_INIT_STATE, SAMPLER_INIT_IDS, SAMPLER_INIT_IMAGE };
enum { SAMPLER_INIT_X };
enum { SAMPLER_ROWS, SAMPLER_STATE }; /* of sampler_next */
enum { SAMPLER_NEXT_STATE, SAMPLER_NEXT_T };
/* of sampler_rescale, sampler_limit and sampler_step; the optional operands are absent where nothing needs them */
enum {
    SAMPLER_STEP_MODEL,
    SAMPLER_STEP_ROWS,
    SAMPLER_STEP_STATE,
    SAMPLER_STEP_IDS,
    SAMPLER_STEP_RESCALE, /* [n] */
    SAMPLER_STEP_LIMIT,   /* [n] */
    SAMPLER_STEP_IMAGE,   /* [n, h, w, c] */
    SAMPLER_STEP_MASK,    /* u8 [1, h, w, 1] */
    SAMPLER_STEP_X_IN     /* of sampler_rescale and sampler_limit, which do not change x */
};
enum { SAMPLER_STAT_Y }; /* [n], of sampler_rescale and sampler_limit */
enum { SAMPLER_STEP_X, SAMPLER_STEP_X0, SAMPLER_STEP_H /* and the other slots */ };

#endif
