/* The search for the first step whose results are not finite: every step of a training plan in turn. */
#include "plan/plan_finite.h"
#include "base/mem.h"
#include "ir/operands.h"
#include "support/device.h"
#include "support/faulty_backend.h"
#include "support/net_rig.h"
#include "support/ok.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, SIDE = 16 };

static err why;

static net_rig build(int micro_batches)
{
    net_rig r = {0};
    const net_options o = {.net = {.kind = NETWORK_UNET, .unet = net_small_unet()},
                           .n = BATCH,
                           .h = SIDE,
                           .w = SIDE,
                           .flip = true,
                           .timesteps = 10,
                           .micro_batches = micro_batches,
                           .updates = &net_updates};
    net_train(&r, &o);
    net_start(&r);
    return r;
}

Test(plan_finite, every_step_is_found)
{
    net_rig r = build(1);
    plan_finding found;
    int looked_at = 0;
    const backend_table *fn = r.be->fn;
    for (int i = 0; i < r.p->n_step; i++) {
        const step *s = r.p->steps[i];
        for (int k = 0; k < STEP_OUT; k++) {
            const tensor *t = s->out[k];
            if (!t || s->recomputed || (op_flag[s->op] & OP_UPDATE) ||
                (t->dtype != DTYPE_F32 && t->dtype != DTYPE_BF16))
                continue;
            faulty_wrap(r.be, (const fault[]){{s->path, s->op, k, 0, UINT64_MAX}, {.path = NULL}});
            OK(plan_first_not_finite(r.p, &found, &why));
            r.be->fn = fn;
            cr_assert(found.s && found.s->op == s->op && !strcmp(found.s->path, s->path), "step %d, %s (%s)", i,
                      s->path, op_name[s->op]);
            cr_assert_eq(found.backward, i >= r.p->n_forward, "%s", s->path);
            cr_assert_null(found.weights, "%s", s->path);
            looked_at++;
        }
    }
    cr_assert_gt(looked_at, 100);
    OK(plan_first_not_finite(r.p, &found, &why));
    cr_assert_null(found.s);
    net_destroy(&r);
}

/* Memory that no step has written yet is no result either: it is NaN here. */
Test(plan_finite, the_state_and_the_weights_stay)
{
    cr_assert_eq(setenv("DDPM_POISON", "1", 1), 0);
    net_rig r = build(1);
    plan_finding found;
    train_state before, after;
    float *weights[2];
    OK(plan_read(r.p, r.state, &before, &why));
    weights[0] = test_params(r.store, ARENA_PARAM);
    OK(plan_first_not_finite(r.p, &found, &why));
    OK(plan_read(r.p, r.state, &after, &why));
    weights[1] = test_params(r.store, ARENA_PARAM);
    cr_expect_null(found.s);
    cr_expect_arr_eq(&before, &after, sizeof before);
    cr_expect_arr_eq(weights[0], weights[1], r.store->count * sizeof(float));
    for (int i = 0; i < 2; i++) mem_free(weights[i]);
    net_destroy(&r);
}

static void set_weight(net_rig *r, const char *name, float v)
{
    float *w = test_params(r->store, ARENA_PARAM);
    w[params_find(r->store, name)->offset] = v;
    OK(params_set(r->store, ARENA_PARAM, w, &why));
    mem_free(w);
}

Test(plan_finite, weights_that_are_not_finite_are_named)
{
    char text[300];
    plan_finding found;
    net_rig r = build(1);
    set_weight(&r, "down_blocks.1.resnets.0.conv1.weight", NAN);
    OK(plan_first_not_finite(r.p, &found, &why));
    cr_assert_not_null(found.s);
    plan_finding_text(&found, text, sizeof text);
    cr_expect_str_eq(text, "output of down_blocks.1.resnets.0.conv1 (forward), which reads non-finite "
                           "down_blocks.1.resnets.0.conv1.weight");
    net_destroy(&r);
}

/* Weights that are finite and too large. */
Test(plan_finite, an_overflow_is_found)
{
    char text[300];
    plan_finding found;
    net_rig r = build(2);
    set_weight(&r, "conv_out.bias", 3e38f);
    OK(plan_first_not_finite(r.p, &found, &why));
    cr_assert_not_null(found.s);
    plan_finding_text(&found, text, sizeof text);
    cr_expect_str_eq(text, "the loss (forward)");
    net_destroy(&r);
}
