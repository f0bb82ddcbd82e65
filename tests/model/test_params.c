/* The store of parameters: names, shapes, layout, initial values, and what does not fit. */
#include "base/mem.h"
#include "model/params.h"
#include "nn/nn.h"
#include "support/net_rig.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static err why; /* each test is a process of its own */

typedef struct rig {
    backend *be;
    plan *p;
    params *store;
} rig;

static rig create(void)
{
    rig r = {0};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &r.be, &why));
    OK(plan_create(r.be, &r.p, &why));
    OK(params_create(r.be, &r.store, &why));
    return r;
}

static void destroy(rig *r)
{
    plan_destroy(r->p);
    params_destroy(r->store);
    backend_destroy(r->be);
}

static tensor *image(plan *p, int64_t c) { return plan_input(p, DTYPE_F32, "x", 1, 4, 4, c); }

static tensor *conv(plan *p, const char *name, int64_t cin, int64_t cout)
{
    return nn_conv2d(p, &(nn_conv_args){.x = image(p, cin), .cout = cout, .name = name});
}

/* q, k and v side by side, a norm, a convolution and a linear layer */
static void build(plan *p, bool backwards)
{
    for (int i = 0; i < 4; i++) switch (backwards ? 3 - i : i) {
        case 0:
            plan_push(p, "attention");
            (void)nn_conv2d(p, &(nn_conv_args){.x = image(p, 5),
                                               .kernel = 1,
                                               .matrix = true,
                                               .name = "to_q",
                                               .rows = (const layer_rows[]){{"to_q", 5}, {"to_k", 5}, {"to_v", 7}},
                                               .n_rows = 3});
            plan_pop(p);
            break;
        case 1:
            (void)nn_norm_act(p, &(nn_norm_args){.x = image(p, 6), .groups = 2, .eps = 1e-5, .name = "norm"});
            break;
        case 2: (void)conv(p, "conv", 3, 9); break;
        case 3:
            (void)nn_linear(p, &(nn_linear_args){.x = plan_input(p, DTYPE_F32, "t", 1, 1, 1, 4),
                                                 .cout = 11,
                                                 .init = INIT_FAN_AVG_TINY,
                                                 .name = "linear"});
        }
}

Test(params, lists_every_layer_by_name_and_shape)
{
    static const struct {
        const char *name;
        int rank;
        int64_t n, h, w, c;
        int fan_in, fan_out;
        param_init init;
    } want[] = {{"attention.to_q.weight", 2, 5, 1, 1, 5, 5, 5, INIT_FAN_AVG},
                {"attention.to_k.weight", 2, 5, 1, 1, 5, 5, 5, INIT_FAN_AVG},
                {"attention.to_v.weight", 2, 7, 1, 1, 5, 5, 7, INIT_FAN_AVG},
                {"attention.to_q.bias", 1, 5, 1, 1, 1, 5, 0, INIT_ZEROS},
                {"attention.to_k.bias", 1, 5, 1, 1, 1, 5, 0, INIT_ZEROS},
                {"attention.to_v.bias", 1, 7, 1, 1, 1, 5, 0, INIT_ZEROS},
                {"norm.weight", 1, 6, 1, 1, 1, 0, 0, INIT_ONES},
                {"norm.bias", 1, 6, 1, 1, 1, 0, 0, INIT_ZEROS},
                {"conv.weight", 4, 9, 3, 3, 3, 27, 81, INIT_FAN_AVG},
                {"conv.bias", 1, 9, 1, 1, 1, 27, 0, INIT_ZEROS},
                {"linear.weight", 2, 11, 1, 1, 4, 4, 11, INIT_FAN_AVG_TINY},
                {"linear.bias", 1, 11, 1, 1, 1, 0, 0, INIT_ZEROS}};
    enum { COUNT = sizeof want / sizeof *want };
    rig r = create();
    int64_t values = 0;
    build(r.p, false);
    OK(params_declare(r.store, r.p, &why));
    cr_expect_eq(r.store->n, COUNT);
    for (int i = 0; i < COUNT; i++) {
        const param *q = params_find(r.store, want[i].name);
        cr_assert_not_null(q, "%s", want[i].name);
        cr_expect(q->rank == want[i].rank && q->n == want[i].n && q->h == want[i].h && q->w == want[i].w &&
                      q->c == want[i].c && q->init == want[i].init,
                  "%s: rank %d, [%ld, %ld, %ld, %ld]", q->name, q->rank, q->n, q->h, q->w, q->c);
        cr_expect(want[i].init > INIT_FAN_AVG_TINY || (q->fan_in == want[i].fan_in && q->fan_out == want[i].fan_out),
                  "%s: fans %d, %d", q->name, q->fan_in, q->fan_out);
        values += param_count(q);
    }
    cr_expect_eq(r.store->values, values);
    cr_expect(r.store->count % 16 == 0 && (int64_t)r.store->count >= values);
    cr_expect_null(params_find(r.store, "norm"));
    destroy(&r);
}

Test(params, lie_apart_and_parts_of_a_tensor_side_by_side)
{
    rig r = create();
    build(r.p, false);
    OK(params_declare(r.store, r.p, &why));
    for (int i = 0; i < r.store->n; i++)
        for (int k = 0; k < i; k++) {
            const param *a = &r.store->list[i], *b = &r.store->list[k];
            cr_expect(a->offset >= b->offset + (size_t)param_count(b) ||
                          b->offset >= a->offset + (size_t)param_count(a),
                      "%s and %s overlap", a->name, b->name);
        }
    const param *q = params_find(r.store, "attention.to_q.weight"), *k = params_find(r.store, "attention.to_k.weight");
    cr_expect_eq(k->offset, q->offset + 25);
    cr_expect_eq(q->offset % 16, 0);
    destroy(&r);
}

/* The cpu computes with the weights themselves. */
Test(params, have_copies_only_where_the_backend_wants_them)
{
    rig r = create();
    (void)nn_upconv(r.p, image(r.p, 3), 5, INIT_FAN_AVG, "upconv");
    OK(params_declare(r.store, r.p, &why));
    OK(params_allocate(r.store, false, true, &why));
    for (int i = 0; i < 2; i++) {
        const arena_kind weights = i ? ARENA_EMA : ARENA_PARAM;
        OK(params_bind(r.store, r.p, weights, &why));
        OK(params_refresh(r.store, weights, &why));
        cr_expect_eq(params_copy_bytes_left(r.store, weights), 0);
    }
    cr_expect_eq(params_copy_bytes(r.store), 0);
    for (int a = ARENA_PARAM_LOW; a < ARENA_COUNT; a++) cr_expect_null(r.store->arena[a]);
    destroy(&r);
}

/* ---- initial values ---- */

static const float *values_of(const rig *r, const char *name)
{
    const param *q = params_find(r->store, name);
    cr_assert_not_null(q, "%s", name);
    return (const float *)r->store->arena[ARENA_PARAM] + q->offset;
}

static rig initialized(bool backwards, uint64_t seed)
{
    rig r = create();
    build(r.p, backwards);
    OK(params_declare(r.store, r.p, &why));
    OK(params_allocate(r.store, true, true, &why));
    OK(params_init(r.store, seed, &why));
    return r;
}

Test(params, start_the_same_in_whatever_order_they_are_declared)
{
    rig a = initialized(false, 12), b = initialized(true, 12), c = initialized(false, 13);
    cr_assert_eq(a.store->n, b.store->n);
    for (int i = 0; i < a.store->n; i++) {
        const param *q = &a.store->list[i];
        const size_t bytes = (size_t)param_count(q) * sizeof(float);
        cr_expect_arr_eq(values_of(&a, q->name), values_of(&b, q->name), bytes, "%s", q->name);
        const bool drawn = q->init == INIT_FAN_AVG || q->init == INIT_FAN_AVG_TINY;
        cr_expect_eq(memcmp(values_of(&a, q->name), values_of(&c, q->name), bytes) != 0, drawn, "%s", q->name);
    }
    cr_expect_neq(memcmp(values_of(&a, "attention.to_q.weight"), values_of(&a, "attention.to_k.weight"), 100), 0,
                  "two parameters of one shape start the same");
    cr_expect_arr_eq(a.store->arena[ARENA_PARAM], a.store->arena[ARENA_EMA], a.store->count * sizeof(float));
    destroy(&a);
    destroy(&b);
    destroy(&c);
}

/* Uniform on [-limit, limit]: mean 0, variance limit^2 / 3, all values within, and some near the ends. */
static void check_uniform(const params *s, const char *name, double limit)
{
    const param *q = params_find(s, name);
    cr_assert_not_null(q, "%s", name);
    const float *v = (const float *)s->arena[ARENA_PARAM] + q->offset;
    const int64_t n = param_count(q);
    double sum = 0, squares = 0, top = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)v[i], squares += (double)v[i] * (double)v[i];
        top = fmax(top, fabs((double)v[i]));
    }
    const double variance = limit * limit / 3;
    cr_expect(top <= limit * 1.0000001 && top > limit * (1 - 20.0 / (double)n), "%s: up to %g of %g", name, top, limit);
    cr_expect(fabs(sum / (double)n) < 4 * sqrt(variance / (double)n), "%s: mean %g", name, sum / (double)n);
    /* the fourth moment of a uniform law makes the variance of a square 4/5 of its mean, squared */
    cr_expect(fabs(squares / (double)n - variance) < 4 * variance * sqrt(0.8 / (double)n), "%s: variance %g, not %g",
              name, squares / (double)n, variance);
}

static void expect_all(const params *s, const char *name, float want)
{
    const param *q = params_find(s, name);
    cr_assert_not_null(q, "%s", name);
    const float *v = (const float *)s->arena[ARENA_PARAM] + q->offset;
    for (int64_t i = 0; i < param_count(q); i++) cr_assert_eq(v[i], want, "%s at %ld: %g", name, i, (double)v[i]);
}

/* The initialization of Ho et al. 2020's code (nn.py, default_init): variance scaling by the mean of
 * the fans, uniform, scale 1; 1e-10 for the last layer of a block. */
Test(params, of_a_unet_start_as_in_the_papers_code)
{
    net_rig r = {0};
    net_sample(&r, &(net_options){.net = {NETWORK_UNET, net_small_unet()}, .n = 1, .h = 16, .w = 16}, 1);
    net_allocate(&r, ARENA_PARAM, NULL);
    OK(params_init(r.store, 7, &why));
    const params *s = r.store;
    check_uniform(s, "conv_in.weight", sqrt(3 / ((3 + 8) * 9 / 2.0)));
    check_uniform(s, "down_blocks.1.resnets.0.conv1.weight", sqrt(3 / ((8 + 8) * 9 / 2.0)));
    check_uniform(s, "down_blocks.2.resnets.0.conv_shortcut.weight", sqrt(3 / ((8 + 16) / 2.0)));
    check_uniform(s, "down_blocks.2.downsamplers.0.conv.weight", sqrt(3 / (16 * 9.0)));
    check_uniform(s, "up_blocks.0.upsamplers.0.conv.weight", sqrt(3 / (16 * 9.0)));
    check_uniform(s, "time_embedding.linear_1.weight", sqrt(3 / ((8 + 32) / 2.0)));
    check_uniform(s, "mid_block.resnets.1.time_emb_proj.weight", sqrt(3 / ((32 + 16) / 2.0)));
    check_uniform(s, "mid_block.attentions.0.to_k.weight", sqrt(3 / 16.0));
    check_uniform(s, "mid_block.attentions.0.to_out.0.weight", 1e-5 * sqrt(3 / 16.0));
    check_uniform(s, "down_blocks.2.resnets.0.conv2.weight", 1e-5 * sqrt(3 / (16 * 9.0)));
    check_uniform(s, "conv_out.weight", 1e-5 * sqrt(3 / ((8 + 3) * 9 / 2.0)));
    for (int i = 0; i < s->n; i++) {
        const char *name = s->list[i].name;
        if (strstr(name, ".bias")) expect_all(s, name, 0);
        if (s->list[i].rank == 1 && strstr(name, ".weight")) expect_all(s, name, 1);
    }
    net_destroy(&r);
}

/* torch.nn.Embedding's own, N(0, 1): the first moments of 16000 draws, each within five standard deviations of its
 * estimate.  A uniform distribution of variance 1 has a fourth moment of 1.8. */
Test(params, of_a_class_embedding_start_normal)
{
    net_rig r = {0};
    unet_config c = net_small_unet();
    c.num_class_embeds = 500;
    net_sample(&r, &(net_options){.net = {NETWORK_UNET, c}, .n = 1, .h = 16, .w = 16}, 1);
    net_allocate(&r, ARENA_PARAM, NULL);
    OK(params_init(r.store, 7, &why));
    const param *q = params_find(r.store, "class_embedding.weight");
    cr_assert(q && q->n == 500 && q->c == 32 && q->rank == 2);
    const float *v = (const float *)r.store->arena[ARENA_PARAM] + q->offset;
    const double n = (double)param_count(q);
    double moment[5] = {0};
    for (int64_t i = 0; i < param_count(q); i++)
        for (int k = 1; k <= 4; k++) moment[k] += pow((double)v[i], k) / n;
    cr_expect_float_eq(moment[1], 0, 5 / sqrt(n), "%g", moment[1]);
    cr_expect_float_eq(moment[2], 1, 5 * sqrt(2 / n), "%g", moment[2]);
    cr_expect_float_eq(moment[3], 0, 5 * sqrt(15 / n), "%g", moment[3]);
    cr_expect_float_eq(moment[4], 3, 5 * sqrt(96 / n), "%g", moment[4]);
    net_destroy(&r);
}

/* torch.nn.Conv2d's own: U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), the bias too. */
Test(params, of_the_simple_network_start_as_in_pytorch)
{
    net_rig r = {0};
    net_options o = {.net = {.kind = NETWORK_SIMPLE}, .n = 1, .h = 8, .w = 8};
    o.net.unet.in_channels = o.net.unet.out_channels = 1;
    net_sample(&r, &o, 1);
    net_allocate(&r, ARENA_PARAM, NULL);
    OK(params_init(r.store, 7, &why));
    check_uniform(r.store, "conv1.weight", 1 / 3.0);
    check_uniform(r.store, "conv1.bias", 1 / 3.0);
    check_uniform(r.store, "conv2.weight", 1 / 24.0);
    check_uniform(r.store, "conv2.bias", 1 / 24.0);
    check_uniform(r.store, "conv3.weight", 1 / 24.0);
    net_destroy(&r);
}

/* ---- what does not fit ---- */

Test(params, a_shape_that_differs_is_refused_with_both)
{
    rig a = create(), b = create();
    (void)conv(a.p, "conv", 3, 9);
    (void)conv(b.p, "conv", 4, 9);
    OK(params_declare(a.store, a.p, &why));
    OK(params_allocate(a.store, false, false, &why));
    cr_expect_eq(params_bind(a.store, b.p, ARENA_PARAM, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "conv.weight: the plan has shape [9, 3, 3, 4], the model [9, 3, 3, 3]");
    destroy(&a);
    destroy(&b);
}

Test(params, an_unknown_name_is_refused)
{
    rig a = create(), b = create();
    (void)conv(a.p, "conv", 3, 9);
    (void)conv(b.p, "other", 3, 9);
    OK(params_declare(a.store, a.p, &why));
    OK(params_allocate(a.store, false, false, &why));
    cr_expect_eq(params_bind(a.store, b.p, ARENA_PARAM, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "other.weight: the model has no such parameter");
    cr_expect_eq(params_declare(a.store, b.p, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "parameters: already allocated");
    destroy(&a);
    destroy(&b);
}

Test(params, two_layers_of_one_name_are_refused)
{
    rig r = create();
    (void)conv(r.p, "conv", 3, 9);
    (void)conv(r.p, "conv", 3, 9);
    cr_expect_eq(params_declare(r.store, r.p, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "conv.weight: two layers have this name");
    destroy(&r);
}

Test(params, gradients_need_memory)
{
    rig r = create();
    r.p->training = true;
    tensor *y = conv(r.p, "conv", 3, 9);
    plan_differentiate(r.p, y, plan_input(r.p, DTYPE_F32, "dy", 1, 4, 4, 9));
    OK(params_declare(r.store, r.p, &why));
    OK(params_allocate(r.store, false, false, &why));
    cr_expect_eq(params_bind(r.store, r.p, ARENA_PARAM, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "conv.weight: the gradient arena is not allocated");
    destroy(&r);
}

Test(params, an_arena_the_model_lacks_is_refused)
{
    rig r = create();
    (void)conv(r.p, "conv", 3, 9);
    OK(params_declare(r.store, r.p, &why));
    OK(params_allocate(r.store, true, false, &why));
    (void)plan_arena(r.p, ARENA_EMA, "ema", (int64_t)r.store->count);
    cr_expect_eq(params_bind(r.store, r.p, ARENA_PARAM, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "ema: the arena is not allocated");
    destroy(&r);
}

/* ---- several plans, one store ---- */

/* Convolutions keep their filters packed: they must notice that the weights have changed. */
Test(params, a_change_of_the_weights_reaches_every_plan)
{
    rig r = create();
    plan *other = NULL;
    float x[4 * 4 * 3], *w;
    OK(plan_create(r.be, &other, &why));
    plan *const plans[] = {r.p, other};
    tensor *y[2];
    for (int i = 0; i < 2; i++) {
        y[i] = conv(plans[i], "conv", 3, 9);
        plan_keep(plans[i], y[i]);
        OK(plan_finish(plans[i], &why));
        OK(plan_allocate(plans[i], &why));
        if (i == 0) OK(params_declare(r.store, r.p, &why));
        if (i == 0) OK(params_allocate(r.store, false, true, &why));
        OK(params_bind(r.store, plans[i], i ? ARENA_EMA : ARENA_PARAM, &why));
        for (int k = 0; k < 48; k++) x[k] = (float)(k % 5) - 2;
        OK(plan_write(plans[i], plans[i]->steps[0]->in[0], x, &why));
    }
    OK(mem_array(&w, r.store->count, sizeof *w, "test", &why));
    for (int round = 1; round <= 3; round++) {
        for (size_t k = 0; k < r.store->count; k++) w[k] = (float)round;
        OK(params_set(r.store, ARENA_PARAM, w, &why));
        for (size_t k = 0; k < r.store->count; k++) w[k] = (float)(10 * round);
        OK(params_set(r.store, ARENA_EMA, w, &why));
        for (int i = 0; i < 2; i++) OK(plan_run(plans[i], &why));
        double sum = 0; /* the pixel at (1, 1) sees rows and columns 0 to 2 */
        for (int row = 0; row < 3; row++)
            for (int k = 0; k < 9; k++) sum += (double)x[row * 12 + k];
        for (int i = 0; i < 2; i++)
            cr_expect_float_eq(((float *)y[i]->data)[5 * 9], (sum + 1) * round * (i ? 10 : 1), 1e-4,
                               "round %d, plan %d", round, i);
    }
    mem_free(w);
    plan_destroy(other);
    destroy(&r);
}

Test(params, survive_a_file)
{
    char path[] = "/tmp/ddpm_params_XXXXXX";
    const int fd = mkstemp(path);
    cr_assert(fd >= 0);
    (void)close(fd);
    rig a = initialized(false, 12), b = initialized(true, 99);
    OK(params_save(a.store, ARENA_PARAM, path, &why));
    OK(params_load(b.store, ARENA_EMA, path, NULL, &why));
    for (int i = 0; i < a.store->n; i++) {
        const param *q = &a.store->list[i], *p = params_find(b.store, q->name);
        cr_expect_arr_eq(values_of(&a, q->name), (const float *)b.store->arena[ARENA_EMA] + p->offset,
                         (size_t)param_count(q) * sizeof(float), "%s", q->name);
    }
    (void)unlink(path);
    destroy(&a);
    destroy(&b);
    params_destroy(NULL);
}
