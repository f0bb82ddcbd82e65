/* step_args.h - builds kernel arguments from a step, for the ops that both backends run with kernels/ alone.
 *
 * Scratch pointers differ between the backends and are left unset. */
#ifndef DDPM_STEP_ARGS_H
#define DDPM_STEP_ARGS_H
#include "adamw.h"
#include "bound.h"
#include "class_embed.h"
#include "draw.h"
#include "dropout.h"
#include "grad_norm.h"
#include "loss.h"
#include "loss_history.h"
#include "ir/operands.h"
#include "ir/step.h"
#include "q_sample.h"
#include "sampler_init.h"
#include "sampler_limit.h"
#include "sampler_next.h"
#include "sampler_rescale.h"
#include "sampler_step.h"
#include "tally.h"
#include "time_embed.h"

static inline void *step_data(const tensor *t) { return t ? t->data : NULL; }
static inline storage step_storage(const tensor *t) { return t && t->dtype == DTYPE_BF16 ? STORE_BF16 : STORE_F32; }

static inline draw_args step_draw(const step *s)
{
    return (draw_args){.table = s->in[DRAW_TABLE]->data,
                       .state = s->in[DRAW_STATE]->data,
                       .labels = step_data(s->in[DRAW_LABELS]),
                       .index = step_data(s->in[DRAW_INDEX]),
                       .rows = s->out[DRAW_ROWS]->data,
                       .t = s->out[DRAW_T]->data,
                       .label = step_data(s->out[DRAW_LABEL]),
                       .n = (int)s->out[DRAW_T]->n,
                       .T = s->a.draw.timesteps,
                       .cumulative = step_data(s->in[DRAW_CUMULATIVE]),
                       .factors = step_data(s->in[DRAW_FACTORS]),
                       .factor = step_data(s->out[DRAW_FACTOR]),
                       .level = step_data(s->out[DRAW_LEVEL]),
                       .stratified = s->a.draw.stratified,
                       .label_dropout = s->a.draw.label_dropout,
                       .null_label = s->a.draw.null_label};
}

static inline importance_args step_importance(const step *s)
{
    return (importance_args){.history = s->in[IMPORTANCE_HISTORY]->data,
                             .cumulative = s->out[IMPORTANCE_CUMULATIVE]->data,
                             .factor = s->out[IMPORTANCE_FACTORS]->data,
                             .T = (int)s->in[IMPORTANCE_HISTORY]->n};
}

static inline remember_args step_remember(const step *s)
{
    return (remember_args){.seen = s->in[REMEMBER_SEEN]->data,
                           .state = s->in[REMEMBER_STATE]->data,
                           .history = s->out[REMEMBER_HISTORY]->data,
                           .per_step = (int)s->in[REMEMBER_SEEN]->n};
}

static inline q_sample_args step_q_sample(const step *s)
{
    const tensor *xt = s->out[Q_SAMPLE_XT];
    return (q_sample_args){.images = s->in[Q_SAMPLE_IMAGES]->data,
                           .index = step_data(s->in[Q_SAMPLE_INDEX]),
                           .rows = s->in[Q_SAMPLE_ROWS]->data,
                           .state = s->in[Q_SAMPLE_STATE]->data,
                           .xt = xt->data,
                           .xt_type = step_storage(xt),
                           .n = (int)xt->n,
                           .h = (int)xt->h,
                           .w = (int)xt->w,
                           .c = (int)xt->c,
                           .flip = s->a.noise.flip,
                           .noise_offset = s->a.noise.offset,
                           .input_perturbation = s->a.noise.perturbation,
                           .stream = s->a.noise.stream};
}

static inline loss_args step_loss(const step *s)
{
    const tensor *pred = s->in[LOSS_PRED];
    return (loss_args){.pred = pred->data,
                       .pred_type = step_storage(pred),
                       .images = s->in[LOSS_IMAGES]->data,
                       .index = step_data(s->in[LOSS_INDEX]),
                       .rows = s->in[LOSS_ROWS]->data,
                       .factor = step_data(s->in[LOSS_FACTOR]),
                       .state = s->in[LOSS_STATE]->data,
                       .loss = s->out[LOSS_EACH]->data,
                       .error = s->out[LOSS_ERROR]->data,
                       .dpred = step_data(s->out[LOSS_DPRED]),
                       .n = (int)pred->n,
                       .h = (int)pred->h,
                       .w = (int)pred->w,
                       .c = (int)s->in[LOSS_IMAGES]->c,
                       .flip = s->a.loss.flip,
                       .learned = s->a.loss.learned,
                       .kl = s->a.loss.kl,
                       .bound = s->a.loss.bound,
                       .vb = step_data(s->out[LOSS_VB]),
                       .noise_offset = s->a.loss.noise_offset,
                       .kind = (loss_kind)s->a.loss.kind,
                       .grad_scale = s->a.loss.grad_scale};
}

static inline bound_args step_bound(const step *s)
{
    const tensor *pred = s->in[BOUND_PRED], *images = s->in[BOUND_IMAGES];
    return (bound_args){.pred = pred->data,
                        .pred_type = step_storage(pred),
                        .images = images->data,
                        .rows = s->in[BOUND_ROWS]->data,
                        .state = s->in[BOUND_STATE]->data,
                        .index = s->in[BOUND_INDEX]->data,
                        .stream = s->a.bound.stream,
                        .vb = s->out[BOUND_VB]->data,
                        .x0_error = s->out[BOUND_X0_ERROR]->data,
                        .n = (int)pred->n,
                        .h = (int)images->h,
                        .w = (int)images->w,
                        .c = (int)images->c,
                        .halves = pred->c > images->c ? 2 : 1,
                        .fixed = s->a.bound.fixed,
                        .v = s->a.bound.v,
                        .clip = s->a.bound.clip};
}

static inline tally_args step_tally(const step *s)
{
    const int n = (int)s->in[TALLY_LOSS]->n;
    return (tally_args){.loss = s->in[TALLY_LOSS]->data,
                        .error = s->in[TALLY_ERROR]->data,
                        .rows = s->in[TALLY_ROWS]->data,
                        .state = s->out[TALLY_STATE_OUT]->data,
                        .factor = step_data(s->in[TALLY_FACTOR]),
                        .level = step_data(s->in[TALLY_LEVEL]),
                        .seen = step_data(s->out[TALLY_SEEN]),
                        .per_step = s->out[TALLY_SEEN] ? (int)s->out[TALLY_SEEN]->n : 0,
                        .n = n,
                        .scale = s->a.tally.scale,
                        .advance = (uint64_t)n,
                        .vb = step_data(s->in[TALLY_VB])};
}

static inline grad_norm_args step_grad_norm(const step *s)
{
    grad_norm_args a = {.g = s->in[UPDATE_G]->data,
                        .state = s->in[UPDATE_STATE]->data,
                        .history = step_data(s->out[UPDATE_HISTORY]),
                        .count = tensor_count(s->in[UPDATE_G]),
                        .update = {.lr = s->a.update.lr,
                                   .beta1 = s->a.update.beta1,
                                   .beta2 = s->a.update.beta2,
                                   .max_grad_norm = s->a.update.max_grad_norm,
                                   .images = s->a.update.images}};
    for (int k = 0; k < EMA_MOST; k++) a.update.ema[k] = s->a.update.ema[k];
    return a;
}

/* *more must live as long as the arguments. */
static inline adamw_args step_adamw(const step *s, adamw_more *more)
{
    adamw_args a = {.w = s->out[UPDATE_W]->data,
                    .g = s->in[UPDATE_G]->data,
                    .m = s->out[UPDATE_M]->data,
                    .v = s->out[UPDATE_V]->data,
                    .ema = step_data(s->out[UPDATE_EMA]),
                    .low = step_data(s->out[UPDATE_LOW]),
                    .low_type = step_storage(s->out[UPDATE_LOW]),
                    .state = s->in[UPDATE_STATE]->data,
                    .count = tensor_count(s->in[UPDATE_G]),
                    .beta1 = s->a.update.beta1,
                    .beta2 = s->a.update.beta2,
                    .eps = s->a.update.eps,
                    .weight_decay = s->a.update.weight_decay,
                    .zero_grad = s->a.update.zero_grad,
                    .adam = s->a.update.adam,
                    .fixed = step_data(s->in[UPDATE_FIXED])};
    for (int k = 0; k < EMA_MORE; k++) more->ema[k] = step_data(s->out[UPDATE_MORE + k]);
    if (more->ema[0]) a.more = more;
    return a;
}

/* state: the operand of a norm_act or norm_act_bwd step */
static inline dropout_mask step_dropout(const step *s, const tensor *state)
{
    return dropout_mask_of(step_data(state), s->a.norm.dropout, s->a.norm.dropout_layer);
}

static inline time_embed_args step_time_embed(const step *s)
{
    const tensor *y = s->out[EMBED_Y], *t = s->in[EMBED_T];
    const bool whole = t->dtype == DTYPE_I64;
    return (time_embed_args){.t = whole ? NULL : t->data,
                             .whole = whole ? t->data : NULL,
                             .freq = s->in[EMBED_FREQ]->data,
                             .y = y->data,
                             .y_type = step_storage(y),
                             .n = (int)y->n,
                             .dim = (int)y->c,
                             .flip_sin_to_cos = s->a.embed.flip_sin_to_cos};
}

static inline class_embed_args step_class_embed(const step *s)
{
    const tensor *x = s->in[CLASS_EMBED_X];
    return (class_embed_args){.x = x->data,
                              .table = s->in[CLASS_EMBED_TABLE]->data,
                              .labels = step_data(s->in[CLASS_EMBED_LABELS]),
                              .y = s->out[CLASS_EMBED_Y]->data,
                              .n = (int)x->n,
                              .width = (int)x->c,
                              .type = step_storage(x),
                              .table_type = step_storage(s->in[CLASS_EMBED_TABLE])};
}

static inline class_embed_bwd_args step_class_embed_bwd(const step *s)
{
    const tensor *x = s->in[CLASS_EMBED_BWD_X], *table = s->in[CLASS_EMBED_BWD_TABLE];
    return (class_embed_bwd_args){.dy = s->in[CLASS_EMBED_BWD_DY]->data,
                                  .x = x->data,
                                  .table = table->data,
                                  .labels = step_data(s->in[CLASS_EMBED_BWD_LABELS]),
                                  .dx = step_data(s->out[CLASS_EMBED_BWD_DX]),
                                  .dtable = step_data(s->out[CLASS_EMBED_BWD_DTABLE]),
                                  .n = (int)x->n,
                                  .rows = (int)table->n,
                                  .width = (int)x->c,
                                  .add_x = step_adds(s, CLASS_EMBED_BWD_DX),
                                  .add_table = step_adds(s, CLASS_EMBED_BWD_DTABLE),
                                  .type = step_storage(x),
                                  .table_type = step_storage(table)};
}

static inline sampler_init_args step_sampler_init(const step *s)
{
    const tensor *x = s->out[SAMPLER_INIT_X], *image = s->in[SAMPLER_INIT_IMAGE];
    return (sampler_init_args){.x = x->data,
                               .state = s->in[SAMPLER_INIT_STATE]->data,
                               .ids = s->in[SAMPLER_INIT_IDS]->data,
                               .n = (int)x->n,
                               .d = (int)(tensor_hw(x) * x->c),
                               .noise = s->a.init.noise,
                               .image = step_data(image),
                               .images = image ? (int)image->n : 1,
                               .signal = s->a.init.signal};
}

static inline sampler_next_args step_sampler_next(const step *s)
{
    return (sampler_next_args){.rows = s->in[SAMPLER_ROWS]->data,
                               .state = s->out[SAMPLER_NEXT_STATE]->data,
                               .t = s->out[SAMPLER_NEXT_T]->data,
                               .n = (int)s->out[SAMPLER_NEXT_T]->n};
}

/* The network's output for the images x. */
static inline sampler_output step_sampler_output(const step *s, const tensor *x)
{
    const tensor *m = s->in[SAMPLER_STEP_MODEL];
    return (sampler_output){.data = m->data,
                            .type = step_storage(m),
                            .guided = s->a.sampler.guided,
                            .learned = m->c != x->c,
                            .n = (int)x->n / (s->a.sampler.guided ? 2 : 1),
                            .d = (int)(tensor_hw(x) * x->c),
                            .c = (int)x->c,
                            .rescale = step_data(s->in[SAMPLER_STEP_RESCALE])};
}

static inline sampler_rescale_args step_sampler_rescale(const step *s)
{
    return (sampler_rescale_args){.model = step_sampler_output(s, s->in[SAMPLER_STEP_X_IN]),
                                  .rows = s->in[SAMPLER_STEP_ROWS]->data,
                                  .state = s->in[SAMPLER_STEP_STATE]->data,
                                  .factor = s->out[SAMPLER_STAT_Y]->data,
                                  .phi = s->a.sampler.phi};
}

static inline sampler_limit_args step_sampler_limit(const step *s)
{
    return (sampler_limit_args){.x = s->in[SAMPLER_STEP_X_IN]->data,
                                .model = step_sampler_output(s, s->in[SAMPLER_STEP_X_IN]),
                                .rows = s->in[SAMPLER_STEP_ROWS]->data,
                                .state = s->in[SAMPLER_STEP_STATE]->data,
                                .limit = s->out[SAMPLER_STAT_Y]->data,
                                .k = s->a.sampler.k,
                                .fraction = s->a.sampler.fraction};
}

static inline sampler_step_args step_sampler_step(const step *s)
{
    const tensor *x = s->out[SAMPLER_STEP_X];
    sampler_step_args a = {.x = x->data,
                           .model = step_sampler_output(s, x),
                           .x0 = step_data(s->out[SAMPLER_STEP_X0]),
                           .limit = step_data(s->in[SAMPLER_STEP_LIMIT]),
                           .image = step_data(s->in[SAMPLER_STEP_IMAGE]),
                           .mask = step_data(s->in[SAMPLER_STEP_MASK]),
                           .rows = s->in[SAMPLER_STEP_ROWS]->data,
                           .state = s->in[SAMPLER_STEP_STATE]->data,
                           .ids = s->in[SAMPLER_STEP_IDS]->data};
    for (int j = 0; j < SAMPLER_SLOTS; j++) a.h[j] = step_data(s->out[SAMPLER_STEP_H + j]);
    return a;
}

#endif
