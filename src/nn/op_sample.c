/* op_sample.c - the steps around the network in a sampling loop. */
#include "nn/nn.h"
#include "ir/operands.h"
#include "sampler_step.h"

static bool check_sampler(plan *p, const tensor *rows, const tensor *state)
{
    if (tensor_count(rows) % (int64_t)sizeof(sampler_row) || tensor_count(state) != (int64_t)sizeof(sampler_state))
        return plan_fail(p, DDPM_EINVAL, "the sampler rows and state have wrong sizes of %lld and %lld bytes",
                         (long long)tensor_count(rows), (long long)tensor_count(state));
    return true;
}

void nn_sampler_init(plan *p, tensor *x, tensor *state, tensor *ids, float scale)
{
    if (!x || !state || !ids || !plan_ok(p)) return;
    if (tensor_count(state) != (int64_t)sizeof(sampler_state) || tensor_count(ids) != x->n) {
        plan_fail(p, DDPM_EINVAL, "the initial noise needs %lld ids and a state of %zu bytes, not %lld and %lld",
                  (long long)x->n, sizeof(sampler_state), (long long)tensor_count(ids), (long long)tensor_count(state));
        return;
    }
    plan_push(p, "sampler_init");
    step *s = plan_emit(p, OP_sampler_init);
    plan_pop(p);
    s->in[SAMPLER_INIT_STATE] = state, s->in[SAMPLER_INIT_IDS] = ids;
    s->out[SAMPLER_INIT_X] = x;
    s->a.init.scale = scale;
}

void nn_sampler_next(plan *p, tensor *rows, tensor *state, tensor *t)
{
    if (!rows || !state || !t || !plan_ok(p) || !check_sampler(p, rows, state)) return;
    plan_push(p, "sampler_next");
    step *s = plan_emit(p, OP_sampler_next);
    plan_pop(p);
    s->in[SAMPLER_ROWS] = rows, s->in[SAMPLER_STATE] = state;
    s->out[SAMPLER_NEXT_STATE] = state, s->out[SAMPLER_NEXT_T] = t;
}

void nn_sampler_step(plan *p, const nn_sampler_args *a)
{
    if (!a->x || !a->model || !plan_ok(p) || !check_sampler(p, a->rows, a->state)) return;
    if (tensor_count(a->x) != tensor_count(a->model)) {
        plan_fail(p, DDPM_EINVAL, "the network has %lld output channels, but the images have %lld",
                  (long long)a->model->c, (long long)a->x->c);
        return;
    }
    plan_push(p, "sampler_step");
    step *s = plan_emit(p, OP_sampler_step);
    plan_pop(p);
    s->in[SAMPLER_STEP_MODEL] = a->model, s->in[SAMPLER_STEP_ROWS] = a->rows;
    s->in[SAMPLER_STEP_STATE] = a->state, s->in[SAMPLER_STEP_IDS] = a->ids;
    s->out[SAMPLER_STEP_X] = a->x, s->out[SAMPLER_STEP_X0_PREV] = a->x0_prev, s->out[SAMPLER_STEP_X_SAVED] = a->x_saved;
    s->accumulate = 7;
}

void nn_to_u8(plan *p, tensor *x, tensor *y)
{
    if (!x || !y || !plan_ok(p)) return;
    if (tensor_count(x) != tensor_count(y) || x->dtype != DTYPE_F32 || y->dtype != DTYPE_U8) {
        plan_fail(p, DDPM_EINVAL, "cannot convert %lld values of type %s to %lld bytes", (long long)tensor_count(x),
                  dtype_name(x->dtype), (long long)tensor_count(y));
        return;
    }
    plan_push(p, "to_u8");
    step *s = plan_emit(p, OP_to_u8);
    plan_pop(p);
    s->in[POINT_X] = x, s->out[POINT_Y] = y;
}
