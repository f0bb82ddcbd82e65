/* How the engines that cuDNN proposes are used: which are kept, how they are named and run, and that a failure of any
 * call leaks nothing. */
#include "backend/cuda/fake_cudnn.h"
#include "backend/cuda/odd_problem.h"
#include "support/ok.h"

enum { CAP = 1 << 20 };

static cudnn_context *context(void)
{
    err why = {0};
    cudnn_context *c;
    OK(cudnn_context_create(NULL, &c, &why));
    return c;
}

/* The names of the primitive's engines, separated by blanks. */
static const char *names(const primitive *p)
{
    static char all[9 * PRIMITIVE_NAME];
    char name[PRIMITIVE_NAME];
    all[0] = 0;
    for (int i = 0; i < p->fn->count(p); i++) {
        p->fn->name(p, i, name);
        if (i) strcat(all, " ");
        strcat(all, name);
    }
    return all;
}

static void finds(const conv_problem *q, const primitive_search *how, const char *expected)
{
    err why = {0};
    primitive *p;
    cudnn_context *c = context();
    OK(cudnn_convolution_create(c, q, how, &p, &why));
    cr_assert_str_eq(names(p), expected);
    primitive_destroy(p);
    cudnn_context_destroy(c);
    cr_assert_eq(cudnn.live, 0);
}

/* ---- which engines ---------------------------------------------------------------------------------- */

Test(cudnn_engine, engines_come_in_the_order_of_the_heuristics_each_once)
{
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    finds(&q, &(primitive_search){.workspace_cap = CAP}, "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng12 eng0:k60=-1");
}

Test(cudnn_engine, deterministic_engines_only_where_that_is_asked)
{
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    finds(&q, &(primitive_search){.deterministic = true, .workspace_cap = CAP},
          "eng7:k2=40,k18=3 eng7:k2=41,k18=3 eng12 eng0:k60=-1");
}

Test(cudnn_engine, fp32_takes_neither_tensor_cores_nor_rounded_inputs)
{
    conv_problem q = odd_problem(CONV_PASS_FORWARD);
    q.io = DTYPE_F32;
    finds(&q, &(primitive_search){.workspace_cap = CAP}, "eng7:k2=40,k18=3 eng9 eng0:k60=-1");
    q.tf32 = true;
    finds(&q, &(primitive_search){.workspace_cap = CAP}, "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng12 eng0:k60=-1");
}

Test(cudnn_engine, workspace_may_be_as_large_as_the_cap)
{
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    finds(&q, &(primitive_search){.workspace_cap = 2000}, "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng12 eng0:k60=-1");
    finds(&q, &(primitive_search){.workspace_cap = 1999}, "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng0:k60=-1");
    finds(&q, &(primitive_search){.workspace_cap = 999}, "eng9 eng7:k2=41,k18=3 eng0:k60=-1");
}

Test(cudnn_engine, the_one_wanted_is_made_alone)
{
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    const char *all = "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng12 eng0:k60=-1";
    finds(&q, &(primitive_search){.workspace_cap = CAP, .cached_algo = "eng7:k2=41,k18=3"}, "eng7:k2=41,k18=3");
    finds(&q, &(primitive_search){.workspace_cap = CAP, .cached_algo = "eng13"},
          "eng13"); /* runtime-compiled, but selected before */
    finds(&q, &(primitive_search){.workspace_cap = CAP, .cached_algo = "eng7:k2=4"}, all);
    finds(&q, &(primitive_search){.workspace_cap = CAP, .cached_algo = "eng11"}, all); /* cannot be created */
    finds(&q, &(primitive_search){.workspace_cap = 1500, .cached_algo = "eng12"},
          "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng0:k60=-1");
    finds(&q, &(primitive_search){.workspace_cap = CAP, .deterministic = true, .cached_algo = "eng9"},
          "eng7:k2=40,k18=3 eng7:k2=41,k18=3 eng12 eng0:k60=-1");
}

/* A graph of one convolution as a primitive; engines are compiled while there are fewer than n. */
static primitive *compiled_below(cudnn_context *c, int n, size_t extra)
{
    err why = {0};
    primitive *p;
    cudnn_opgraph g = {0};
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    cudnn_convolution_graph(&g, &q);
    const cudnn_primitive_spec spec = {.key = "key",
                                       .how = &(primitive_search){.workspace_cap = 1500},
                                       .compile_below = n,
                                       .n_binding = 4,
                                       .binding = {{.uid = 5, .operand = 2, .offset = 48},
                                                   {.uid = 6, .operand = BIND_VALUE, .value = 0.25f},
                                                   {.uid = 9, .operand = BIND_EXTRA, .offset = 512},
                                                   {.uid = 2, .operand = 0}},
                                       .extra = extra};
    OK(cudnn_opgraph_primitive(&g, c, &spec, &p, &why));
    cr_assert_eq(g.n_owned, 0, "the primitive owns them now");
    cudnn_opgraph_release(&g);
    return p;
}

Test(cudnn_engine, engines_are_compiled_where_there_are_few)
{
    const char *const expected[] = {[4] = "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng0:k60=-1",
                                    [5] = "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng0:k60=-1 eng8",
                                    [6] = "eng7:k2=40,k18=3 eng9 eng7:k2=41,k18=3 eng0:k60=-1 eng8 eng13"};
    cudnn_context *c = context();
    for (int n = 4; n <= 6; n++) {
        primitive *p = compiled_below(c, n, 0);
        cr_assert_str_eq(names(p), expected[n]);
        for (int i = 0; i < p->fn->count(p); i++) cr_assert_eq(cudnn_engine_compiled(p, i), i >= 4);
        primitive_destroy(p);
    }
    cudnn_context_destroy(c);
    cr_assert_eq(cudnn.live, 0);
}

Test(cudnn_engine, where_none_is_proposed_there_is_none)
{
    err why = {0};
    primitive *p;
    cudnn_opgraph g = {0};
    cudnn_context *c = context();
    const conv_problem q = odd_problem(CONV_PASS_BACKWARD_DATA);
    const primitive_search how = {.workspace_cap = CAP};
    cudnn.nothing = true;
    cudnn_convolution_graph(&g, &q);
    OK(cudnn_opgraph_primitive(&g, c, &(cudnn_primitive_spec){.key = "key", .how = &how}, &p, &why));
    cr_assert_null(p);
    cudnn_opgraph_release(&g);
    cr_assert_eq(cudnn_convolution_create(c, &q, &how, &p, &why), DDPM_EBACKEND);
    cr_assert_null(p);
    cr_assert_str_eq(why.text,
                     "conv:data:bf16:n2h8w12c16:oh4ow6k24:f3s2p0,1:b0r0a0: no cuDNN engine supports this problem: "
                     "the heuristics returned none");
    cudnn_context_destroy(c);
    cr_assert_eq(cudnn.live, 0);
}

/* ---- running ------------------------------------------------------------------------------------- */

static void *pointer_of(int i)
{
    void *at;
    memcpy(&at, (const char *)set(&cudnn.pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 4) + 8 * i,
           sizeof at);
    return at;
}

Test(cudnn_engine, a_run_binds_ids_to_memory)
{
    err why = {0};
    char memory[4096];
    void *const operands[PRIMITIVE_OPERANDS] = {memory + 16, NULL, memory + 32};
    void *workspace = memory + 1024;
    cudnn_context *c = context();
    primitive *p = compiled_below(c, 0, 600);
    /* the engine's own 1000 bytes come first, rounded up to a multiple of 256 */
    cr_assert_str_eq(names(p), "eng9 eng7:k2=41,k18=3 eng0:k60=-1", "1000 + 600 bytes are more than 1500");
    cr_assert_eq(p->fn->workspace(p, 0), 600);
    const int live = cudnn.live;
    OK(p->fn->run(p, 1, operands, workspace, memory, &why));
    cr_assert_eq(cudnn.live, live);
    cr_assert_eq(cudnn.executed, 1);
    cr_assert_eq(proposals[cudnn.engine].value[1], 41);
    cr_assert_eq((char *)cudnn.stream, memory);
    cr_assert_arr_eq(set(&cudnn.pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 4),
                     ((int64_t[]){5, 6, 9, 2}), 4 * sizeof(int64_t));
    cr_assert_arr_eq(set(&cudnn.pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1), &workspace,
                     sizeof workspace);
    cr_assert_eq(pointer_of(0), memory + 32 + 48);
    cr_assert_eq(*(float *)pointer_of(1), 0.25f);
    cr_assert_eq(pointer_of(2), memory + 1024 + 512);
    cr_assert_eq(pointer_of(3), memory + 16);
    OK(p->fn->keep(p, 2, &why));
    cr_assert_str_eq(names(p), "eng0:k60=-1");
    OK(p->fn->run(p, 0, operands, workspace, NULL, &why));
    cr_assert_eq(proposals[cudnn.engine].engine, 0);
    cr_assert_null(cudnn.stream);
    primitive_destroy(p);
    cudnn_context_destroy(c);
    cr_assert_eq(cudnn.live, 0);
}

Test(cudnn_engine, extra_memory_lies_behind_the_engines_own)
{
    err why = {0};
    char memory[4096];
    void *const operands[PRIMITIVE_OPERANDS] = {memory, memory, memory};
    cudnn_context *c = context();
    primitive *p = compiled_below(c, 0, 400);
    cr_assert_eq(p->fn->workspace(p, 0), 1024 + 400);
    OK(p->fn->run(p, 0, operands, memory, NULL, &why));
    cr_assert_eq(pointer_of(2), memory + 1024 + 512);
    primitive_destroy(p);
    cudnn_context_destroy(c);
}

Test(cudnn_engine, a_convolution_binds_the_operands_it_has)
{
    err why = {0};
    char memory[4096];
    void *const operands[PRIMITIVE_OPERANDS] = {memory, memory + 1, memory + 2, memory + 3, memory + 4};
    const int64_t expected[4][5] = {{1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 5}, {1, 2, 3, 4, 5}};
    for (int i = 0; i < 4; i++) {
        cudnn_context *c = context();
        primitive *p;
        conv_problem q = odd_problem(CONV_PASS_FORWARD);
        q.bias = i & 1, q.residual = i >> 1;
        const int n = 3 + q.bias + q.residual;
        OK(cudnn_convolution_create(c, &q, &(primitive_search){.workspace_cap = CAP}, &p, &why));
        OK(p->fn->run(p, 0, operands, NULL, NULL, &why));
        const int64_t *ids = set(&cudnn.pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n);
        char *const *at = set(&cudnn.pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n);
        cr_assert_arr_eq(ids, expected[i], (size_t)n * sizeof *ids);
        for (int k = 0; k < n; k++) cr_assert_eq(at[k], memory + expected[i][k] - 1);
        primitive_destroy(p);
        cudnn_context_destroy(c);
    }
}

/* ---- failures ------------------------------------------------------------------------------------ */

/* Creates, runs and destroys a primitive.  `json` as for cudnn_context_create(); only if NULL the primitive can run. */
static ddpm_status whole_life(const char *json, err *e)
{
    void *const operands[PRIMITIVE_OPERANDS] = {NULL};
    cudnn_context *c = NULL;
    primitive *p = NULL;
    conv_problem q = odd_problem(CONV_PASS_FORWARD);
    q.bias = q.residual = true;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(cudnn_context_create(json, &c, e));
    TRY_GOTO(cudnn_convolution_create(c, &q, &(primitive_search){.workspace_cap = CAP}, &p, e));
    cr_assert_gt(p->fn->count(p), 0);
    if (!json) TRY_GOTO(p->fn->run(p, 0, operands, NULL, NULL, e));
done:
    primitive_destroy(p);
    cudnn_context_destroy(c);
    return st;
}

/* Fails one call after the other.  A failing heuristic or a failing engine is skipped, any other failure is an error;
 * returns how many failures were skipped. */
static int survived(const char *json, cudnnStatus_t failure, ddpm_status expected)
{
    int alive = 0;
    cudnn.failure = failure, cudnn.described = json;
    for (int n = 1;; n++) {
        err why = {0};
        cudnn.calls = cudnn.executed = 0, cudnn.fail_at = n;
        const ddpm_status st = whole_life(json, &why);
        cr_assert_eq(cudnn.live, 0, "call %d: %d descriptors are left", n, cudnn.live);
        if (cudnn.calls < n) break;
        if (st == DDPM_OK) {
            cr_assert_eq(cudnn.executed, json ? 0 : 1, "call %d", n);
            alive++;
            continue;
        }
        cr_assert_eq(st, expected, "call %d: %s", n, why.text);
        cr_assert(strstr(why.text, "cuDNN: ") && strstr(why.text, "BROKEN: what is the matter"), "%s", why.text);
        cr_assert_null(strchr(why.text, '\n'));
    }
    return alive;
}

Test(cudnn_engine, no_failing_call_leaves_something_behind)
{
    cr_assert_gt(survived(NULL, CUDNN_STATUS_INTERNAL_ERROR, DDPM_EBACKEND), 50);
    cr_assert_gt(survived(NULL, CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, DDPM_ENOMEM), 50);
    cr_assert_gt(survived(NULL, CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED, DDPM_ENOMEM), 50);
    cr_assert_gt(survived("{}", CUDNN_STATUS_INTERNAL_ERROR, DDPM_EBACKEND), 50);
}

Test(cudnn_engine, a_graph_keeps_its_first_error)
{
    cudnn_opgraph g = {0};
    const int64_t sizes[4] = {1, 4, 4, 8};
    cr_assert(cudnn_nhwc(&g, 1, CUDNN_DATA_FLOAT, sizes));
    cudnn.calls = 0, cudnn.fail_at = 3, cudnn.failure = CUDNN_STATUS_BAD_PARAM;
    (void)cudnn_nhwc(&g, 2, CUDNN_DATA_FLOAT, sizes);
    cr_assert_eq(g.first.status, DDPM_EBACKEND);
    cr_assert_str_eq(g.first.text, "cuDNN: attribute 902: BROKEN: what is the matter");
    cr_assert(!g.unsupported);
    cr_assert_null(cudnn_nhwc(&g, 3, CUDNN_DATA_FLOAT, sizes));
    cudnn_convolution(&g, &(conv_problem){.shape = {.stride = 1}}, NULL, NULL, NULL);
    cudnn_pointwise(&g, CUDNN_POINTWISE_ADD, NULL, NULL, NULL);
    cr_assert_eq(cudnn.calls, 3, "nothing is asked any more");
    cr_assert_str_eq(g.first.text, "cuDNN: attribute 902: BROKEN: what is the matter");
    cr_assert_eq(g.n_op, 0);
    cudnn_opgraph_release(&g);
    cudnn_opgraph_release(&g);
    cr_assert_eq(cudnn.live, 0);
}

Test(cudnn_engine, what_cudnn_cannot_do_is_no_failure)
{
    err why = {0};
    primitive *p;
    cudnn_context *c = context();
    cudnn_opgraph g = {0};
    const int64_t sizes[4] = {1, 4, 4, 8};
    const primitive_search how = {.workspace_cap = CAP};
    cudnn.calls = 0, cudnn.fail_at = 3, cudnn.failure = CUDNN_STATUS_NOT_SUPPORTED;
    (void)cudnn_nhwc(&g, 2, CUDNN_DATA_FLOAT, sizes);
    OK(cudnn_opgraph_primitive(&g, c, &(cudnn_primitive_spec){.key = "key", .how = &how}, &p, &why));
    cr_assert_null(p);
    cr_assert(strstr(g.first.text, "UNSUPPORTED"));
    cudnn_opgraph_release(&g);
    cudnn_context_destroy(c);
    cr_assert_eq(cudnn.live, 0);
}

Test(cudnn_engine, a_graph_that_is_too_large_is_refused)
{
    err why = {0};
    primitive *p;
    cudnn_context *c = context();
    const primitive_search how = {.workspace_cap = CAP};
    const cudnn_primitive_spec spec = {.key = "many", .how = &how};
    cudnn_opgraph g = {0}, h = {0};
    for (int i = 0; i <= OPGRAPH_OPS; i++) (void)cudnn_make_op(&g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    cr_assert_eq(g.n_op, OPGRAPH_OPS);
    cr_assert_eq(cudnn_opgraph_primitive(&g, c, &spec, &p, &why), DDPM_EBACKEND);
    cr_assert_str_eq(why.text, "many: cuDNN: a graph of more than 32 operations");
    for (int i = 0; i <= OPGRAPH_OWNED; i++) (void)cudnn_make(&h, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cr_assert_eq(h.n_owned, OPGRAPH_OWNED);
    cr_assert_eq(cudnn_opgraph_primitive(&h, c, &spec, &p, &why), DDPM_EBACKEND);
    cr_assert_str_eq(why.text, "many: cuDNN: a graph of more than 128 descriptors");
    cudnn_opgraph_release(&g);
    cudnn_opgraph_release(&h);
    cudnn_context_destroy(c);
    cr_assert_eq(cudnn.live, 0);
}

/* ---- a library that is older than the backend would like --------------------------------------------- */

Test(cudnn_engine, an_older_cudnn_has_convolutions_and_says_what_it_lacks)
{
    err why = {0};
    primitive *p = NULL;
    cudnn_context *c = (cudnn_context *)&why;
    const primitive_search how = {.deterministic = true, .workspace_cap = CAP};
    const attention_problem attention = {.io = DTYPE_BF16, .n = 2, .s = 16, .heads = 1, .d = 64};
    const conv_problem q = odd_problem(CONV_PASS_FORWARD);
    cudnn.version = 90100;
    cr_expect_eq(cudnn_context_create("{}", &c, &why), DDPM_EBACKEND);
    cr_expect_str_eq(why.text, "cuDNN: the JSON description of the device: it needs cuDNN 9.8, this is 9.1");
    cr_expect_null(c);
    c = context();
    OK(cudnn_convolution_create(c, &q, &how, &p, &why));
    primitive_destroy(p);
    p = NULL;
    why.text[0] = '\0';
    OK(cudnn_attention_create(c, &attention, &how, &p, &why));
    cr_expect_null(p);
    cr_expect_str_eq(why.text, "it needs cuDNN 9.16, this is 9.1");
    cudnn_context_destroy(c);
    cr_expect_eq(cudnn.live, 0);
}
