/* Group norms of channels with a mean far from 0, where plain sums of squares would lose the variance. */
#include "backend/backend.h"
#include "base/mem.h"
#include "model/params.h"
#include "noise.h"
#include "nn/nn.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>

enum { SIDE = 12, CHANNELS = 32, GROUPS = 8, PER_GROUP = CHANNELS / GROUPS, PIXELS = SIDE * SIDE };
enum { VALUES = PIXELS * CHANNELS };

static float x[VALUES], y[VALUES];

/* gamma 1, beta 0, no activation */
static void normalize(void)
{
    err why = {0};
    backend *be = NULL;
    plan *p = NULL;
    params *store = NULL;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    OK(plan_create(be, &p, &why));
    OK(params_create(be, &store, &why));
    tensor *from = plan_input(p, DTYPE_F32, "x", 1, SIDE, SIDE, CHANNELS);
    tensor *to = nn_norm_act(p, &(nn_norm_args){.x = from, .groups = GROUPS, .eps = 1e-6, .name = "norm"});
    plan_keep(p, to);
    OK(params_declare(store, p, &why));
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    OK(params_allocate(store, false, false, &why));
    OK(params_init(store, 1, &why));
    OK(params_bind(store, p, ARENA_PARAM, &why));
    OK(plan_write(p, from, x, &why));
    OK(plan_run(p, &why));
    OK(plan_read(p, to, y, &why));
    plan_destroy(p);
    params_destroy(store);
    backend_destroy(be);
}

/* The largest error of a group, with mean and variance computed in two passes in double. */
static double error_of(int group)
{
    double mean = 0, variance = 0, worst = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < PIXELS; i++)
            for (int c = group * PER_GROUP; c < (group + 1) * PER_GROUP; c++) {
                const double v = (double)x[i * CHANNELS + c];
                if (pass == 0) mean += v / (PIXELS * PER_GROUP);
                if (pass == 1) variance += (v - mean) * (v - mean) / (PIXELS * PER_GROUP);
                if (pass == 2)
                    worst = fmax(worst, fabs((double)y[i * CHANNELS + c] - (v - mean) / sqrt(variance + 1e-6)));
            }
    return worst;
}

/* Each group has another offset; in the last group each channel has. */
Test(cpu_norm, is_exact_far_from_zero)
{
    for (int i = 0; i < VALUES; i++) {
        const int c = i % CHANNELS, group = c / PER_GROUP;
        const float off = group == GROUPS - 1 ? 300.0f * (float)(c % PER_GROUP) : 250.0f * (float)group;
        x[i] = off + noise_uniform(noise_bits(7, 0, 0, 0, (uint32_t)i).v[0]);
    }
    normalize();
    for (int g = 0; g < GROUPS; g++) {
        cr_log_info("group %d: off by %.2g", g, error_of(g));
        cr_expect(error_of(g) < 4e-4, "group %d: off by %.2g", g, error_of(g));
    }
}
