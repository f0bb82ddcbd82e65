/* Fused attention as it is described to cuDNN: the results of the descriptions, and how far cuDNN gets with them for an
 * H200 that does not exist here (h200.json is cuDNN's description of one).
 *
 * Engines of attention are compiled at run time.  Here the compilation runs up to the finished binary, which the
 * toolkit's stub of the driver then refuses to load: everything that depends on the problem is done before. */
#include "backend/cuda/cudnn_recorder.h"
#include "backend/cuda/lib/cudnn_opgraph.h"
#include "base/file.h"
#include "base/mem.h"
#include "support/cudnn_leaks.h"
#include "support/ok.h"

#include <stdio.h>

enum { ROOM = 1 << 29, NOT_LOADED = 5001 }; /* CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER */

static const primitive_search usual = {.deterministic = true, .workspace_cap = ROOM};
static const primitive_search any = {.deterministic = false, .workspace_cap = ROOM};

/* cuDNN looks for libcuda.so.1, which is the soname of the stub driver in the toolkit's stubs folder. */
static void load_stub(void)
{
    char path[4096];
    Dl_info nvrtc;
    (void)snprintf(path, sizeof path, "libnvrtc.so.%d", CUDART_VERSION / 1000);
    void *const library = dlopen(path, RTLD_NOW), *const version = library ? dlsym(library, "nvrtcVersion") : NULL;
    if (!version || !dladdr(version, &nvrtc)) cr_skip_test("no libnvrtc, with which cuDNN compiles");
    const int folder = (int)(strrchr(nvrtc.dli_fname, '/') - nvrtc.dli_fname);
    (void)snprintf(path, sizeof path, "%.*s/stubs/libcuda.so", folder, nvrtc.dli_fname);
    if (!dlopen(path, RTLD_NOW | RTLD_GLOBAL)) cr_skip_test("no stub of the driver: %s", dlerror());
}

static cudnn_context *h200(void)
{
    err why = {0};
    cudnn_context *c;
    char *json;
    size_t size;
    /* version 0: there is no cuDNN, which fails below */
    if (cudnnGetVersion() && cudnnGetVersion() < CUDNN_FIRST_DEVICEPROP)
        cr_skip_test("cuDNN describes devices since 9.8");
    load_stub();
    OK(file_read(DDPM_TESTS "/backend/cuda/h200.json", 1 << 16, &json, &size, &why));
    OK(cudnn_context_create(json, &c, &why));
    mem_free(json);
    recorder_clear();
    return c;
}

static primitive *create(cudnn_context *c, const attention_problem *q, const primitive_search *how)
{
    err why = {0};
    primitive *p = (primitive *)c;
    recorder_clear();
    OK(cudnn_attention_create(c, q, how, &p, &why));
    return p;
}

/* ---- how far cuDNN gets ------------------------------------------------------------------------- */

static const struct {
    int heads, d;
    bool backward; /* is there a fused backward pass? */
} width[] = {{1, 256, true}, {8, 32, true}, {4, 64, true}, {1, 128, true}, {2, 128, true}, {1, 512, false}};

/* Every engine that cuDNN proposes is supported, compiles, and fails when its code is loaded.  Returns their number. */
static int compile(cudnn_context *c, const attention_problem *q)
{
    recorder.pretend = false;
    cr_assert_null(create(c, q, &usual), "a plan was loaded with no device");
    for (int i = 0; i < recorder.plans; i++) {
        cr_expect_eq((int)recorder.status[i], NOT_LOADED, "%d heads of %d, s %ld, n %ld: %d", q->heads, q->d,
                     (long)q->s, (long)q->n, (int)recorder.status[i]);
        cr_expect(strstr(recorder.why[i], "cuLibraryLoadData"), "%s", recorder.why[i]);
    }
    return recorder.plans;
}

/* The number of engines that cuDNN proposes. */
static int propose(cudnn_context *c, const attention_problem *q)
{
    recorder.pretend = true;
    primitive *p = create(c, q, &usual);
    cr_expect_eq(p ? p->fn->count(p) : 0, recorder.plans);
    primitive_destroy(p);
    return recorder.plans;
}

/* Each compilation takes about a second, so only a quarter of the problems is compiled, with every size among them. */
static void compile_some(bool backward, int64_t n)
{
    cudnn_context *c = h200();
    int compiled = 0, turn = n == 16;
    for (size_t i = 0; i < sizeof width / sizeof *width; i++, turn++)
        for (int64_t s = 16; s <= 1024; s *= 4, turn++) {
            const attention_problem q = {
                .backward = backward, .io = DTYPE_BF16, .n = n, .s = s, .heads = width[i].heads, .d = width[i].d};
            const int proposed = propose(c, &q);
            if (backward && !width[i].backward)
                cr_expect_eq(proposed, 0);
            else
                cr_expect_geq(proposed, 1, "%d heads of %d, s %ld, n %ld", q.heads, q.d, (long)s, (long)n);
            if (turn % 4) continue;
            cr_expect_eq(compile(c, &q), proposed);
            compiled++;
        }
    cr_expect_eq(compiled, 6);
    cudnn_context_destroy(c);
}

Test(cudnn_attention, compiles_forward_16) { compile_some(false, 16); }
Test(cudnn_attention, compiles_forward_128) { compile_some(false, 128); }
Test(cudnn_attention, compiles_backward_16) { compile_some(true, 16); }
Test(cudnn_attention, compiles_backward_128) { compile_some(true, 128); }

Test(cudnn_attention, has_no_plan_for_some_problems)
{
    static const attention_problem none[] = {
        {.io = DTYPE_F32, .n = 4, .s = 64, .heads = 1, .d = 64},
        {.io = DTYPE_F32, .n = 4, .s = 64, .heads = 1, .d = 64, .backward = true},
        {.io = DTYPE_BF16, .n = 4, .s = 64, .heads = 2, .d = 12},
        {.io = DTYPE_BF16, .n = 4, .s = 64, .heads = 2, .d = 4, .backward = true},
        {.io = DTYPE_BF16, .n = 4, .s = 64, .heads = 1, .d = 264, .backward = true},
    };
    cudnn_context *c = h200();
    recorder.pretend = true;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        cr_expect_null(create(c, &none[i], &usual), "problem %zu", i);
        cr_expect_eq(recorder.plans, 0, "problem %zu", i);
    }
    cudnn_context_destroy(c);
}

/* ---- results of the descriptions -------------------------------------------------------------------------- */

enum { N = 2, S = 5, HEADS = 3, D = 8, C = HEADS * D, LSES = N * HEADS * S };

static const attention_problem small[2] = {
    {.backward = false, .io = DTYPE_BF16, .n = N, .s = S, .heads = HEADS, .d = D},
    {.backward = true, .io = DTYPE_BF16, .n = N, .s = S, .heads = HEADS, .d = D},
};

typedef struct buffers {
    _Alignas(256) bf16 qkv[N * S * 3 * C], y[N * S * C], dy[N * S * C], dqkv[N * S * 3 * C];
    _Alignas(256) float lse[LSES];
} buffers;

static void *operand_of(buffers *b, int i)
{
    void *const at[] = {
        [SDPA_QKV] = b->qkv, [SDPA_Y] = b->y, [SDPA_LSE] = b->lse, [SDPA_DY] = b->dy, [SDPA_DQKV] = b->dqkv};
    return at[i];
}

/* The reference: softmax attention and its gradient, from the definition, in double. */
typedef struct reference {
    double y[N * S * C], lse[LSES], dqkv[N * S * 3 * C];
} reference;

static double part(const buffers *b, int n, int s, int which, int h, int d)
{
    return (double)bf16_to_f32(b->qkv[((n * S + s) * 3 + which) * C + h * D + d]);
}

static void refer_head(const buffers *b, int n, int h, reference *r)
{
    const double scale = 1 / sqrt((double)D);
    double p[S][S], dp[S][S];
    for (int i = 0; i < S; i++) {
        double sum = 0, mean = 0;
        for (int j = 0; j < S; j++) {
            double score = 0;
            dp[i][j] = 0;
            for (int d = 0; d < D; d++) {
                score += part(b, n, i, 0, h, d) * part(b, n, j, 1, h, d);
                dp[i][j] += (double)bf16_to_f32(b->dy[(n * S + i) * C + h * D + d]) * part(b, n, j, 2, h, d);
            }
            sum += p[i][j] = exp(scale * score);
        }
        r->lse[(n * HEADS + h) * S + i] = log(sum);
        for (int j = 0; j < S; j++) mean += (p[i][j] /= sum) * dp[i][j];
        for (int j = 0; j < S; j++)
            for (int d = 0; d < D; d++) {
                const double ds = p[i][j] * (dp[i][j] - mean) * scale;
                double *const mine = &r->dqkv[(n * S + i) * 3 * C + h * D + d];
                double *const key = &r->dqkv[((n * S + j) * 3 + 1) * C + h * D + d];
                r->y[(n * S + i) * C + h * D + d] += p[i][j] * part(b, n, j, 2, h, d);
                *mine += ds * part(b, n, j, 1, h, d);
                *key += ds * part(b, n, i, 0, h, d);
                key[C] += p[i][j] * (double)bf16_to_f32(b->dy[(n * S + i) * C + h * D + d]);
            }
    }
}

static void fill(buffers *b, reference *r)
{
    memset(b, 0xff, sizeof *b); /* NaN: shows results that are not written */
    memset(r, 0, sizeof *r);
    for (int i = 0; i < N * S * 3 * C; i++) b->qkv[i] = bf16_of((float)((i * 37 + i / 11) % 23 - 11) / 8);
    for (int i = 0; i < N * S * C; i++) b->dy[i] = bf16_of((float)((i * 29 + i / 7) % 19 - 9) / 8);
    for (int n = 0; n < N; n++)
        for (int h = 0; h < HEADS; h++) refer_head(b, n, h, r);
}

static void expect_near(const bf16 *ours, const double *theirs, int count, const char *what)
{
    for (int i = 0; i < count; i++)
        cr_assert_float_eq((double)bf16_to_f32(ours[i]), theirs[i], 0.01 * (1 + fabs(theirs[i])), "%s[%d]: %g, not %g",
                           what, i, (double)bf16_to_f32(ours[i]), theirs[i]);
}

/* Runs engine i as the backend would, with a workspace of exactly the requested size. */
static void run(cudnn_context *c, primitive *p, int i, buffers *b)
{
    err why = {0};
    void *operands[PRIMITIVE_OPERANDS] = {NULL}, *workspace = NULL;
    for (int k = SDPA_QKV; k <= SDPA_DQKV; k++)
        if (p->bytes[k]) operands[k] = operand_of(b, k);
    const size_t size = p->fn->workspace(p, i);
    if (size) cr_assert_not_null(workspace = aligned_alloc(256, (size + 255) / 256 * 256));
    c->handle = (cudnnHandle_t)c; /* any pointer: nothing dereferences it here */
    OK(p->fn->run(p, i, operands, workspace, NULL, &why));
    c->handle = NULL;
    free(workspace);
}

Test(cudnn_attention, describes_softmax_attention)
{
    static buffers b;
    static reference r;
    cudnn_context *c = h200();
    recorder.pretend = true;
    fill(&b, &r);
    primitive *p = create(c, &small[0], &usual);
    cr_assert_not_null(p);
    run(c, p, 0, &b);
    cr_expect_eq(recorder.executed, 1);
    expect_near(b.y, r.y, N * S * C, "y");
    for (int i = 0; i < LSES; i++) cr_expect_float_eq((double)b.lse[i], r.lse[i], 1e-6);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

static void run_backward(cudnn_context *c, primitive *p, int i)
{
    static buffers b;
    static reference r;
    fill(&b, &r);
    for (int k = 0; k < N * S * C; k++) b.y[k] = bf16_of((float)r.y[k]);
    for (int k = 0; k < LSES; k++) b.lse[k] = (float)r.lse[k];
    const buffers before = b;
    recorder.workspace = 1000; /* not a multiple of 256: the extra memory behind it must be aligned nevertheless */
    run(c, p, i, &b);
    expect_near(b.dqkv, r.dqkv, N * S * 3 * C, "dqkv");
    cr_expect(!memcmp(&before.qkv, &b.qkv, sizeof b.qkv) && !memcmp(&before.lse, &b.lse, sizeof b.lse));
}

Test(cudnn_attention, describes_its_gradient_without_chance)
{
    cudnn_context *c = h200();
    recorder.pretend = true, recorder.workspace = 1000;
    primitive *p = create(c, &small[1], &usual);
    cr_assert_not_null(p);
    cr_expect_eq(recorder_operations(), 17); /* the atomic form has an 18th, the sum by atomic additions */
    for (int i = 0; i < p->fn->count(p); i++) run_backward(c, p, i);
    cr_expect_eq(recorder.executed, p->fn->count(p));
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

static void expect_name(const primitive *p, int i, const char *expected)
{
    char name[PRIMITIVE_NAME];
    p->fn->name(p, i, name);
    cr_expect_str_eq(name, expected);
}

Test(cudnn_attention, offers_both_forms_of_the_gradient_where_chance_is_allowed)
{
    cudnn_context *c = h200();
    recorder.pretend = true, recorder.workspace = 1000;
    primitive *p = create(c, &small[1], &usual);
    const int ordered = p->fn->count(p);
    const size_t ordered_workspace = p->fn->workspace(p, 0);
    primitive_destroy(p);
    p = create(c, &small[1], &any);
    const int all = p->fn->count(p);
    cr_assert_gt(all, ordered);
    cr_expect_eq(recorder_operations(), 18);
    char names[8][PRIMITIVE_NAME];
    cr_assert_leq(all, 8);
    for (int i = 0; i < all; i++) {
        const char *form = i < ordered ? "ordered:" : "atomic:";
        p->fn->name(p, i, names[i]);
        cr_expect(!strncmp(names[i], form, strlen(form)), "%s", names[i]);
        cr_expect_null(strpbrk(names[i], " \t\n"), "%s", names[i]);
        for (int k = 0; k < i; k++) cr_expect_str_neq(names[i], names[k]);
        run_backward(c, p, i);
    }
    cr_expect_eq(p->fn->workspace(p, 0), ordered_workspace);
    /* and an f32 dq */
    cr_expect_geq(p->fn->workspace(p, all - 1), ordered_workspace + N * S * C * sizeof(float));
    primitive_destroy(p);
    for (int i = 0; i < all; i++) {
        primitive_search how = any;
        how.cached_algo = names[i];
        p = create(c, &small[1], &how);
        cr_assert_eq(p->fn->count(p), 1);
        cr_expect_eq(recorder.plans, 1, "engines other than the cached one are not created");
        expect_name(p, 0, names[i]);
        cr_expect_eq(p->bytes[SDPA_DQKV], sizeof(bf16) * N * S * 3 * C);
        run_backward(c, p, 0);
        primitive_destroy(p);

        err why = {0};
        p = create(c, &small[1], &any);
        OK(p->fn->keep(p, i, &why));
        cr_assert_eq(p->fn->count(p), 1);
        expect_name(p, 0, names[i]);
        run_backward(c, p, 0);
        primitive_destroy(p);
    }
    primitive_search unknown = any;
    unknown.cached_algo = "atomic:eng0";
    p = create(c, &small[1], &unknown);
    cr_expect_eq(p->fn->count(p), all);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

Test(cudnn_attention, says_what_its_operands_are)
{
    cudnn_context *c = h200();
    recorder.pretend = true;
    for (int backward = 0; backward < 2; backward++)
        for (int chance = 0; chance < 2; chance++) {
            primitive *p = create(c, &small[backward], chance ? &any : &usual);
            cr_assert_not_null(p);
            cr_expect_str_eq(p->key, backward ? "sdpa:bwd:bf16:n2s5h3d8" : "sdpa:fwd:bf16:n2s5h3d8");
            const size_t bytes[PRIMITIVE_OPERANDS] = {[SDPA_QKV] = sizeof(bf16) * N * S * 3 * C,
                                                      [SDPA_Y] = sizeof(bf16) * N * S * C,
                                                      [SDPA_LSE] = sizeof(float) * LSES,
                                                      [SDPA_DY] = backward ? sizeof(bf16) * N * S * C : 0,
                                                      [SDPA_DQKV] = backward ? sizeof(bf16) * N * S * 3 * C : 0};
            const bool written[PRIMITIVE_OPERANDS] = {
                [SDPA_Y] = !backward, [SDPA_LSE] = !backward, [SDPA_DQKV] = backward};
            cr_expect_arr_eq(p->bytes, bytes, sizeof bytes);
            cr_expect_arr_eq(p->written, written, sizeof written);
            primitive_destroy(p);
        }
    cudnn_context_destroy(c);
}

/* The backward pass needs memory for dS or for an f32 dq: with a smaller workspace cap there is no primitive. */
Test(cudnn_attention, keeps_to_the_workspace_allowed)
{
    cudnn_context *c = h200();
    const primitive_search tight = {.deterministic = true, .workspace_cap = 1 << 10};
    recorder.pretend = true, recorder.workspace = 900;
    primitive *p = create(c, &small[1], &tight);
    cr_expect_null(p, "%zu bytes", p ? p->fn->workspace(p, 0) : 0);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}
