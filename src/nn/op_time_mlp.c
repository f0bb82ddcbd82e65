/* op_time_mlp.c - the timestep embedding and the two linear layers after it. */
#include "nn/op_linear.h"
#include "ir/operands.h"

static bool check_frequencies(plan *p, const tensor *freq, int64_t dim)
{
    if (freq->n == dim / 2) return true;
    plan_fail(p, DDPM_EINVAL, "%lld frequencies for a time embedding of %lld channels; half as many are required",
              (long long)freq->n, (long long)dim);
    return false;
}

tensor *nn_time_embed(plan *p, tensor *t, tensor *freq, int64_t dim, bool flip_sin_to_cos)
{
    if (!t || !freq || !plan_ok(p) || !check_frequencies(p, freq, dim)) return NULL;
    tensor *y = plan_act(p, "time_proj", t->n, 1, 1, dim);
    plan_push(p, "time_proj");
    step *s = plan_emit(p, OP_time_embed);
    plan_pop(p);
    s->in[EMBED_T] = t, s->in[EMBED_FREQ] = freq;
    s->out[EMBED_Y] = y;
    s->a.embed.flip_sin_to_cos = flip_sin_to_cos;
    return y;
}

static tensor *layer_by_layer(plan *p, const nn_time_mlp_args *a)
{
    tensor *h = nn_time_embed(p, a->t, a->freq, a->dim, a->flip_sin_to_cos);
    plan_push(p, "%s", a->name);
    h = nn_linear(p, &(nn_linear_args){.x = h, .cout = a->width, .silu = true, .name = "linear_1"});
    h = nn_linear(p, &(nn_linear_args){.x = h, .cout = a->width, .silu = !a->linear, .name = "linear_2"});
    plan_pop(p);
    return h;
}

static tensor *in_one(plan *p, const nn_time_mlp_args *a)
{
    const layer_rows first = {"linear_1", a->width}, second = {"linear_2", a->width};
    const linear_params one = linear_declare(p, &first, 1, a->dim, INIT_FAN_AVG),
                        two = linear_declare(p, &second, 1, a->width, INIT_FAN_AVG);
    const int64_t n = a->t->n;
    tensor *y = plan_act(p, "linear_2", n, 1, 1, a->width);
    step *s = plan_emit(p, OP_time_mlp);
    s->in[TIME_MLP_T] = a->t, s->in[TIME_MLP_FREQ] = a->freq;
    s->in[TIME_MLP_W1] = one.weight, s->in[TIME_MLP_B1] = one.bias;
    s->in[TIME_MLP_W2] = two.weight, s->in[TIME_MLP_B2] = two.bias;
    s->out[TIME_MLP_Y] = y;
    s->a.embed.flip_sin_to_cos = a->flip_sin_to_cos;
    if (!p->training) return y;
    s->out[TIME_MLP_H0] = plan_act(p, "time_proj", n, 1, 1, a->dim);
    s->out[TIME_MLP_PRE1] = plan_act_f32(p, "linear_1.pre", n, 1, 1, a->width);
    s->out[TIME_MLP_H1] = plan_act(p, "linear_1", n, 1, 1, a->width);
    s->out[TIME_MLP_PRE2] = plan_act_f32(p, "linear_2.pre", n, 1, 1, a->width);
    return y;
}

tensor *nn_time_mlp(plan *p, const nn_time_mlp_args *a)
{
    if (!a->t || !a->freq || !plan_ok(p) || !check_frequencies(p, a->freq, a->dim)) return NULL;
    if (a->linear || a->t->dtype == DTYPE_I64 || a->dim > p->be->time_mlp - a->width) return layer_by_layer(p, a);
    plan_push(p, "%s", a->name);
    tensor *y = in_one(p, a);
    plan_pop(p);
    return y;
}

/* The pushed path is that of the step.  The input of linear_1 needs no gradient. */
void time_mlp_vjp(plan *p, step *f)
{
    plan_push(p, "linear_2");
    linear_backward(p, &(linear_layer){.x = f->out[TIME_MLP_H1],
                                       .weight = f->in[TIME_MLP_W2],
                                       .bias = f->in[TIME_MLP_B2],
                                       .y = f->out[TIME_MLP_Y],
                                       .pre = f->out[TIME_MLP_PRE2],
                                       .silu = true});
    plan_pop(p);
    plan_push(p, "linear_1");
    f->out[TIME_MLP_H0]->needs_grad = false;
    linear_backward(p, &(linear_layer){.x = f->out[TIME_MLP_H0],
                                       .weight = f->in[TIME_MLP_W1],
                                       .bias = f->in[TIME_MLP_B1],
                                       .y = f->out[TIME_MLP_H1],
                                       .pre = f->out[TIME_MLP_PRE1],
                                       .silu = true});
    plan_pop(p);
}

double time_mlp_flops(const step *s)
{
    return 2 * (double)s->out[TIME_MLP_Y]->n *
           (double)(tensor_count(s->in[TIME_MLP_W1]) + tensor_count(s->in[TIME_MLP_W2]));
}
