/* op_train.c - beginning and end of a training step (noising and loss), and the update of the weights. */
#include "nn/nn.h"
#include "ir/operands.h"
#include "loss_history.h"
#include "train_state.h"

static bool check_rows(plan *p, const tensor *rows, const tensor *state)
{
    if (rows->c != TABLE_COLUMNS || rows->h != 1 || rows->w != 1)
        return plan_fail(p, DDPM_EINVAL, "the training table has the wrong number of columns, %lld",
                         (long long)rows->c);
    if (tensor_count(state) != (int64_t)sizeof(train_state))
        return plan_fail(p, DDPM_EINVAL, "the training state has the wrong size of %lld bytes",
                         (long long)tensor_count(state));
    return true;
}

static bool check_history(plan *p, const tensor *history)
{
    if (history->c == HISTORY_COLUMNS && history->h == 1 && history->w == 1) return true;
    return plan_fail(p, DDPM_EINVAL, "a history of %lld losses; it keeps %d", (long long)history->c - 1, LOSSES_KEPT);
}

nn_distribution nn_importance(plan *p, tensor *history)
{
    if (!history || !plan_ok(p) || !check_history(p, history)) return (nn_distribution){.factors = NULL};
    const nn_distribution d = {.cumulative = plan_act_i64(p, "cumulative", history->n + 1),
                               .factors = plan_act_f32(p, "factors", history->n, 1, 1, 1)};
    plan_push(p, "importance");
    step *s = plan_emit(p, OP_importance);
    plan_pop(p);
    s->in[IMPORTANCE_HISTORY] = history;
    s->out[IMPORTANCE_CUMULATIVE] = d.cumulative, s->out[IMPORTANCE_FACTORS] = d.factors;
    return d;
}

nn_drawn nn_draw(plan *p, const nn_draw_args *a)
{
    const nn_drawn none = {.rows = NULL};
    if (!a->table || !a->state || !plan_ok(p) || !check_rows(p, a->table, a->state)) return none;
    if (a->labels && !a->index && tensor_count(a->labels) != a->n) {
        plan_fail(p, DDPM_EINVAL, "%lld labels for %lld images", (long long)tensor_count(a->labels), (long long)a->n);
        return none;
    }
    if (a->cumulative && tensor_count(a->cumulative) != a->table->n + 1) {
        plan_fail(p, DDPM_EINVAL, "a distribution of %lld steps over %lld timesteps",
                  (long long)tensor_count(a->cumulative) - 1, (long long)a->table->n);
        return none;
    }
    const nn_drawn drawn = {.rows = plan_act_f32(p, "rows", a->n, 1, 1, TABLE_COLUMNS),
                            .t = plan_act_f32(p, "t", a->n, 1, 1, 1),
                            .labels = a->labels ? plan_act_i64(p, "labels", a->n) : NULL,
                            .factor = a->factors ? plan_act_f32(p, "factor", a->n, 1, 1, 1) : NULL,
                            .level = a->factors ? plan_act_f32(p, "level", a->n, 1, 1, 1) : NULL};
    plan_push(p, "draw");
    step *s = plan_emit(p, OP_draw);
    plan_pop(p);
    s->in[DRAW_TABLE] = a->table, s->in[DRAW_STATE] = a->state;
    s->in[DRAW_INDEX] = a->index, s->in[DRAW_LABELS] = a->labels, s->in[DRAW_CUMULATIVE] = a->cumulative;
    s->in[DRAW_FACTORS] = a->factors, s->out[DRAW_FACTOR] = drawn.factor, s->out[DRAW_LEVEL] = drawn.level;
    s->out[DRAW_ROWS] = drawn.rows, s->out[DRAW_T] = drawn.t, s->out[DRAW_LABEL] = drawn.labels;
    s->a.draw.timesteps = (int)a->table->n;
    s->a.draw.stratified = a->stratified;
    s->a.draw.label_dropout = a->label_dropout;
    s->a.draw.null_label = a->null_label;
    return drawn;
}

/* Are there a row for each image of the batch, and a state? */
static bool check_batch(plan *p, int64_t n, const tensor *rows, const tensor *state)
{
    if (!check_rows(p, rows, state)) return false;
    if (rows->n == n) return true;
    return plan_fail(p, DDPM_EINVAL, "%lld rows of the training table for %lld images", (long long)rows->n,
                     (long long)n);
}

tensor *nn_q_sample(plan *p, const nn_q_sample_args *a)
{
    tensor *images = a->images;
    if (!images || !a->rows || !a->state || !plan_ok(p)) return NULL;
    const int64_t n = a->index ? a->index->n : images->n;
    if (!check_batch(p, n, a->rows, a->state)) return NULL;
    if (a->noise_offset > 0 && images->c > 4)
        return plan_fail(p, DDPM_EINVAL, "noise_offset for images of %lld channels; 4 at most", (long long)images->c);
    tensor *xt = plan_act(p, "x_t", n, images->h, images->w, images->c);
    plan_push(p, "q_sample");
    step *s = plan_emit(p, OP_q_sample);
    plan_pop(p);
    s->in[Q_SAMPLE_IMAGES] = images, s->in[Q_SAMPLE_ROWS] = a->rows, s->in[Q_SAMPLE_STATE] = a->state;
    s->in[Q_SAMPLE_INDEX] = a->index;
    s->out[Q_SAMPLE_XT] = xt;
    s->a.noise.flip = a->flip;
    s->a.noise.stream = a->stream;
    s->a.noise.offset = a->noise_offset, s->a.noise.perturbation = a->input_perturbation;
    return xt;
}

/* Is there a prediction for each value of the images, and a variance if it is learned? */
static bool check_prediction(plan *p, int64_t n, const nn_loss_args *a)
{
    const tensor *pred = a->pred, *images = a->images;
    const int64_t needed = a->learned ? 2 * images->c : images->c;
    if (pred->n == n && tensor_hw(pred) == tensor_hw(images) && pred->c == needed) return true;
    return plan_fail(p, DDPM_EINVAL, "the network has %lld output channels, but the images have %lld%s",
                     (long long)pred->c, (long long)images->c,
                     a->learned ? ", and a learned variance needs twice as many" : "");
}

nn_losses nn_loss(plan *p, const nn_loss_args *a)
{
    const nn_losses none = {.loss = NULL};
    if (!a->pred || !a->images || !a->rows || !a->state || !plan_ok(p)) return none;
    const int64_t n = a->index ? a->index->n : a->images->n;
    if (!check_batch(p, n, a->rows, a->state)) return none;
    if (!check_prediction(p, n, a)) return none;
    const nn_losses l = {.loss = plan_act_f32(p, "loss", n, 1, 1, 1),
                         .error = plan_act_f32(p, "error", n, 1, 1, 1),
                         .vb = a->learned ? plan_act_f32(p, "vb", n, 1, 1, 1) : NULL};
    plan_keep(p, l.loss);
    plan_keep(p, l.error);
    if (l.vb) plan_keep(p, l.vb);
    plan_push(p, "loss");
    step *s = plan_emit(p, OP_loss);
    plan_pop(p);
    s->in[LOSS_PRED] = a->pred, s->in[LOSS_IMAGES] = a->images, s->in[LOSS_ROWS] = a->rows;
    s->in[LOSS_STATE] = a->state, s->in[LOSS_INDEX] = a->index, s->in[LOSS_FACTOR] = a->factor;
    s->out[LOSS_EACH] = l.loss, s->out[LOSS_ERROR] = l.error, s->out[LOSS_VB] = l.vb;
    s->a.loss.grad_scale = (float)(1.0 / ((double)(n * tensor_hw(a->images) * a->images->c) * a->micro_batches));
    s->a.loss.learned = a->learned, s->a.loss.kl = a->kl, s->a.loss.bound = a->bound;
    s->a.loss.flip = a->flip;
    s->a.loss.noise_offset = a->noise_offset;
    s->a.loss.kind = a->kind;
    return l;
}

/* The forward step also writes the gradient: only there are target and noise available. */
void loss_vjp(plan *p, step *f) { plan_grad_out(p, f, LOSS_DPRED, f->in[LOSS_PRED]); }

void nn_tally(plan *p, const nn_losses *l, const nn_drawn *drawn, tensor *state, tensor *seen, int micro_batches)
{
    tensor *rows = drawn->rows;
    if (!l->loss || !l->error || !rows || !state || !plan_ok(p) || !check_batch(p, l->loss->n, rows, state)) return;
    if (seen && (!drawn->factor || seen->n != l->loss->n * micro_batches || seen->c != 2)) {
        plan_fail(p, DDPM_EINVAL, "losses of %lld images are kept, but a step has %lld", (long long)seen->n,
                  (long long)l->loss->n * micro_batches);
        return;
    }
    plan_push(p, "tally");
    step *s = plan_emit(p, OP_tally);
    plan_pop(p);
    s->in[TALLY_LOSS] = l->loss, s->in[TALLY_ERROR] = l->error, s->in[TALLY_ROWS] = rows, s->in[TALLY_STATE] = state;
    s->in[TALLY_VB] = l->vb;
    s->in[TALLY_FACTOR] = drawn->factor, s->in[TALLY_LEVEL] = drawn->level;
    s->out[TALLY_STATE_OUT] = state, s->out[TALLY_SEEN] = seen;
    s->a.tally.scale = 1.0 / ((double)l->loss->n * micro_batches);
}

void nn_remember(plan *p, tensor *seen, tensor *state, tensor *history)
{
    if (!seen || !state || !history || !plan_ok(p) || !check_history(p, history)) return;
    plan_push(p, "remember");
    step *s = plan_emit(p, OP_remember);
    plan_pop(p);
    s->in[REMEMBER_SEEN] = seen, s->in[REMEMBER_STATE] = state;
    s->out[REMEMBER_HISTORY] = history;
    s->accumulate = 1u << REMEMBER_HISTORY;
}

void nn_update(plan *p, tensor *state, tensor *history, tensor *fixed, int64_t count, const step_attr *update)
{
    const int averages = ema_count(update->update.ema);
    if (!state || !plan_ok(p)) return;
    tensor *g = plan_arena(p, ARENA_GRAD, "gradients", count), *w = plan_arena(p, ARENA_PARAM, "weights", count);
    tensor *m = plan_arena(p, ARENA_M, "m", count), *v = plan_arena(p, ARENA_V, "v", count);
    tensor *ema = averages > 0 ? plan_arena(p, ARENA_EMA, "ema", count) : NULL;
    plan_push(p, "update");
    step *s = plan_emit(p, OP_grad_norm);
    s->in[UPDATE_G] = g, s->in[UPDATE_STATE] = state;
    s->out[UPDATE_STATE_OUT] = state, s->out[UPDATE_HISTORY] = history;
    s->a = *update;
    s = plan_emit(p, OP_adamw);
    plan_pop(p);
    s->in[UPDATE_G] = g, s->in[UPDATE_STATE] = state, s->in[UPDATE_FIXED] = fixed;
    s->out[UPDATE_W] = w, s->out[UPDATE_M] = m, s->out[UPDATE_V] = v, s->out[UPDATE_EMA] = ema;
    if (p->be->act != DTYPE_F32) s->out[UPDATE_LOW] = plan_arena(p, ARENA_PARAM_LOW, "weights", count);
    s->accumulate = 1u << UPDATE_W | 1u << UPDATE_M | 1u << UPDATE_V | 1u << UPDATE_EMA;
    for (int k = 0; k < averages - 1; k++) {
        s->out[UPDATE_MORE + k] = plan_arena(p, (arena_kind)(ARENA_EMA_1 + k), "ema", count);
        s->accumulate |= 1u << (UPDATE_MORE + k);
    }
    s->a = *update;
}
