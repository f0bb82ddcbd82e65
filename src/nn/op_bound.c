/* op_bound.c - the end of an evaluation: the variational bound of the images' reverse steps. */
#include "nn/nn.h"
#include "ir/operands.h"
#include "train_state.h"

nn_bounds nn_bound(plan *p, const nn_bound_args *a)
{
    const nn_bounds none = {.vb = NULL};
    if (!a->pred || !a->images || !a->rows || !a->state || !a->index || !plan_ok(p)) return none;
    const int64_t n = a->index->n, c = a->images->c;
    const bool fits = a->pred->c == 2 * c || (a->fixed && a->pred->c == c);
    if (a->pred->n != n || a->rows->n != n || a->rows->c != TABLE_COLUMNS || !fits ||
        tensor_hw(a->pred) != tensor_hw(a->images) || tensor_count(a->state) != (int64_t)sizeof(train_state)) {
        plan_fail(p, DDPM_EINVAL,
                  "the network has %lld output channels, but the images have %lld, and the bound of a "
                  "learned variance needs twice as many",
                  (long long)a->pred->c, (long long)c);
        return none;
    }
    const nn_bounds b = {plan_act_f32(p, "vb", n, 1, 1, 1), plan_act_f32(p, "x0_error", n, 1, 1, 1)};
    plan_keep(p, b.vb);
    plan_keep(p, b.x0_error);
    plan_push(p, "bound");
    step *s = plan_emit(p, OP_bound);
    plan_pop(p);
    s->in[BOUND_PRED] = a->pred, s->in[BOUND_IMAGES] = a->images, s->in[BOUND_ROWS] = a->rows;
    s->in[BOUND_STATE] = a->state, s->in[BOUND_INDEX] = a->index;
    s->out[BOUND_VB] = b.vb, s->out[BOUND_X0_ERROR] = b.x0_error;
    s->a.bound.fixed = a->fixed, s->a.bound.v = a->v, s->a.bound.clip = a->clip, s->a.bound.stream = a->stream;
    return b;
}
