/* op_train.c - beginning and end of a training step (noising and loss), and the update of the weights. */
#include "nn/nn.h"
#include "ir/operands.h"
#include "train_state.h"

static bool check_table(plan *p, const tensor *table, const tensor *state)
{
    if (table->c != TABLE_COLUMNS || table->h != 1 || table->w != 1)
        return plan_fail(p, DDPM_EINVAL, "the training table has %lld columns; %d are required", (long long)table->c,
                         TABLE_COLUMNS);
    if (tensor_count(state) != (int64_t)sizeof(train_state))
        return plan_fail(p, DDPM_EINVAL, "the training state has the wrong size of %lld bytes",
                         (long long)tensor_count(state));
    return true;
}

nn_noised nn_q_sample(plan *p, const nn_q_sample_args *a)
{
    const nn_noised none = {NULL, NULL};
    tensor *images = a->images, *table = a->table, *state = a->state;
    if (!images || !table || !state || !plan_ok(p) || !check_table(p, table, state)) return none;
    const int64_t n = a->index ? a->index->n : images->n;
    tensor *xt = plan_act(p, "x_t", n, images->h, images->w, images->c);
    tensor *t = plan_act_f32(p, "t", n, 1, 1, 1);
    plan_push(p, "q_sample");
    step *s = plan_emit(p, OP_q_sample);
    plan_pop(p);
    s->in[Q_SAMPLE_IMAGES] = images, s->in[Q_SAMPLE_TABLE] = table, s->in[Q_SAMPLE_STATE] = state;
    s->in[Q_SAMPLE_INDEX] = a->index;
    s->out[Q_SAMPLE_XT] = xt, s->out[Q_SAMPLE_T] = t;
    s->a.noise.flip = a->flip;
    s->a.noise.timesteps = (int)table->n;
    return (nn_noised){xt, t};
}

tensor *nn_mse(plan *p, const nn_mse_args *a)
{
    if (!a->pred || !a->images || !a->t || !plan_ok(p) || !check_table(p, a->table, a->state)) return NULL;
    const int64_t n = a->index ? a->index->n : a->images->n;
    if (a->pred->n != n || tensor_hw(a->pred) != tensor_hw(a->images) || a->pred->c != a->images->c)
        return plan_fail(p, DDPM_EINVAL, "the network has %lld output channels, but the images have %lld",
                         (long long)a->pred->c, (long long)a->images->c);
    tensor *loss = plan_act_f32(p, "loss", a->pred->n, 1, 1, 1);
    plan_keep(p, loss);
    plan_push(p, "mse");
    step *s = plan_emit(p, OP_mse);
    plan_pop(p);
    s->in[MSE_PRED] = a->pred, s->in[MSE_IMAGES] = a->images, s->in[MSE_T] = a->t;
    s->in[MSE_TABLE] = a->table, s->in[MSE_STATE] = a->state, s->in[MSE_INDEX] = a->index;
    s->out[MSE_LOSS] = loss;
    s->a.mse.grad_scale = (float)(1.0 / ((double)tensor_count(a->pred) * a->micro_batches));
    s->a.mse.timesteps = (int)a->table->n;
    s->a.mse.flip = a->flip;
    return loss;
}

/* The forward step also writes the gradient: only there are target and noise available. */
void mse_vjp(plan *p, step *f) { plan_grad_out(p, f, MSE_DPRED, f->in[MSE_PRED]); }

void nn_tally(plan *p, tensor *loss, tensor *t, tensor *state, int micro_batches)
{
    if (!loss || !t || !state || !plan_ok(p)) return;
    plan_push(p, "tally");
    step *s = plan_emit(p, OP_tally);
    plan_pop(p);
    s->in[TALLY_LOSS] = loss, s->in[TALLY_T] = t, s->in[TALLY_STATE] = state;
    s->out[TALLY_STATE_OUT] = state;
    s->a.tally.scale = 1.0 / ((double)loss->n * micro_batches);
}

void nn_update(plan *p, tensor *state, tensor *history, int64_t count, const step_attr *update)
{
    if (!state || !plan_ok(p)) return;
    tensor *g = plan_arena(p, ARENA_GRAD, "gradients", count), *w = plan_arena(p, ARENA_PARAM, "weights", count);
    tensor *m = plan_arena(p, ARENA_M, "m", count), *v = plan_arena(p, ARENA_V, "v", count);
    tensor *ema = update->update.ema_decay > 0 ? plan_arena(p, ARENA_EMA, "ema", count) : NULL;
    plan_push(p, "update");
    step *s = plan_emit(p, OP_grad_norm);
    s->in[UPDATE_G] = g, s->in[UPDATE_STATE] = state;
    s->out[UPDATE_STATE_OUT] = state, s->out[UPDATE_HISTORY] = history;
    s->a = *update;
    s = plan_emit(p, OP_adamw);
    plan_pop(p);
    s->in[UPDATE_G] = g, s->in[UPDATE_STATE] = state;
    s->out[UPDATE_W] = w, s->out[UPDATE_M] = m, s->out[UPDATE_V] = v, s->out[UPDATE_EMA] = ema;
    if (p->be->act != DTYPE_F32) s->out[UPDATE_LOW] = plan_arena(p, ARENA_PARAM_LOW, "weights", count);
    s->accumulate = 0xf;
    s->a = *update;
}
