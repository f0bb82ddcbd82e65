/* Steps that read weights alone (OP_OF_WEIGHTS): in a plan for sampling they come first and run only after a change of
 * the weights; in a plan for training they run every time. */
#include "ir/operands.h"
#include "nn/nn.h"
#include "support/ok.h"

#include <criterion/criterion.h>

enum { COUT = 3, CIN = 2, TAPS = 9, FOLDED = CIN * 16 * COUT };

static err why; /* each test runs in its own process */

typedef struct rig {
    backend *be;
    plan *p;
    tensor *x, *w, *k, *y;
    float raw[COUT * TAPS * CIN], ema[COUT * TAPS * CIN];
    uint64_t version;
} rig;

/* y = x, then k = fold(w), in that order. */
static void create(rig *r, bool training)
{
    *r = (rig){.version = 1};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &r->be, &why));
    r->be->folds = true;
    OK(plan_create(r->be, &r->p, &why));
    r->p->training = training;
    r->x = plan_input(r->p, DTYPE_F32, "x", 1, 2, 2, CIN);
    r->y = nn_upconv(r->p, nn_affine(r->p, r->x, 2, 0), COUT, INIT_FAN_AVG, "up");
    cr_assert_not_null(r->y);
    plan_keep(r->p, r->y);
    OK(plan_finish(r->p, &why));
    OK(plan_allocate(r->p, &why));
    for (int i = 0; i < r->p->n_step; i++)
        if (r->p->steps[i]->op == OP_upconv_fold)
            r->w = r->p->steps[i]->in[UPCONV_FOLD_W], r->k = r->p->steps[i]->out[UPCONV_FOLD_K];
    cr_assert(r->w && r->k && tensor_count(r->w) == COUT * TAPS * CIN && tensor_count(r->k) == FOLDED);
    r->w->data = r->raw, r->w->version = &r->version;
    for (int i = 0; i < COUT * TAPS * CIN; i++) r->raw[i] = 1, r->ema[i] = 2;
    for (int i = 0; i < r->p->n_tensor; i++)
        if (r->p->tensors[i]->arena == ARENA_PARAM && r->p->tensors[i] != r->w) {
            static float bias[COUT];
            r->p->tensors[i]->data = bias;
        }
}

static void destroy(rig *r)
{
    plan_destroy(r->p);
    backend_destroy(r->be);
}

/* Runs the plan; the factor of W in the folded filter, whose corners are single taps. */
static float run(rig *r)
{
    float k[FOLDED];
    OK(plan_run(r->p, &why));
    OK(plan_read(r->p, r->k, k, &why));
    cr_assert_eq(k[FOLDED - 1], k[0]);
    return k[0];
}

Test(plan_of_weights, come_first_and_run_once_for_each_version_of_the_weights)
{
    rig r;
    create(&r, false);
    cr_expect_eq(r.p->n_of_weights, 1);
    cr_expect_eq(r.p->steps[0]->op, OP_upconv_fold);
    cr_expect_eq(r.p->steps[1]->op, OP_affine);
    cr_expect(r.k->keep, "another activation may overwrite the filter");
    cr_expect_eq(run(&r), 1);
    for (int i = 0; i < COUT * TAPS * CIN; i++) r.raw[i] = 5;
    cr_expect_eq(run(&r), 1, "the weights' version has not changed");
    r.version++;
    cr_expect_eq(run(&r), 5);
    r.w->data = r.ema;
    cr_expect_eq(run(&r), 2, "the EMA has the same version");
    r.w->data = r.raw;
    cr_expect_eq(run(&r), 5);
    destroy(&r);
}

Test(plan_of_weights, run_every_time_without_a_version)
{
    rig r;
    create(&r, false);
    r.w->version = NULL;
    for (int round = 1; round < 4; round++) {
        for (int i = 0; i < COUT * TAPS * CIN; i++) r.raw[i] = (float)round;
        cr_expect_eq(run(&r), (float)round);
    }
    destroy(&r);
}

Test(plan_of_weights, run_every_time_in_a_training)
{
    rig r;
    create(&r, true);
    cr_expect_eq(r.p->n_of_weights, 0);
    cr_expect_eq(r.p->steps[0]->op, OP_affine, "the order is that of the network");
    for (int round = 1; round < 4; round++) {
        for (int i = 0; i < COUT * TAPS * CIN; i++) r.raw[i] = (float)round;
        cr_expect_eq(run(&r), (float)round);
    }
    destroy(&r);
}
