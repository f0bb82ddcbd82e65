/* Activations that the backward pass makes again: none is kept, no bit changes, and memory is saved. */
#include "base/mem.h"
#include "ir/operands.h"
#include "support/device.h"
#include "support/net_rig.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

enum { TIMESTEPS = 10, BATCH = 2, SIDE = 16 };

typedef struct kind {
    char name[24]; /* an array: another process reads it */
    double dropout;
    int widths; /* of every level, times 1, 1, 2, 2 */
    bool scale_shift, simple;
    int micro_batches;
} kind;

static const kind kinds[] = {{"plain", 0, 8, false, false, 1},
                             {"dropout", 0.3, 8, false, false, 1},
                             {"blocks of channels", 0.3, 16, false, false, 1},
                             {"scale and shift", 0.3, 8, true, false, 1},
                             {"micro-batches", 0.3, 8, false, false, 2},
                             {"three convolutions", 0, 8, false, true, 1}};

static net_rig build(const kind *k, int64_t batch, bool recompute)
{
    net_rig r = {0};
    net_options o = {.net = {.kind = k->simple ? NETWORK_SIMPLE : NETWORK_UNET, .unet = net_small_unet()},
                     .n = batch,
                     .h = SIDE,
                     .w = SIDE,
                     .flip = true,
                     .timesteps = TIMESTEPS,
                     .micro_batches = k->micro_batches,
                     .updates = &net_updates};
    for (int i = 0; i < 4; i++) o.net.unet.block[i].out_channels = (i < 2 ? 1 : 2) * k->widths;
    o.net.unet.time_scale_shift = k->scale_shift ? UNET_SHIFT_SCALE : UNET_SHIFT_DEFAULT;
    o.net.unet.dropout = k->dropout;
    backend *be = test_backend(1);
    o.other_recompute = be->recompute != recompute;
    backend_destroy(be);
    net_train(&r, &o);
    cr_assert_eq(r.p->recompute, recompute);
    return r;
}

static struct criterion_test_params all_kinds(void)
{
    return cr_make_param_array(kind, (void *)(uintptr_t)kinds, sizeof kinds / sizeof *kinds);
}

/* ---- the same bits ---- */

static void expect_same(const net_rig *r, arena_kind arena, const char *name)
{
    float *a = test_params(r[0].store, arena), *b = test_params(r[1].store, arena);
    size_t different = 0;
    for (size_t i = 0; i < r->store->count; i++) different += memcmp(&a[i], &b[i], sizeof *a) != 0;
    cr_expect_eq(different, 0, "%s, arena %d: %zu of %zu values differ", name, arena, different, r->store->count);
    mem_free(a);
    mem_free(b);
}

ParameterizedTestParameters(plan_recompute, no_bit_changes) { return all_kinds(); }
ParameterizedTest(const kind *k, plan_recompute, no_bit_changes)
{
    err why = {0};
    net_rig r[2] = {build(k, BATCH, false), build(k, BATCH, true)};
    train_state state[2];
    for (int i = 0; i < 2; i++) {
        net_start(&r[i]);
        for (int m = 0; m < k->micro_batches; m++) net_run(&r[i]);
        cr_assert_eq(plan_run(r[i].update, &why), DDPM_OK, "%s", why.text);
        cr_assert_eq(plan_read(r[i].p, r[i].state, &state[i], &why), DDPM_OK, "%s", why.text);
    }
    cr_expect(state[0].updates == 1 && isfinite(state[0].loss) && state[0].grad_norm > 0);
    cr_expect_eq(memcmp(&state[0], &state[1], sizeof *state), 0, "%s: another state", k->name);
    expect_same(r, ARENA_PARAM, k->name);
    expect_same(r, ARENA_M, k->name);
    expect_same(r, ARENA_V, k->name);
    net_destroy(&r[0]);
    net_destroy(&r[1]);
}

/* ---- who is kept ---- */

static const step *forward_maker(const plan *p, const tensor *t)
{
    for (int i = 0; i < p->n_forward && t; i++)
        if (p->steps[i]->out[0] == t) return p->steps[i];
    return NULL;
}

ParameterizedTestParameters(plan_recompute, the_backward_pass_reads_no_norm_of_the_forward_pass) { return all_kinds(); }
ParameterizedTest(const kind *k, plan_recompute, the_backward_pass_reads_no_norm_of_the_forward_pass)
{
    net_rig r = build(k, BATCH, true);
    const plan *p = r.p;
    for (int i = p->n_forward; i < p->n_step; i++)
        for (int j = 0; j < STEP_IN; j++) {
            const step *f = forward_maker(p, p->steps[i]->in[j]);
            cr_expect(!f || f->op != OP_norm_act, "%s: %s (%s) reads %s of the forward pass", k->name,
                      p->steps[i]->path, op_name[p->steps[i]->op], p->steps[i]->in[j]->name);
        }
    net_destroy(&r);
}

ParameterizedTestParameters(plan_recompute, what_is_made_again_is_made_once_and_just_before_it_is_read)
{
    return all_kinds();
}
ParameterizedTest(const kind *k, plan_recompute, what_is_made_again_is_made_once_and_just_before_it_is_read)
{
    const int near = 1 + (strcmp(test_device(), "cpu") ? SIDE_WINDOW : 0); /* a norm and its reader */
    net_rig r = build(k, BATCH, true);
    const plan *p = r.p;
    int forward = 0, again = 0;
    for (int i = 0; i < p->n_step; i++) {
        const step *s = p->steps[i];
        forward += i < p->n_forward && s->op == OP_norm_act;
        again += s->recomputed;
        if (!s->recomputed) continue;
        cr_expect(i >= p->n_forward, "%s: in the forward pass", s->path);
        cr_expect(s->out[0]->first == i && s->out[0]->last > i && s->out[0]->last <= i + near,
                  "%s: %s lives from step %d to %d", k->name, s->path, s->out[0]->first, s->out[0]->last);
    }
    cr_expect_eq(again, forward, "%s: %d norms, %d made again", k->name, forward, again);
    cr_expect(k->simple || forward > 0);
    net_destroy(&r);
}

/* ---- what it is for ---- */

ParameterizedTestParameters(plan_recompute, saves_memory_and_counts_no_operation) { return all_kinds(); }
ParameterizedTest(const kind *k, plan_recompute, saves_memory_and_counts_no_operation)
{
    enum { LARGE = 96 }; /* beside which what a kernel works in is small */
    net_rig keeping = build(k, LARGE, false), again = build(k, LARGE, true);
    const double before = (double)keeping.p->bytes[ARENA_ACT], after = (double)again.p->bytes[ARENA_ACT];
    cr_log_info("%s: %.0f bytes of activations, %.0f where none is made again", k->name, after, before);
    cr_expect(k->simple ? after == before : after < 0.85 * before, "%s: %.0f bytes, %.0f without", k->name, after,
              before);
    cr_expect_eq(plan_flops(again.p, 0, again.p->n_step), plan_flops(keeping.p, 0, keeping.p->n_step));
    net_destroy(&keeping);
    net_destroy(&again);
}

static plan *recomputing_plan(backend *be)
{
    err why = {0};
    plan *p = NULL;
    cr_assert_eq(plan_create(be, &p, &why), DDPM_OK);
    p->training = p->recompute = true;
    return p;
}

Test(plan_recompute, what_is_kept_is_not_made_again)
{
    backend *be = test_backend(1);
    plan *p = recomputing_plan(be);
    tensor *x = plan_input(p, DTYPE_F32, "x", 1, 4, 4, 8), *dy = plan_input(p, DTYPE_F32, "dy", 1, 4, 4, 8);
    tensor *h = nn_norm_act(p, &(nn_norm_args){.x = nn_cast(p, x, be->act), .groups = 2, .eps = 1e-6, .name = "kept"});
    plan_keep(p, h);
    tensor *y = nn_conv2d(p, &(nn_conv_args){.x = h, .cout = 8, .name = "conv"});
    plan_differentiate(p, y, nn_cast(p, dy, be->act));
    cr_assert(plan_ok(p), "%s", p->first.text);
    for (int i = 0; i < p->n_step; i++) cr_expect(!p->steps[i]->recomputed, "%s is made again", p->steps[i]->path);
    plan_destroy(p);
    backend_destroy(be);
}

/* Steps made again where a norm that a convolution reads is all there is, and `least` bytes are asked for. */
static int made_again(size_t least, size_t *bytes)
{
    backend *be = test_backend(1);
    plan *p = recomputing_plan(be);
    int again = 0;
    p->recompute_least = least;
    tensor *x = plan_input(p, DTYPE_F32, "x", 1, 4, 4, 8), *dy = plan_input(p, DTYPE_F32, "dy", 1, 4, 4, 8);
    tensor *h = nn_norm_act(p, &(nn_norm_args){.x = nn_cast(p, x, be->act), .groups = 2, .eps = 1e-6, .name = "norm"});
    plan_differentiate(p, nn_conv2d(p, &(nn_conv_args){.x = h, .cout = 8, .name = "conv"}), nn_cast(p, dy, be->act));
    cr_assert(plan_ok(p), "%s", p->first.text);
    *bytes = be->fn->tensor_bytes(be, h);
    for (int i = 0; i < p->n_step; i++) again += p->steps[i]->recomputed;
    plan_destroy(p);
    backend_destroy(be);
    return again;
}

Test(plan_recompute, little_is_kept)
{
    size_t bytes;
    cr_expect_eq(made_again(0, &bytes), 1);
    cr_expect_eq(made_again(bytes, &bytes), 1);
    cr_expect_eq(made_again(bytes + 1, &bytes), 0);
}

Test(plan_recompute, what_two_steps_read_is_made_once)
{
    backend *be = test_backend(1);
    plan *p = recomputing_plan(be);
    int again = 0;
    tensor *x = plan_input(p, DTYPE_F32, "x", 1, 4, 4, 8), *dy = plan_input(p, DTYPE_F32, "dy", 1, 4, 4, 8);
    tensor *h = nn_norm_act(p, &(nn_norm_args){.x = nn_cast(p, x, be->act), .groups = 2, .eps = 1e-6, .name = "norm"});
    tensor *first = nn_conv2d(p, &(nn_conv_args){.x = h, .cout = 8, .name = "first"});
    tensor *y = nn_conv2d(p, &(nn_conv_args){.x = h, .residual = first, .cout = 8, .name = "second"});
    plan_differentiate(p, y, nn_cast(p, dy, be->act));
    cr_assert(plan_ok(p), "%s", p->first.text);
    for (int i = 0; i < p->n_step; i++) again += p->steps[i]->recomputed;
    cr_expect_eq(again, 1, "%d", again);
    plan_destroy(p);
    backend_destroy(be);
}
