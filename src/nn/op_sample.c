/* op_sample.c - the steps around the network in a sampling loop. */
#include "nn/nn.h"
#include "ir/operands.h"
#include "sampler_row.h"

_Static_assert((int)NN_SAMPLER_SLOTS == (int)SAMPLER_SLOTS, "the slots of a row are operands of the step");

static bool check_sampler(plan *p, const tensor *rows, const tensor *state)
{
    if (tensor_count(rows) % (int64_t)sizeof(sampler_row) || tensor_count(state) != (int64_t)sizeof(sampler_state))
        return plan_fail(p, DDPM_EINVAL, "the sampler rows and state have wrong sizes of %lld and %lld bytes",
                         (long long)tensor_count(rows), (long long)tensor_count(state));
    return true;
}

void nn_sampler_init(plan *p, const nn_sampler_init_args *a)
{
    const tensor *image = a->image;
    if (!a->x || !a->state || !a->ids || !plan_ok(p)) return;
    if (tensor_count(a->state) != (int64_t)sizeof(sampler_state) || tensor_count(a->ids) != a->x->n) {
        plan_fail(p, DDPM_EINVAL, "the initial noise needs %lld ids and a state of %zu bytes, not %lld and %lld",
                  (long long)a->x->n, sizeof(sampler_state), (long long)tensor_count(a->ids),
                  (long long)tensor_count(a->state));
        return;
    }
    if (image && (a->x->n % image->n || tensor_count(image) / image->n != tensor_count(a->x) / a->x->n)) {
        plan_fail(p, DDPM_EINVAL, "%lld images of %lld values cannot start from %lld of %lld", (long long)a->x->n,
                  (long long)(tensor_count(a->x) / a->x->n), (long long)image->n,
                  (long long)(tensor_count(image) / image->n));
        return;
    }
    plan_push(p, "sampler_init");
    step *s = plan_emit(p, OP_sampler_init);
    plan_pop(p);
    s->in[SAMPLER_INIT_STATE] = a->state, s->in[SAMPLER_INIT_IDS] = a->ids, s->in[SAMPLER_INIT_IMAGE] = a->image;
    s->out[SAMPLER_INIT_X] = a->x;
    s->a.init.noise = a->noise, s->a.init.signal = a->signal;
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

static bool check_model(plan *p, const nn_sampler_args *a)
{
    const tensor *x = a->x, *m = a->model;
    if (m->c != x->c && m->c != 2 * x->c)
        return plan_fail(p, DDPM_EINVAL, "the network has %lld output channels, but the images have %lld",
                         (long long)m->c, (long long)x->c);
    if (m->n != x->n || tensor_hw(m) != tensor_hw(x) || x->n % (a->guided ? 2 : 1) || (a->mask && !a->image) ||
        a->quantile > 1)
        return plan_fail(p, DDPM_EINVAL, "a sampler step of %lld images of %lld pixels and an output of %lld of %lld",
                         (long long)x->n, (long long)tensor_hw(x), (long long)m->n, (long long)tensor_hw(m));
    return true;
}

/* A statistic of each image's prediction: [n]. */
static tensor *statistic(plan *p, op_kind op, const nn_sampler_args *a, tensor *rescale, const step_attr *attr)
{
    plan_push(p, "%s", op_name[op]);
    tensor *y = plan_act_f32(p, op_name[op], a->x->n / (attr->sampler.guided ? 2 : 1), 1, 1, 1);
    step *s = plan_emit(p, op);
    plan_pop(p);
    s->in[SAMPLER_STEP_MODEL] = a->model, s->in[SAMPLER_STEP_ROWS] = a->rows, s->in[SAMPLER_STEP_STATE] = a->state;
    s->in[SAMPLER_STEP_X_IN] = a->x, s->in[SAMPLER_STEP_RESCALE] = rescale;
    s->out[SAMPLER_STAT_Y] = y;
    s->a = *attr;
    return y;
}

void nn_sampler_step(plan *p, const nn_sampler_args *a)
{
    if (!a->x || !a->model || !plan_ok(p) || !check_sampler(p, a->rows, a->state) || !check_model(p, a)) return;
    const double place = a->quantile * (double)(tensor_count(a->x) / a->x->n - 1);
    const step_attr attr = {
        .sampler = {
            .guided = a->guided, .phi = (float)a->rescale, .k = (int)place, .fraction = (float)(place - (int)place)}};
    tensor *rescale = NULL, *limit = NULL;
    if (a->guided && a->rescale > 0) rescale = statistic(p, OP_sampler_rescale, a, NULL, &attr);
    if (a->quantile > 0) limit = statistic(p, OP_sampler_limit, a, rescale, &attr);
    plan_push(p, "sampler_step");
    step *s = plan_emit(p, OP_sampler_step);
    plan_pop(p);
    s->in[SAMPLER_STEP_MODEL] = a->model, s->in[SAMPLER_STEP_ROWS] = a->rows;
    s->in[SAMPLER_STEP_STATE] = a->state, s->in[SAMPLER_STEP_IDS] = a->ids;
    s->in[SAMPLER_STEP_RESCALE] = rescale, s->in[SAMPLER_STEP_LIMIT] = limit;
    s->in[SAMPLER_STEP_IMAGE] = a->mask ? a->image : NULL, s->in[SAMPLER_STEP_MASK] = a->mask;
    s->out[SAMPLER_STEP_X] = a->x, s->out[SAMPLER_STEP_X0] = a->x0;
    for (int j = 0; j < SAMPLER_SLOTS; j++) s->out[SAMPLER_STEP_H + j] = a->h[j];
    s->accumulate = (1u << (SAMPLER_STEP_H + SAMPLER_SLOTS)) - 1; /* x is updated, and a row writes at most one slot */
    s->a = attr;
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
