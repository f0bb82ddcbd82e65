/* cuDNN has engines for every convolution of every configuration on an H200, which need not exist here (h200.json is
 * cuDNN's description of one); which engines are excluded; each failure has a message of one clear line. */
#include "backend/cuda/lib/cudnn_opgraph.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/odd_problem.h"
#include "backend/cuda/op/cuda_problems.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/network.h"
#include "support/cudnn_leaks.h"
#include "support/ok.h"
#include "train/recipe.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

enum { CAP = 256 << 20, MANY = 512 };

static const primitive_search usual = {.deterministic = true, .workspace_cap = CAP};

static char *read_json(void)
{
    err why = {0};
    char *json;
    size_t size;
    /* version 0: there is no cuDNN, which fails below */
    if (cudnnGetVersion() && cudnnGetVersion() < CUDNN_FIRST_DEVICEPROP)
        cr_skip_test("cuDNN describes devices since 9.8");
    OK(file_read(DDPM_TESTS "/backend/cuda/h200.json", 1 << 16, &json, &size, &why));
    return json;
}

static cudnn_context *h200(void)
{
    err why = {0};
    cudnn_context *c;
    char *json = read_json();
    OK(cudnn_context_create(json, &c, &why));
    mem_free(json);
    return c;
}

static primitive *create(cudnn_context *c, const conv_problem *q, const primitive_search *how)
{
    err why = {0};
    primitive *p = NULL;
    OK(cudnn_convolution_create(c, q, how, &p, &why));
    return p;
}

/* A 3x3 convolution of the 32x32 level of a CIFAR-10 U-Net. */
static conv_problem usual_problem(conv_pass pass, dtype io)
{
    return (conv_problem){.shape = {.pass = pass,
                                    .n = 128,
                                    .h = 32,
                                    .w = 32,
                                    .cin = 128,
                                    .oh = 32,
                                    .ow = 32,
                                    .cout = 128,
                                    .kernel = 3,
                                    .stride = 1,
                                    .pad_begin = 1,
                                    .pad_end = 1},
                          .io = io};
}

/* The name of engine i, in a static buffer that is valid until the 4th call after this one. */
static const char *name_of(const primitive *p, int i)
{
    static char text[4][PRIMITIVE_NAME];
    static int turn;
    turn = (turn + 1) % 4;
    p->fn->name(p, i, text[turn]);
    return text[turn];
}

static bool has(const primitive *p, const char *name)
{
    for (int i = 0; i < p->fn->count(p); i++)
        if (!strcmp(name_of(p, i), name)) return true;
    return false;
}

/* ---- every convolution of every configuration --------------------------------------------------- */

typedef struct problems {
    conv_problem q[MANY];
    int n;
} problems;

static bool same_shape(const conv_shape *a, const conv_shape *b)
{
    return a->pass == b->pass && a->n == b->n && a->h == b->h && a->w == b->w && a->cin == b->cin && a->oh == b->oh &&
           a->ow == b->ow && a->cout == b->cout && a->kernel == b->kernel && a->stride == b->stride &&
           a->pad_begin == b->pad_begin && a->pad_end == b->pad_end;
}

static bool same(const conv_problem *a, const conv_problem *b)
{
    return same_shape(&a->shape, &b->shape) && a->io == b->io && a->tf32 == b->tf32 && a->bias == b->bias &&
           a->residual == b->residual && a->accumulate == b->accumulate;
}

static void add(problems *all, const conv_problem *q)
{
    for (int i = 0; i < all->n; i++)
        if (same(&all->q[i], q)) return;
    cr_assert_lt(all->n, MANY);
    all->q[all->n++] = *q;
}

static void collect(const plan *p, bool tf32, problems *all)
{
    cr_assert(plan_ok(p), "%s", p->first.text);
    for (int i = 0; i < p->n_step; i++) {
        conv_problem q[4];
        const int n = cuda_conv_problems(p->steps[i], tf32, 0, q, 4);
        cr_assert_leq(n, 4);
        for (int k = 0; k < n; k++) add(all, &q[k]);
    }
}

/* The network as a trainer (batch, gradients) and a sampler build it, but without plan_finish(): nothing is prepared or
 * allocated, so the cpu backend can take the place of a device whose activations are of type `act`. */
static void collect_plans(const ddpm_config *c, dtype act, bool tf32, problems *all)
{
    err why = {0};
    backend *be;
    model *m;
    const int channels = c->data.channels ? c->data.channels : 3; /* 0: as the images of a folder are stored */
    const image_shape shape = {c->data.resolution, c->data.resolution, channels, -1};
    cr_assert_gt(shape.h, 0, "a configuration that leaves the size of its images open");
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    be->act = act;
    const network net = recipe_network(c, shape);
    const scheduler_config scheduler = recipe_scheduler(c);
    OK(model_create(be, &net, &scheduler, &m, &why));
    const generator_spec sampling = recipe_generator(c, m, ARENA_EMA);
    for (int training = 0; training < 2; training++) {
        const int64_t n = training ? c->train.batch : sampling.batch;
        plan *p;
        OK(plan_create(be, &p, &why));
        p->training = training;
        p->add_grads = c->train.gradient_accumulation_steps > 1;
        tensor *x = plan_input(p, DTYPE_F32, "x", n, shape.h, shape.w, shape.c);
        tensor *t = plan_input(p, DTYPE_F32, "t", n, 1, 1, 1);
        tensor *state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
        const network_outputs out =
            network_build(&net, p, &(network_inputs){.x = x, .t = t, .state = training ? state : NULL});
        if (training) plan_differentiate(p, out.y, plan_input(p, act, "seed", n, shape.h, shape.w, out.y->c));
        collect(p, tf32, all);
        plan_destroy(p);
    }
    model_destroy(m);
    backend_destroy(be);
}

static void check_names(const primitive *p)
{
    for (int i = 0; i < p->fn->count(p); i++) {
        char name[PRIMITIVE_NAME];
        p->fn->name(p, i, name);
        cr_assert_eq(strspn(name, "eng0123456789:k=,-"), strlen(name), "%s", name);
        cr_assert_eq(strncmp(name, "eng", 3), 0, "%s", name);
        for (int k = 0; k < i; k++) cr_assert_str_neq(name_of(p, k), name, "%s: %s twice", p->key, name);
        cr_assert_leq(p->fn->workspace(p, i), CAP);
    }
}

/* Finds engines for all problems of a configuration file; returns the number of problems. */
static int plan_all(cudnn_context *cudnn, const char *file, dtype act, bool tf32)
{
    err why = {0};
    ddpm_config c;
    problems all = {.n = 0};
    config_defaults(&c);
    OK(config_read_file(&c, file, &why));
    OK(config_check(&c, &why));
    collect_plans(&c, act, tf32, &all);
    for (int i = 0; i < all.n; i++) {
        primitive *p = create(cudnn, &all.q[i], &usual);
        int ready = 0;
        for (int k = 0; k < p->fn->count(p); k++) ready += !cudnn_engine_compiled(p, k);
        printf("%-72s %3d plans, %3d of them ready, workspace of the first %.2f MB\n", p->key, p->fn->count(p), ready,
               (double)p->fn->workspace(p, 0) / (1 << 20));
        (void)fflush(stdout); /* so that lines of parallel tests do not mix */
        cr_assert_geq(ready, 1, "%s: %s has no plan that cuDNN brings", file, p->key);
        check_names(p);
        primitive_destroy(p);
    }
    return all.n;
}

static void plan_configs(dtype act, bool tf32)
{
    glob_t files;
    cudnn_context *cudnn = h200();
    cr_assert_eq(glob(DDPM_SOURCE "/configs/*.yaml", 0, NULL, &files), 0);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        printf("%s\n", strrchr(files.gl_pathv[i], '/') + 1);
        cr_assert_geq(plan_all(cudnn, files.gl_pathv[i], act, tf32), 3, "%s", files.gl_pathv[i]);
    }
    globfree(&files);
    cudnn_context_destroy(cudnn);
}

Test(cudnn_h200, plans_every_convolution_in_bf16) { plan_configs(DTYPE_BF16, false); }
Test(cudnn_h200, plans_every_convolution_in_tf32) { plan_configs(DTYPE_F32, true); }
Test(cudnn_h200, plans_every_convolution_in_fp32) { plan_configs(DTYPE_F32, false); }

typedef cudnnBackendDescriptor_t descriptor;

/* ---- the search -------------------------------------------------------------------------------- */

/* Does the engine of that name have the numerical note?  Queried from cuDNN by the engine's number. */
static bool engine_has(cudnn_context *c, const conv_problem *q, const char *name, cudnnBackendNumericalNote_t note)
{
    cudnn_opgraph g = {0};
    cudnnBackendNumericalNote_t held[32];
    int64_t n = 0;
    bool found = false;
    cudnn_convolution_graph(&g, q);
    const descriptor graph = cudnn_make(&g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    cudnn_set(&g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g.n_op, g.op);
    cudnn_finalize(&g, graph, "graph");
    const descriptor engine = cudnn_make(&g, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    const int64_t index = strtol(name + 3, NULL, 10);
    cudnn_set_operand(&g, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    cudnn_set(&g, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &index);
    cudnn_set_operand(&g, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, c->device);
    cudnn_finalize(&g, engine, "engine");
    cr_assert_eq(g.first.status, DDPM_OK, "%s: %s", name, g.first.text);
    cr_assert_eq(
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 32, &n, held),
        CUDNN_STATUS_SUCCESS);
    for (int i = 0; i < n; i++) found = found || held[i] == note;
    cudnn_opgraph_release(&g);
    return found;
}

static int plans_with(cudnn_context *c, const conv_problem *q, const primitive *p, cudnnBackendNumericalNote_t note)
{
    int n = 0;
    for (int i = 0; i < p->fn->count(p); i++) n += engine_has(c, q, name_of(p, i), note);
    return n;
}

Test(cudnn_h200, plans_that_may_differ_from_run_to_run_are_left_out)
{
    cudnn_context *c = h200();
    int some = 0;
    for (int pass = CONV_PASS_BACKWARD_DATA; pass <= CONV_PASS_BACKWARD_WEIGHTS; pass++) {
        const primitive_search any = {.deterministic = false, .workspace_cap = CAP};
        conv_problem q = usual_problem(pass, DTYPE_F32);
        q.tf32 = true;
        primitive *sure = create(c, &q, &usual), *all = create(c, &q, &any);
        cr_assert_eq(plans_with(c, &q, sure, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC), 0);
        some += plans_with(c, &q, all, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
        for (int i = 0; i < sure->fn->count(sure); i++) cr_assert(has(all, name_of(sure, i)));
        primitive_destroy(sure);
        primitive_destroy(all);
    }
    cr_assert_gt(some, 0, "there are none to be left out: the test shows nothing");
    cudnn_context_destroy(c);
}

Test(cudnn_h200, fp32_is_f32_and_tf32_uses_the_tensor_cores)
{
    cudnn_context *c = h200();
    for (int pass = CONV_PASS_FORWARD; pass <= CONV_PASS_BACKWARD_WEIGHTS; pass++) {
        conv_problem strict = usual_problem(pass, DTYPE_F32), fast = strict;
        fast.tf32 = true;
        primitive *a = create(c, &strict, &usual), *b = create(c, &fast, &usual);
        cr_assert_eq(plans_with(c, &strict, a, CUDNN_NUMERICAL_NOTE_TENSOR_CORE), 0);
        cr_assert_eq(plans_with(c, &strict, a, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS), 0);
        cr_assert_gt(plans_with(c, &fast, b, CUDNN_NUMERICAL_NOTE_TENSOR_CORE), 0);
        cr_assert_str_neq(a->key, b->key);
        primitive_destroy(a);
        primitive_destroy(b);
    }
    cudnn_context_destroy(c);
}

Test(cudnn_h200, no_plan_sums_in_bf16)
{
    cudnn_context *c = h200();
    const primitive_search any = {.deterministic = false, .workspace_cap = CAP};
    for (int pass = CONV_PASS_FORWARD; pass <= CONV_PASS_BACKWARD_WEIGHTS; pass++) {
        const conv_problem q = usual_problem(pass, DTYPE_BF16);
        primitive *p = create(c, &q, &any);
        cr_assert_eq(plans_with(c, &q, p, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION), 0);
        primitive_destroy(p);
    }
    cudnn_context_destroy(c);
}

Test(cudnn_h200, a_plan_is_found_again_by_its_name)
{
    cudnn_context *c = h200();
    const conv_problem q = usual_problem(CONV_PASS_BACKWARD_WEIGHTS, DTYPE_BF16);
    primitive *all = create(c, &q, &usual);
    const int n = all->fn->count(all);
    cr_assert_gt(n, 8);
    for (int i = 0; i < n; i += 5) {
        primitive_search how = usual;
        char name[PRIMITIVE_NAME];
        all->fn->name(all, i, name);
        how.cached_algo = name;
        primitive *one = create(c, &q, &how);
        cr_assert_eq(one->fn->count(one), 1);
        cr_assert_str_eq(name_of(one, 0), name);
        cr_assert_eq(one->fn->workspace(one, 0), all->fn->workspace(all, i));
        primitive_destroy(one);
    }
    primitive_search how = usual;
    how.cached_algo = "eng99999:k1=2";
    primitive *other = create(c, &q, &how);
    cr_assert_eq(other->fn->count(other), n, "all of them, where there is none of that name");
    primitive_destroy(other);
    primitive_destroy(all);
    cudnn_context_destroy(c);
}

Test(cudnn_h200, workspace_stays_within_its_bounds)
{
    cudnn_context *c = h200();
    const conv_problem q = usual_problem(CONV_PASS_BACKWARD_WEIGHTS, DTYPE_BF16);
    primitive *all = create(c, &q, &usual);
    size_t largest = 0;
    for (int i = 0; i < all->fn->count(all); i++)
        if (all->fn->workspace(all, i) > largest) largest = all->fn->workspace(all, i);
    int fit = 0, least = 0;
    for (int i = 0; i < all->fn->count(all); i++) fit += all->fn->workspace(all, i) < largest;
    for (int i = 0; i < all->fn->count(all); i++) least += all->fn->workspace(all, i) == 0;
    cr_assert(fit < all->fn->count(all) && least > 0 && least < fit);
    primitive *fewer = create(c, &q, &(primitive_search){.deterministic = true, .workspace_cap = largest - 1});
    primitive *none = create(c, &q, &(primitive_search){.deterministic = true});
    cr_assert_eq(fewer->fn->count(fewer), fit);
    cr_assert_eq(none->fn->count(none), least);
    /* an engine named by the cache must be within the cap too */
    char name[PRIMITIVE_NAME];
    for (int i = 0; i < all->fn->count(all); i++)
        if (all->fn->workspace(all, i) == largest) all->fn->name(all, i, name);
    primitive *named = create(c, &q, &(primitive_search){.deterministic = true, .cached_algo = name});
    cr_assert_eq(named->fn->count(named), least);
    primitive_destroy(named);
    primitive_destroy(none);
    primitive_destroy(fewer);
    primitive_destroy(all);
    cudnn_context_destroy(c);
}

Test(cudnn_h200, the_plan_kept_is_the_one_that_was_chosen)
{
    err why = {0};
    cudnn_context *c = h200();
    const conv_problem q = usual_problem(CONV_PASS_BACKWARD_DATA, DTYPE_BF16);
    primitive *p = create(c, &q, &usual);
    char name[PRIMITIVE_NAME];
    p->fn->name(p, 3, name);
    const size_t workspace = p->fn->workspace(p, 3);
    OK(p->fn->keep(p, 3, &why));
    cr_assert_eq(p->fn->count(p), 1);
    cr_assert_str_eq(name_of(p, 0), name);
    cr_assert_eq(p->fn->workspace(p, 0), workspace);
    OK(p->fn->keep(p, 0, &why));
    cr_assert_str_eq(name_of(p, 0), name);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

Test(cudnn_h200, a_primitive_tells_what_its_operands_hold)
{
    cudnn_context *c = h200();
    conv_problem q = odd_problem(CONV_PASS_FORWARD);
    primitive *p = create(c, &q, &usual);
    cr_assert_str_eq(p->key, "conv:fwd:bf16:n2h8w12c16:oh4ow6k24:f3s2p0,1:b0r0a0");
    cr_assert_arr_eq(p->bytes, ((size_t[PRIMITIVE_OPERANDS]){6144, 6912, 2304}), sizeof p->bytes);
    cr_assert_arr_eq(p->written, ((bool[PRIMITIVE_OPERANDS]){false, false, true}), sizeof p->written);
    primitive_destroy(p);
    q.bias = q.residual = true, q.io = DTYPE_F32;
    p = create(c, &q, &usual);
    cr_assert_str_eq(p->key, "conv:fwd:fp32:n2h8w12c16:oh4ow6k24:f3s2p0,1:b1r1a0");
    cr_assert_arr_eq(p->bytes, ((size_t[PRIMITIVE_OPERANDS]){12288, 13824, 4608, 96, 4608}), sizeof p->bytes);
    primitive_destroy(p);
    q = odd_problem(CONV_PASS_BACKWARD_DATA), q.accumulate = true;
    p = create(c, &q, &usual);
    cr_assert_str_eq(p->key, "conv:data:bf16:n2h8w12c16:oh4ow6k24:f3s2p0,1:b0r0a1");
    cr_assert_arr_eq(p->written, ((bool[PRIMITIVE_OPERANDS]){true}), sizeof p->written);
    primitive_destroy(p);
    q = odd_problem(CONV_PASS_BACKWARD_WEIGHTS), q.accumulate = true;
    p = create(c, &q, &usual);
    cr_assert_str_eq(p->key, "conv:filter:bf16:n2h8w12c16:oh4ow6k24:f3s2p0,1:b0r0a1");
    cr_assert_arr_eq(p->written, ((bool[PRIMITIVE_OPERANDS]){false, true}), sizeof p->written);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

/* ---- failures ---------------------------------------------------------------------------------- */

static void refused(const char *json, const char *said)
{
    err why = {0};
    cudnn_context *c = (cudnn_context *)&why; /* anything but NULL */
    cr_assert_eq(cudnn_context_create(json, &c, &why), DDPM_EBACKEND, "%s", json);
    cr_assert_null(c);
    cr_assert_eq(strncmp(why.text, "cuDNN: the JSON description of the device: ", 43), 0, "%s", why.text);
    cr_assert(strstr(why.text, said), "%s", why.text);
    cr_assert_null(strchr(why.text, '\n'));
}

Test(cudnn_h200, a_damaged_device_description_is_refused)
{
    char *json = read_json(), *at;
    refused("", "IsObject");
    refused("hello", "IsObject");
    refused("{}", "maxGridSize");
    at = strstr(json, "\"warpSize\"");
    cr_assert(at);
    memcpy(at, "\"warpSice\"", 10);
    refused(json, "HasMember");
    json[strlen(json) / 2] = 0;
    refused(json, "IsObject");
    mem_free(json);
}

Test(cudnn_h200, an_impossible_convolution_is_named)
{
    cudnn_context *c = h200();
    for (int pass = CONV_PASS_FORWARD; pass <= CONV_PASS_BACKWARD_WEIGHTS; pass++) {
        err why = {0};
        primitive *p = (primitive *)&why;
        conv_problem q = usual_problem(pass, DTYPE_BF16);
        q.shape.kernel = 4; /* output size 32 + 1 + 1 - 4 + 1 = 31, not 32 */
        cr_assert_eq(cudnn_convolution_create(c, &q, &usual, &p, &why), DDPM_EBACKEND);
        cr_assert_null(p);
        cr_assert(strstr(why.text, ":bf16:n128h32w32c128:oh32ow32k128:f4s1p1,1:b0r0a0: cuDNN: "), "%s", why.text);
        cr_assert(strstr(why.text, "CUDNN_STATUS_BAD_PARAM"), "%s", why.text);
        cr_assert_null(strchr(why.text, '\n'));
    }
    cudnn_context_destroy(c);
}

Test(cudnn_h200, a_convolution_without_any_plan_is_named)
{
    err why = {0};
    cudnn_context *c = h200();
    primitive *p;
    const conv_problem q = usual_problem(CONV_PASS_FORWARD, DTYPE_U8);
    cr_assert_eq(cudnn_convolution_create(c, &q, &usual, &p, &why), DDPM_EBACKEND);
    cr_assert_null(p);
    cr_assert_eq(strncmp(why.text, "conv:fwd:", 9), 0, "%s", why.text);
    cr_assert(strstr(why.text, "no cuDNN engine"), "%s", why.text);
    cudnn_context_destroy(c);
}

Test(cudnn_h200, a_plan_for_an_absent_device_does_not_run)
{
    err why = {0};
    cudnn_context *c = h200();
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    primitive *p = create(c, &q, &usual);
    void *const operands[PRIMITIVE_OPERANDS] = {NULL};
    cr_assert_eq(p->fn->run(p, 0, operands, NULL, NULL, &why), DDPM_EBACKEND);
    cr_assert(strstr(why.text, p->key) && strstr(why.text, "has no device"), "%s", why.text);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

Test(cudnn_h200, without_a_device_cudnn_says_why)
{
    err why = {0};
    char text[80];
    cudnn_context *c;
    const ddpm_status st = cudnn_context_create(NULL, &c, &why);
    if (st == DDPM_OK) {
        cudnn_context_destroy(c);
        cr_skip_test("a device answers");
    }
    cr_assert_eq(st, DDPM_EBACKEND);
    cr_assert_null(c);
    cr_assert_eq(strncmp(why.text, "cuDNN: cudnnCreate: CUDNN_STATUS_", 33), 0, "%s", why.text);
    cudnn_context_destroy(NULL);
    c = h200();
    cudnn_context_describe(c, text);
    cr_assert_eq(strncmp(text, "cuDNN 9.", 8), 0, "%s", text);
    cudnn_context_destroy(c);
}
