/* The tutorial's denoiser: output and gradients as PyTorch computed them. */
#include "base/file.h"
#include "base/mem.h"
#include "model/network.h"
#include "model/params.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { N = 3, SIDE = 8 };
static err why; /* each test is a process of its own */

static void write_input(plan *p, tensor *t, const safetensors *io, const char *name)
{
    int64_t n = 0;
    float *v = golden_f32(io, name, &n);
    cr_assert_eq(n, tensor_count(t));
    test_upload(p->be, t, v);
    mem_free(v);
}

static void expect_near(const safetensors *io, const char *name, const float *ours, double tolerance)
{
    int64_t n = 0;
    float *theirs = golden_f32(io, name, &n);
    const double error = rel_l2(ours, theirs, n);
    cr_log_info("%s off by %.2e", name, error);
    cr_expect(error <= tolerance, "%s off by %.2e", name, error);
    mem_free(theirs);
}

static void expect_tensor_near(backend *be, const safetensors *io, const char *name, const tensor *t, double tolerance)
{
    float *ours = test_copy(be, t);
    expect_near(io, name, ours, tolerance);
    mem_free(ours);
}

static void check_gradients(const params *store, const safetensors *io)
{
    float *gradients = test_params(store, ARENA_GRAD);
    for (int i = 0; i < store->n; i++) {
        const param *q = &store->list[i];
        char name[NAME_CAP + 8];
        float *moved;
        const float *gradient = gradients + q->offset;
        (void)snprintf(name, sizeof name, "grad.%s", q->name);
        OK(mem_array(&moved, (size_t)param_count(q), sizeof *moved, "test", &why));
        if (q->rank == 4) filter_to_torch(moved, gradient, (int64_t[]){q->n, q->c, q->h, q->w});
        expect_near(io, name, q->rank == 4 ? moved : gradient, test_network_bound(5e-6, 0.16));
        mem_free(moved);
    }
    mem_free(gradients);
}

Test(simple_golden, matches_pytorch)
{
    char path[PATH_CAP];
    backend *be = NULL;
    plan *p = NULL;
    params *store = NULL;
    const network net = {.kind = NETWORK_SIMPLE, .unet = {.in_channels = 1, .out_channels = 1}};
    safetensors *io = golden_open("simple/io.safetensors");
    be = test_backend(2);
    OK(plan_create(be, &p, &why));
    p->training = true;
    tensor *x = plan_input(p, DTYPE_F32, "x", N, SIDE, SIDE, 1);
    tensor *dout = plan_input(p, be->act, "dout", N, SIDE, SIDE, 1);
    plan_want_grad(p, x);
    const network_outputs out =
        network_build(&net, p, &(network_inputs){.x = x, .t = plan_input(p, DTYPE_F32, "t", N, 1, 1, 1)});
    cr_expect_null(out.freq);
    plan_keep(p, out.y);
    plan_differentiate(p, out.y, dout);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    OK(network_fill(&net, p, &out, &why));
    OK(params_create(be, &store, &why));
    OK(params_declare(store, p, &why));
    cr_expect_eq(store->values, 64 * 9 + 64 + 64 * 64 * 9 + 64 + 64 * 9 + 1);
    OK(params_allocate(store, true, false, &why));
    OK(params_load(store, ARENA_PARAM, golden_path(path, "simple/diffusion_pytorch_model.safetensors"), NULL, &why));
    OK(params_bind(store, p, ARENA_PARAM, &why));
    write_input(p, x, io, "x");
    write_input(p, dout, io, "dout");
    OK(params_refresh(store, ARENA_PARAM, &why));
    OK(plan_run(p, &why));
    expect_tensor_near(be, io, "out", out.y, test_network_bound(2e-6, 2e-2));
    expect_tensor_near(be, io, "dx", x->grad, test_network_bound(5e-6, 0.16));
    check_gradients(store, io);
    safetensors_close(io);
    plan_destroy(p);
    params_destroy(store);
    backend_destroy(be);
}
