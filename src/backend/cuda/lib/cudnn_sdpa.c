/* cudnn_sdpa.c - cuDNN's fused softmax attention (Dao 2023, arXiv:2307.08691).
 *
 * Every tensor is described to cuDNN as [n, heads, s, d] with its own strides, so q, k and v are read in place from the
 * columns of qkv, and dq, dk and dv are written in place to those of dqkv.
 *
 * The log-sum-exp that the forward pass stores for the backward pass is the natural logarithm of the sum over keys of
 * exp(q k^T / sqrt(d)), [n, heads, s, 1]: cuDNN's "stats", log(sum of exp(score - max)) + max, which the backward
 * graph below expects.
 *
 * The backward pass has two forms, which differ in the sum over keys in dq:
 *   ordered  dS is written to memory as a whole, and dq = dS k is an ordinary matrix product
 *   atomic   each block adds its share to an f32 dq atomically, in an order that varies from run to run
 * cuDNN does not mark engines of the atomic form as nondeterministic. */
#include "backend/cuda/lib/cudnn_opgraph.h"
#include "base/arith.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

/* The oldest cuDNN version that is used.  The forward operation came with 9.13.1; until 9.15 the backward pass was
 * wrong where s is not a multiple of 128. */
enum { OLDEST = 91600 };

/* Every engine is compiled at run time; cuDNN has at most four. */
enum { COMPILE_BELOW = 8 };

enum { Q = 1, K, V, Y, LSE, SCALE, DY, DQ, DK, DV, ONE, ROW_SUMS, DQ_SUMS }; /* ids of tensors in memory */

/* ---- tensors ------------------------------------------------------------------------------------ */

/* Block `column` of a matrix whose rows hold `width` blocks of all heads: q, k or v of qkv. */
static descriptor heads_of(cudnn_opgraph *g, const attention_problem *q, int64_t id, int width)
{
    const int64_t row = (int64_t)width * q->heads * q->d;
    return cudnn_tensor(g, &(cudnn_tensor_spec){.uid = id,
                                                .type = cudnn_type(q->io),
                                                .rank = 4,
                                                .dim = {q->n, q->heads, q->s, q->d},
                                                .stride = {q->s * row, q->d, row, 1}});
}

/* The same memory with the last two dimensions swapped: k^T, v^T. */
static descriptor transposed_heads_of(cudnn_opgraph *g, const attention_problem *q, int64_t id, int width)
{
    const int64_t row = (int64_t)width * q->heads * q->d;
    return cudnn_tensor(g, &(cudnn_tensor_spec){.uid = id,
                                                .type = cudnn_type(q->io),
                                                .rank = 4,
                                                .dim = {q->n, q->heads, q->d, q->s},
                                                .stride = {q->s * row, q->d, 1, row}});
}

/* Packed f32 [n, heads, s, columns]; id 0: virtual. */
static descriptor packed(cudnn_opgraph *g, const attention_problem *q, int64_t id, int64_t columns)
{
    return cudnn_tensor(g, &(cudnn_tensor_spec){.uid = id,
                                                .type = CUDNN_DATA_FLOAT,
                                                .rank = 4,
                                                .dim = {q->n, q->heads, q->s, columns},
                                                .stride = {q->heads * q->s * columns, q->s * columns, columns, 1}});
}

static descriptor number(cudnn_opgraph *g, int64_t id)
{
    return cudnn_tensor(g, &(cudnn_tensor_spec){.uid = id,
                                                .type = CUDNN_DATA_FLOAT,
                                                .rank = 4,
                                                .dim = {1, 1, 1, 1},
                                                .stride = {1, 1, 1, 1},
                                                .by_value = true});
}

/* ---- the graphs --------------------------------------------------------------------------------- */

static void describe_forward(cudnn_opgraph *g, const attention_problem *q)
{
    const descriptor d_q = heads_of(g, q, Q, 3), d_k = heads_of(g, q, K, 3), d_v = heads_of(g, q, V, 3);
    const descriptor y = heads_of(g, q, Y, 1), lse = packed(g, q, LSE, 1), scale = number(g, SCALE);
    const descriptor op = cudnn_make_op(g, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    cudnn_set_operand(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, d_q);
    cudnn_set_operand(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, d_k);
    cudnn_set_operand(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, d_v);
    cudnn_set_operand(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, y);
    cudnn_set_operand(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, lse);
    cudnn_set_operand(g, op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    cudnn_finalize(g, op, "attention operation");
}

static descriptor multiply(cudnn_opgraph *g, descriptor a, descriptor b, descriptor to)
{
    cudnn_pointwise(g, CUDNN_POINTWISE_MUL, a, b, to);
    return to;
}

/* x^T [.., s, s], in the type of the products' factors. */
static descriptor transposed_scores(cudnn_opgraph *g, const attention_problem *q, descriptor x)
{
    const descriptor t =
        cudnn_tensor(g, &(cudnn_tensor_spec){.type = cudnn_type(q->io),
                                             .rank = 4,
                                             .dim = {q->n, q->heads, q->s, q->s},
                                             .stride = {q->heads * q->s * q->s, q->s * q->s, 1, q->s}});
    cudnn_reshape(g, x, t);
    return t;
}

/* P = exp(q k^T scale - lse) */
static descriptor probabilities(cudnn_opgraph *g, const attention_problem *q, descriptor d_q, descriptor kt,
                                descriptor scale)
{
    const descriptor product = packed(g, q, 0, q->s), scores = packed(g, q, 0, q->s);
    const descriptor below = packed(g, q, 0, q->s), p = packed(g, q, 0, q->s);
    cudnn_matmul(g, d_q, kt, product);
    (void)multiply(g, product, scale, scores);
    cudnn_pointwise(g, CUDNN_POINTWISE_SUB, scores, packed(g, q, LSE, 1), below);
    cudnn_pointwise(g, CUDNN_POINTWISE_EXP, below, NULL, p);
    return p;
}

/* sums [.., s, 1] of dy y over the channels.  cuDNN supports the pattern only with this multiplication by one (in the
 * place of dropout's scale) and with the sums in memory. */
static descriptor row_sums(cudnn_opgraph *g, const attention_problem *q, descriptor dy)
{
    const descriptor products = packed(g, q, 0, q->d), sums = packed(g, q, 0, 1);
    (void)multiply(g, dy, heads_of(g, q, Y, 1), products);
    cudnn_reduction(g, CUDNN_REDUCE_TENSOR_ADD, products, sums);
    return multiply(g, sums, number(g, ONE), packed(g, q, ROW_SUMS, 1));
}

/* dS = P (dy v^T - sums) scale */
static descriptor score_gradients(cudnn_opgraph *g, const attention_problem *q, descriptor dy, descriptor p,
                                  descriptor sums, descriptor scale)
{
    const descriptor dp = packed(g, q, 0, q->s), centred = packed(g, q, 0, q->s);
    cudnn_matmul(g, dy, transposed_heads_of(g, q, V, 3), dp);
    cudnn_pointwise(g, CUDNN_POINTWISE_SUB, dp, sums, centred);
    const descriptor weighted = multiply(g, centred, p, packed(g, q, 0, q->s));
    return multiply(g, weighted, scale, packed(g, q, 0, q->s));
}

/* dv = P^T dy, dk = dS^T q, dq = dS k.  The order of the operations is part of the pattern. */
static void describe_backward(cudnn_opgraph *g, const attention_problem *q, bool atomic)
{
    const descriptor d_q = heads_of(g, q, Q, 3), kt = transposed_heads_of(g, q, K, 3), dy = heads_of(g, q, DY, 1);
    const descriptor scale = number(g, SCALE), dq = heads_of(g, q, DQ, 3), d_k = heads_of(g, q, 0, 3);
    const descriptor sums = row_sums(g, q, dy);
    const descriptor p = probabilities(g, q, d_q, kt, scale);
    cudnn_matmul(g, transposed_scores(g, q, p), dy, heads_of(g, q, DV, 3));
    const descriptor ds = score_gradients(g, q, dy, p, sums, scale);
    cudnn_matmul(g, transposed_scores(g, q, ds), d_q, heads_of(g, q, DK, 3));
    cudnn_reshape(g, kt, d_k);
    const descriptor to = atomic ? packed(g, q, DQ_SUMS, q->d) : dq;
    cudnn_matmul(g, ds, d_k, to);
    if (atomic) cudnn_pointwise(g, CUDNN_POINTWISE_IDENTITY, to, NULL, dq);
}

/* ---- binding of the operands -------------------------------------------------------------- */

static void bind(cudnn_primitive_spec *s, int64_t id, int operand, size_t offset)
{
    s->binding[s->n_binding++] = (cudnn_binding){.uid = id, .operand = operand, .offset = offset};
}

static void bind_number(cudnn_primitive_spec *s, int64_t id, float value)
{
    s->binding[s->n_binding++] = (cudnn_binding){.uid = id, .operand = BIND_VALUE, .value = value};
}

static void bind_extra(cudnn_primitive_spec *s, int64_t id, int64_t floats)
{
    bind(s, id, BIND_EXTRA, s->extra);
    s->extra += round_up_size((size_t)floats * sizeof(float), 256);
}

static void bind_operands(cudnn_primitive_spec *s, const attention_problem *q, bool atomic)
{
    const size_t part = (size_t)q->heads * (size_t)q->d * dtype_size(q->io); /* bytes from q to k, from k to v */
    const int64_t rows = q->n * q->heads * q->s;
    for (int i = 0; i < 3; i++) bind(s, Q + i, SDPA_QKV, (size_t)i * part);
    bind(s, Y, SDPA_Y, 0);
    bind(s, LSE, SDPA_LSE, 0);
    bind_number(s, SCALE, (float)(1.0 / sqrt((double)q->d)));
    if (!q->backward) return;
    bind(s, DY, SDPA_DY, 0);
    for (int i = 0; i < 3; i++) bind(s, DQ + i, SDPA_DQKV, (size_t)i * part);
    bind_number(s, ONE, 1);
    bind_extra(s, ROW_SUMS, rows);
    if (atomic) bind_extra(s, DQ_SUMS, rows * q->d); /* cuDNN zeroes it itself */
}

static void measure(const attention_problem *q, primitive *p)
{
    const size_t y = (size_t)(q->n * q->s * q->heads * q->d) * dtype_size(q->io);
    p->bytes[SDPA_QKV] = 3 * y;
    p->bytes[SDPA_Y] = y;
    p->bytes[SDPA_LSE] = (size_t)(q->n * q->heads * q->s) * sizeof(float);
    p->bytes[SDPA_DY] = q->backward ? y : 0;
    p->bytes[SDPA_DQKV] = q->backward ? 3 * y : 0;
    p->written[SDPA_Y] = p->written[SDPA_LSE] = !q->backward;
    p->written[SDPA_DQKV] = q->backward;
    p->result[SDPA_Y] = p->result[SDPA_DQKV] = q->io; /* SDPA_LSE is f32 */
}

static ddpm_status make(cudnn_context *c, const attention_problem *q, bool atomic, const primitive_search *how,
                        primitive **out, err *e)
{
    char key[PRIMITIVE_KEY];
    cudnn_opgraph g = {0};
    cudnn_primitive_spec spec = {.key = key, .how = how, .compile_below = COMPILE_BELOW};
    (void)snprintf(key, sizeof key, "sdpa:%s:%s:n%llds%lldh%dd%d", q->backward ? "bwd" : "fwd", dtype_name(q->io),
                   (long long)q->n, (long long)q->s, q->heads, q->d);
    bind_operands(&spec, q, atomic);
    if (q->backward)
        describe_backward(&g, q, atomic);
    else
        describe_forward(&g, q);
    const ddpm_status st = cudnn_opgraph_primitive(&g, c, &spec, out, e);
    if (st == DDPM_OK && *out) measure(q, *out);
    if (st == DDPM_OK && !*out) (void)err_set(e, st, "%s", g.first.text[0] ? g.first.text : "cuDNN proposes no engine");
    cudnn_opgraph_release(&g);
    return st;
}

/* ---- engines of both backward forms in one primitive ------------------------------------------------ */

enum { ORDERED, ATOMIC, FORMS };
static const char *const form_name[FORMS] = {"ordered:", "atomic:"};

typedef struct sdpa_forms {
    primitive base;
    primitive *form[FORMS]; /* owned; NULL where cuDNN has no engine of that form */
} sdpa_forms;

static int form_count(const sdpa_forms *p, int form)
{
    return p->form[form] ? p->form[form]->fn->count(p->form[form]) : 0;
}

/* The form of engine *i; *i becomes the engine's index within that form. */
static int form_of(const sdpa_forms *p, int *i)
{
    const int ordered = form_count(p, ORDERED);
    if (*i < ordered) return ORDERED;
    *i -= ordered;
    return ATOMIC;
}

static int forms_count(const primitive *base)
{
    const sdpa_forms *p = (const sdpa_forms *)base;
    return form_count(p, ORDERED) + form_count(p, ATOMIC);
}

static void forms_name(const primitive *base, int i, char text[PRIMITIVE_NAME])
{
    const sdpa_forms *p = (const sdpa_forms *)base;
    char name[PRIMITIVE_NAME];
    const int form = form_of(p, &i);
    p->form[form]->fn->name(p->form[form], i, name);
    (void)snprintf(text, PRIMITIVE_NAME, "%s%.*s", form_name[form], PRIMITIVE_NAME - 16, name);
}

static size_t forms_workspace(const primitive *base, int i)
{
    const sdpa_forms *p = (const sdpa_forms *)base;
    const int form = form_of(p, &i);
    return p->form[form]->fn->workspace(p->form[form], i);
}

static ddpm_status forms_keep(primitive *base, int i, err *e)
{
    sdpa_forms *p = (sdpa_forms *)base;
    const int form = form_of(p, &i), other = FORMS - 1 - form;
    TRY(p->form[form]->fn->keep(p->form[form], i, e));
    primitive_destroy(p->form[other]);
    p->form[other] = NULL;
    return DDPM_OK;
}

static ddpm_status forms_run(primitive *base, int i, void *const operands[PRIMITIVE_OPERANDS], void *workspace,
                             void *stream, err *e)
{
    const sdpa_forms *p = (const sdpa_forms *)base;
    const int form = form_of(p, &i);
    return p->form[form]->fn->run(p->form[form], i, operands, workspace, stream, e);
}

static void forms_destroy(primitive *base)
{
    sdpa_forms *p = (sdpa_forms *)base;
    for (int form = 0; form < FORMS; form++) primitive_destroy(p->form[form]);
    mem_free(p);
}

static const primitive_table forms_table = {forms_count, forms_name, forms_workspace,
                                            forms_keep,  forms_run,  forms_destroy};

static int engine_named(const primitive *p, const char *cached)
{
    char name[PRIMITIVE_NAME];
    for (int i = 0; cached && i < p->fn->count(p); i++) {
        p->fn->name(p, i, name);
        if (!strcmp(name, cached)) return i;
    }
    return -1;
}

static bool is_of_form(const char *name, int form)
{
    return name && !strncmp(name, form_name[form], strlen(form_name[form]));
}

/* Creates the form of the cached engine first: if that engine is found, the other form is not created. */
static ddpm_status make_both(cudnn_context *c, const attention_problem *q, const primitive_search *how, primitive **out,
                             err *e)
{
    const int first = is_of_form(how->cached_algo, ATOMIC) ? ATOMIC : ORDERED;
    sdpa_forms *p = NULL;
    ddpm_status st;
    int cached = -1;
    TRY_GOTO(mem_array(&p, 1, sizeof *p, "attention", e));
    p->base.fn = &forms_table;
    for (int i = 0; i < FORMS && cached < 0; i++) {
        const int form = (first + i) % FORMS;
        primitive_search here = *how;
        here.cached_algo = is_of_form(how->cached_algo, form) ? how->cached_algo + strlen(form_name[form]) : NULL;
        TRY_GOTO(make(c, q, form == ATOMIC, &here, &p->form[form], e));
        cached = engine_named(&p->base, how->cached_algo);
    }
    if (cached >= 0) TRY_GOTO(forms_keep(&p->base, cached, e));
    if (!forms_count(&p->base)) goto done;
    for (int form = 0; form < FORMS; form++)
        if (p->form[form]) memcpy(p->base.key, p->form[form]->key, sizeof p->base.key);
    measure(q, &p->base);
    *out = &p->base;
    p = NULL;
done:
    if (p) forms_destroy(&p->base);
    return st;
}

ddpm_status cudnn_attention_create(cudnn_context *c, const attention_problem *q, const primitive_search *how,
                                   primitive **out, err *e)
{
    *out = NULL;
    /* cuDNN itself refuses all other unsupported problems. */
    if (q->io != DTYPE_BF16) return DDPM_OK;
    if (cudnnGetVersion() < OLDEST)
        return err_set(e, DDPM_OK, "it needs cuDNN %d.%d, this is %zu.%zu", OLDEST / 10000, OLDEST / 100 % 100,
                       cudnnGetVersion() / 10000, cudnnGetVersion() / 100 % 100);
    if (q->backward && !how->deterministic) return make_both(c, q, how, out, e);
    return make(c, q, false, how, out, e);
}
