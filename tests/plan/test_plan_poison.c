/* DDPM_POISON: activations begin as NaN, so that a step that reads one before it is written shows in the result. */
#include "nn/nn.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static err why; /* each test is a process of its own */

/* The largest activation, several pieces long, as it is after plan_allocate(). */
static bool begins_as_nan(void)
{
    backend *be;
    plan *p;
    enum { SIDE = 1024 };
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    OK(plan_create(be, &p, &why));
    p->checked = false;
    tensor *x = plan_input(p, DTYPE_F32, "x", 1, SIDE, SIDE, 1), *y = nn_affine(p, x, 1, 0);
    tensor *z = nn_affine(p, y, 1, 0);
    plan_keep(p, y), plan_keep(p, z);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    float *all = calloc(2, SIDE * SIDE * sizeof *all);
    cr_assert_not_null(all);
    OK(plan_read(p, y, all, &why));
    OK(plan_read(p, z, all + SIDE * SIDE, &why));
    int nan = 0;
    for (int i = 0; i < 2 * SIDE * SIDE; i++) nan += isnan(all[i]) != 0;
    cr_expect(nan == 0 || nan == 2 * SIDE * SIDE, "%d values of %d", nan, 2 * SIDE * SIDE);
    free(all);
    plan_destroy(p);
    backend_destroy(be);
    return nan > 0;
}

Test(plan_poison, fills_the_activations_with_nan)
{
    (void)setenv("DDPM_POISON", "1", 1);
    cr_expect(begins_as_nan());
#ifndef __SANITIZE_ADDRESS__ /* where it is the default */
    (void)unsetenv("DDPM_POISON");
    cr_expect_not(begins_as_nan());
#endif
}
