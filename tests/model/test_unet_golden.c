/* Every UNet2DModel fixture: the output and the gradient of every parameter and of the input, as
 * PyTorch and diffusers computed them. */
#include "base/file.h"
#include "base/mem.h"
#include "model/network.h"
#include "model/params.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

static const char *const names[] = {
    "unet_all_attention",    "unet_centred",        "unet_cifar",          "unet_classes",
    "unet_classes_grey",     "unet_classes_single", "unet_classes_three",  "unet_classes_timestep",
    "unet_classes_identity", "unet_defaults",       "unet_grey_one_layer", "unet_no_attention",
    "unet_no_mid_out_6",     "unet_non_square",     "unet_odd_widths",     "unet_scale_shift",
    "unet_scale_shift_norm", "unet_single_block",   "unet_three_layers"};

typedef struct rig {
    backend *be;
    network net;
    params *store;
    plan *p;
    tensor *x, *t, *dout, *labels, *vectors; /* the last two NULL unless the network takes them */
    network_outputs out;
} rig;

/* The inputs of the plan, with a gradient where PyTorch has one. */
static void build_network(rig *r, int64_t n, int h, int w)
{
    const network_inputs in = network_input_tensors(&r->net, r->p, n, h, w);
    r->x = in.x, r->t = in.t, r->labels = in.labels, r->vectors = in.vectors;
    plan_want_grad(r->p, r->x);
    plan_want_grad(r->p, r->vectors);
    r->out = network_build(&r->net, r->p, &in);
}

static void write_class_inputs(rig *r, const safetensors *io)
{
    err why = {0};
    if (r->labels) {
        int64_t *values = golden_i64(io, "labels", NULL);
        OK(plan_write(r->p, r->labels, values, &why));
        mem_free(values);
    }
    if (r->vectors) {
        float *values = golden_f32(io, "vectors", NULL);
        OK(plan_write(r->p, r->vectors, values, &why));
        mem_free(values);
    }
}

/* `apart`: as for a backend that wants x and the skip concatenated and every time projection by itself */
static void build(rig *r, const char *name, int threads, bool apart)
{
    err why = {0};
    char dir[PATH_CAP], path[2 * PATH_CAP];
    golden_path(dir, name);
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    OK(unet_config_read(path, &r->net.unet, NULL, &why));
    r->be = test_backend(threads);
    r->be->two_sources = r->be->projections = !apart;
    OK(plan_create(r->be, &r->p, &why));

    (void)snprintf(path, sizeof path, "%s/io.safetensors", name);
    safetensors *io = golden_open(path);
    const safetensors_tensor *x = golden_find(io, "x"), *y = golden_find(io, "out");
    r->p->training = true;
    r->dout = plan_input(r->p, r->be->act, "dout", y->shape[0], y->shape[1], y->shape[2], y->shape[3]);
    build_network(r, x->shape[0], (int)x->shape[1], (int)x->shape[2]);
    plan_keep(r->p, r->out.y);
    plan_differentiate(r->p, r->out.y, r->dout);
    OK(plan_finish(r->p, &why));
    OK(plan_allocate(r->p, &why));
    OK(network_fill(&r->net, r->p, &r->out, &why));

    OK(params_create(r->be, &r->store, &why));
    OK(params_declare(r->store, r->p, &why));
    OK(params_allocate(r->store, true, false, &why));
    (void)snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    OK(params_load(r->store, ARENA_PARAM, path, NULL, &why));
    OK(params_bind(r->store, r->p, ARENA_PARAM, &why));

    const char *const inputs[] = {"x", "t", "dout"};
    tensor *const to[] = {r->x, r->t, r->dout};
    for (int i = 0; i < 3; i++) {
        float *value = golden_f32(io, inputs[i], NULL);
        test_upload(r->be, to[i], value);
        mem_free(value);
    }
    write_class_inputs(r, io);
    safetensors_close(io);
}

static void destroy(rig *r)
{
    plan_destroy(r->p);
    params_destroy(r->store);
    backend_destroy(r->be);
}

static double compare(const rig *r, const safetensors *io, const char *name, const tensor *t)
{
    int64_t n = 0;
    float *theirs = golden_f32(io, name, &n), *ours = test_copy(r->be, t);
    const double error = rel_l2(ours, theirs, n);
    mem_free(ours);
    mem_free(theirs);
    return error;
}

/* A gradient of PyTorch's in our layout. */
static float *their_gradient(const safetensors *io, const param *q)
{
    char name[NAME_CAP + 8];
    int64_t n = 0;
    err why = {0};
    (void)snprintf(name, sizeof name, "grad.%s", q->name);
    float *theirs = golden_f32(io, name, &n), *moved;
    cr_assert_eq(n, param_count(q), "%s", name);
    if (q->rank != 4) return theirs;
    OK(mem_array(&moved, (size_t)n, sizeof *moved, "filter", &why));
    filter_from_torch(moved, theirs, (int64_t[]){q->n, q->c, q->h, q->w});
    mem_free(theirs);
    return moved;
}

static double norm_of(const float *a, const float *minus, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (minus ? (double)minus[i] : 0);
        sum += d * d;
    }
    return sqrt(sum);
}

/* Some biases have no effect at all: that of the keys (softmax ignores it), and that of a convolution
 * whose channels are normalized one by one.  PyTorch's gradient of them is rounding noise, known by
 * its size beside the gradient of the same layer's weight, and is held against that. */
static double scale_of(const params *store, const safetensors *io, const param *q, double norm)
{
    char weight[NAME_CAP];
    const char *leaf = strstr(q->name, ".bias");
    if (!leaf) return norm;
    (void)snprintf(weight, sizeof weight, "%.*s.weight", (int)(leaf - q->name), q->name);
    const param *w = params_find(store, weight);
    cr_assert_not_null(w, "%s", weight);
    float *theirs = their_gradient(io, w);
    const double weight_norm = norm_of(theirs, NULL, param_count(w));
    mem_free(theirs);
    return norm < 1e-4 * weight_norm ? weight_norm : norm;
}

static double worst_gradient(rig *r, const safetensors *io, const char **worst_name)
{
    double worst = 0;
    float *ours = test_params(r->store, ARENA_GRAD);
    for (int i = 0; i < r->store->n; i++) {
        const param *q = &r->store->list[i];
        float *theirs = their_gradient(io, q);
        const double scale = scale_of(r->store, io, q, norm_of(theirs, NULL, param_count(q)));
        const double error = norm_of(ours + q->offset, theirs, param_count(q)) / scale;
        if (!(error <= worst)) worst = error, *worst_name = q->name;
        mem_free(theirs);
    }
    mem_free(ours);
    return worst;
}

static struct criterion_test_params all_names(void)
{
    static int index[sizeof names / sizeof *names]; /* a test is a process: pointers to names would not survive */
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++) index[i] = i;
    return cr_make_param_array(int, index, sizeof names / sizeof *names);
}

static void expect_match(const char *name, bool apart)
{
    rig r = {0};
    err why = {0};
    char path[PATH_CAP];
    const char *worst_name = "";
    build(&r, name, 2, apart);
    OK(params_refresh(r.store, ARENA_PARAM, &why));
    OK(plan_run(r.p, &why));
    (void)snprintf(path, sizeof path, "%s/io.safetensors", name);
    safetensors *io = golden_open(path);
    const double out = compare(&r, io, "out", r.out.y), dx = compare(&r, io, "dx", r.x->grad);
    const double grads = worst_gradient(&r, io, &worst_name);
    cr_log_info("%s: out %.2e, dx %.2e, worst gradient %.2e (%s)", name, out, dx, grads, worst_name);
    cr_expect(out <= test_network_bound(1e-5, 3e-2), "%s: output differs by %.2e", name, out);
    cr_expect(dx <= test_network_bound(1e-4, 8e-2), "%s: input gradient differs by %.2e", name, dx);
    if (r.vectors) {
        const double dvectors = compare(&r, io, "dvectors", r.vectors->grad);
        cr_expect(dvectors <= test_network_bound(1e-4, 0.2), "%s: gradient of the vectors differs by %.2e", name,
                  dvectors);
    }
    cr_expect(grads <= test_network_bound(1e-4, 0.6), "%s: gradient of %s differs by %.2e", name, worst_name, grads);
    safetensors_close(io);
    destroy(&r);
}

ParameterizedTestParameters(unet_golden, matches_diffusers) { return all_names(); }
ParameterizedTest(int *index, unet_golden, matches_diffusers) { expect_match(names[*index], false); }

ParameterizedTestParameters(unet_golden, matches_with_concatenated_skips_and_projections_apart) { return all_names(); }
ParameterizedTest(int *index, unet_golden, matches_with_concatenated_skips_and_projections_apart)
{
    expect_match(names[*index], true);
}
