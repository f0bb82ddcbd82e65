/* The time embedding as one step, and as the steps it stands for: the same parameters, the same gradients. */
#include "model/params.h"
#include "nn/nn.h"
#include "ir/operands.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <string.h>

enum { N = 3, DIM = 9, WIDTH = 14 };

static err why; /* each test is a process of its own */

typedef struct embedding {
    backend *be;
    plan *p;
    params *store;
    tensor *t, *freq, *y, *dy;
} embedding;

/* With `most` for backend.time_mlp. */
static embedding build(int64_t most, bool training)
{
    embedding x = {0};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &x.be, &why));
    x.be->time_mlp = most;
    OK(plan_create(x.be, &x.p, &why));
    x.p->training = training;
    x.t = plan_input(x.p, DTYPE_F32, "t", N, 1, 1, 1);
    x.freq = plan_input(x.p, DTYPE_F32, "freq", DIM / 2, 1, 1, 1);
    plan_want_grad(x.p, x.t);
    x.y = nn_time_mlp(
        x.p,
        &(nn_time_mlp_args){
            .t = x.t, .freq = x.freq, .dim = DIM, .width = WIDTH, .flip_sin_to_cos = true, .name = "time_embedding"});
    plan_keep(x.p, x.y);
    if (training) {
        x.dy = plan_input(x.p, DTYPE_F32, "dy", N, 1, 1, WIDTH);
        plan_differentiate(x.p, x.y, x.dy);
    }
    cr_assert(plan_ok(x.p), "%s", x.p->first.text);
    return x;
}

static void destroy(embedding *x)
{
    plan_destroy(x->p);
    params_destroy(x->store);
    backend_destroy(x->be);
}

static void expect_steps(const plan *p, const op_kind *op, const char *const *path, int n)
{
    cr_assert_eq(p->n_step, n, "%d steps", p->n_step);
    for (int i = 0; i < n; i++) {
        cr_expect_eq(p->steps[i]->op, op[i], "step %d is %s", i, op_name[p->steps[i]->op]);
        cr_expect_str_eq(p->steps[i]->path, path[i]);
    }
}

Test(plan_time_mlp, is_one_step_up_to_the_width_the_backend_names)
{
    const op_kind one[] = {OP_time_mlp, OP_linear_bwd, OP_linear_bwd},
                  many[] = {OP_time_embed, OP_linear, OP_linear, OP_linear_bwd, OP_linear_bwd};
    const char *const first = "time_embedding.linear_1", *const second = "time_embedding.linear_2";
    embedding a = build(DIM + WIDTH, true), b = build(DIM + WIDTH - 1, true), c = build(0, true);
    expect_steps(a.p, one, (const char *const[]){"time_embedding", second, first}, 3);
    expect_steps(b.p, many, (const char *const[]){"time_proj", first, second, second, first}, 5);
    expect_steps(c.p, many, (const char *const[]){"time_proj", first, second, second, first}, 5);
    cr_expect_eq(plan_flops(a.p, 0, 1), plan_flops(b.p, 1, 3), "but for the embedding");
    cr_expect_eq(plan_flops(a.p, 0, 1), 2.0 * N * WIDTH * (DIM + WIDTH));
    destroy(&a), destroy(&b), destroy(&c);
}

Test(plan_time_mlp, keeps_nothing_without_a_backward_pass)
{
    embedding x = build(1000, false);
    cr_assert_eq(x.p->n_step, 1);
    for (int k = 0; k < STEP_OUT; k++) cr_expect_eq(x.p->steps[0]->out[k], k == TIME_MLP_Y ? x.y : NULL);
    destroy(&x);
}

/* Neither t nor the frequencies have a gradient, so the first layer makes none. */
Test(plan_time_mlp, gradients_end_at_the_embedding)
{
    embedding x = build(1000, true);
    const step *last = x.p->steps[2];
    cr_expect_null(last->out[LINEAR_BWD_DX]);
    cr_expect_null(x.t->grad);
    cr_expect_eq(last->in[LINEAR_BWD_X], x.p->steps[0]->out[TIME_MLP_H0]);
    cr_expect_eq(x.p->steps[1]->out[LINEAR_BWD_DX], last->in[LINEAR_BWD_DY]);
    destroy(&x);
}

/* ---- the same numbers ---- */

static void run(embedding *x)
{
    float freq[DIM / 2], t[N] = {0, 17.5f, 999}, dy[N * WIDTH];
    for (int i = 0; i < DIM / 2; i++) freq[i] = 1.0f / (float)(1 + 3 * i);
    for (int i = 0; i < N * WIDTH; i++) dy[i] = (float)(i * 7 % 11) - 4.5f;
    OK(plan_finish(x->p, &why));
    OK(plan_allocate(x->p, &why));
    OK(params_create(x->be, &x->store, &why));
    OK(params_declare(x->store, x->p, &why));
    OK(params_allocate(x->store, x->dy != NULL, false, &why));
    OK(params_init(x->store, 3, &why));
    OK(params_bind(x->store, x->p, ARENA_PARAM, &why));
    OK(plan_write(x->p, x->t, t, &why));
    OK(plan_write(x->p, x->freq, freq, &why));
    if (x->dy) {
        OK(plan_write(x->p, x->dy, dy, &why));
    }
    OK(params_refresh(x->store, ARENA_PARAM, &why));
    OK(plan_run(x->p, &why));
}

static void expect_same(embedding *a, const tensor *s, embedding *b, const tensor *t)
{
    float x[WIDTH * WIDTH], y[WIDTH * WIDTH];
    const size_t bytes = (size_t)tensor_count(s) * sizeof *x;
    cr_assert(bytes <= sizeof x && tensor_count(t) == tensor_count(s));
    OK(plan_read(a->p, s, x, &why));
    OK(plan_read(b->p, t, y, &why));
    cr_expect_arr_eq(x, y, bytes, "%s", s->name);
}

static tensor *gradient(const embedding *x, const char *name)
{
    for (int i = 0; i < x->p->n_tensor; i++) {
        tensor *t = x->p->tensors[i];
        if (t->arena == ARENA_PARAM && !strcmp(t->part[0].name, name)) return t->grad;
    }
    cr_assert_fail("no parameter %s", name);
    return NULL;
}

Test(plan_time_mlp, one_step_and_many_agree_to_the_bit)
{
    static const char *const names[] = {"time_embedding.linear_1.weight", "time_embedding.linear_1.bias",
                                        "time_embedding.linear_2.weight", "time_embedding.linear_2.bias"};
    embedding one = build(1000, true), many = build(0, true), ahead = build(1000, false);
    run(&one), run(&many), run(&ahead);
    expect_same(&one, one.y, &many, many.y);
    expect_same(&one, one.y, &ahead, ahead.y);
    cr_expect_eq(one.store->values, many.store->values);
    for (int k = 0; k < 4; k++) {
        cr_expect_str_eq(one.store->list[k].name, many.store->list[k].name);
        expect_same(&one, gradient(&one, names[k]), &many, gradient(&many, names[k]));
    }
    destroy(&one), destroy(&many), destroy(&ahead);
}
