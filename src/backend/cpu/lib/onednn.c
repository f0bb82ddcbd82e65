#include "backend/cpu/lib/onednn.h"
#include "base/arith.h"
#include "backend/cpu/lib/onednn_api.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct onednn {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

enum { MAX_ARGS = 8 };

struct onednn_conv {
    onednn *d;
    onednn_conv_spec spec;
    dnnl_primitive_t primitive, pack; /* pack: converts the filter between our layout and that of the primitive */
    dnnl_memory_t src, dst, filter, user_filter, bias, residual, scratch;
    bool packs;   /* the primitive needs another layout of the filter than ours */
    void *packed; /* packed copy of a frozen filter */
    uint64_t packed_version;
    /* offsets in the workspace: of the packed filter, if it is not kept; of a gradient before it is accumulated */
    size_t packed_at, diff_at;
};

static const char *reason(dnnl_status_t s)
{
    switch ((int)s) { /* the other values depend on the version */
    case dnnl_out_of_memory: return "out of memory";
    case dnnl_invalid_arguments: return "invalid arguments";
    case dnnl_unimplemented: return "not implemented";
    default: return "run-time error";
    }
}

/* Makes a oneDNN call and returns its error. */
#define DNN(call)                                                                                                      \
    do {                                                                                                               \
        const dnnl_status_t s_ = (call);                                                                               \
        if (s_ != dnnl_success)                                                                                        \
            return err_set(e, s_ == dnnl_out_of_memory ? DDPM_ENOMEM : DDPM_EBACKEND, "oneDNN: %s (%.60s)",            \
                           reason(s_), #call);                                                                         \
    } while (0)

ddpm_status onednn_create(onednn **out, err *e)
{
    *out = NULL;
    onednn *d;
    TRY(mem_array(&d, 1, sizeof *d, "oneDNN", e));
    *out = d;
    DNN(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    DNN(dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
    return DDPM_OK;
}

void onednn_destroy(onednn *d)
{
    if (!d) return;
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    mem_free(d);
}

/* oneDNN's instruction sets are bit masks; each includes the bits of its subsets. */
static bool has_isa(dnnl_cpu_isa_t isa) { return ((int)dnnl_get_effective_cpu_isa() & (int)isa) == (int)isa; }

void onednn_describe(char *text, size_t cap)
{
    static const struct {
        dnnl_cpu_isa_t isa;
        const char *name;
    } names[] = {{dnnl_cpu_isa_avx512_core_amx, "AMX"},
                 {dnnl_cpu_isa_avx512_core_bf16, "AVX-512 BF16"},
                 {dnnl_cpu_isa_avx512_core_vnni, "AVX-512 VNNI"},
                 {dnnl_cpu_isa_avx512_core, "AVX-512"},
                 {dnnl_cpu_isa_avx2, "AVX2"}};
    const char *name = "baseline";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (has_isa(names[i].isa)) {
            name = names[i].name;
            break;
        }
    const dnnl_version_t *v = dnnl_version();
    (void)snprintf(text, cap, "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch, name);
}

bool onednn_has_blocked_kernels(void) { return has_isa(dnnl_cpu_isa_avx512_core); }
bool onednn_sums_by_thread(void) { return dnnl_version()->major >= 3; }

typedef struct conv_descs {
    onednn_md src, dst, filter, any_filter, bias;
    dnnl_dims_t strides, dilates, pad_begin, pad_end; /* dilates: all 0, meaning none */
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t forward; /* hint for a backward pass */
    dnnl_primitive_desc_t desc;
} conv_descs;

static int64_t filter_ld(const onednn_conv_spec *s) { return s->filter_ld ? s->filter_ld : s->shape.cin; }

static ddpm_status init_descs(const onednn_conv_spec *spec, conv_descs *k, err *e)
{
    const conv_shape *s = &spec->shape;
    const dnnl_dims_t src = {s->n, s->cin, s->h, s->w}, dst = {s->n, s->cout, s->oh, s->ow}, bias = {s->cout};
    const dnnl_dims_t filter = {s->cout, s->cin, s->kernel, s->kernel};
    const int64_t ld = filter_ld(spec);
    const dnnl_dims_t steps = {s->kernel * s->kernel * ld, 1, s->kernel * ld, ld};
    const dnnl_format_tag_t data = spec->blocked ? dnnl_nChw16c : dnnl_nhwc;
    for (int i = 0; i < 2; i++) k->strides[i] = s->stride, k->pad_begin[i] = s->pad_begin, k->pad_end[i] = s->pad_end;
    DNN(onednn_md_create_with_tag(&k->src, 4, src, dnnl_f32, data));
    DNN(onednn_md_create_with_tag(&k->dst, 4, dst, dnnl_f32, data));
    if (s->pass == CONV_PASS_BACKWARD_WEIGHTS && spec->add)
        DNN(onednn_md_create_with_tag(&k->filter, 4, filter, dnnl_f32, dnnl_ohwi));
    else
        DNN(onednn_md_create_with_strides(&k->filter, 4, filter, dnnl_f32, steps));
    DNN(onednn_md_create_with_tag(&k->any_filter, 4, filter, dnnl_f32, dnnl_format_tag_any));
    DNN(onednn_md_create_with_tag(&k->bias, 1, bias, dnnl_f32, dnnl_x));
    DNN(dnnl_primitive_attr_create(&k->attr));
    DNN(dnnl_primitive_attr_set_scratchpad_mode(k->attr, dnnl_scratchpad_mode_user));
    return DDPM_OK;
}

/* Sets the tensors to add to the result before it is stored. */
static ddpm_status set_post_ops(const onednn_conv_spec *s, conv_descs *k, err *e)
{
    if (!s->residual && !s->sum) return DDPM_OK;
    dnnl_post_ops_t add;
    DNN(dnnl_post_ops_create(&add));
    const dnnl_status_t appended =
        s->sum ? onednn_append_sum(add, 1) : dnnl_post_ops_append_binary(add, dnnl_binary_add, k->dst);
    const dnnl_status_t set = appended ? appended : dnnl_primitive_attr_set_post_ops(k->attr, add);
    dnnl_post_ops_destroy(add);
    DNN(set);
    return DDPM_OK;
}

static ddpm_status create_desc(onednn *d, const onednn_conv_spec *s, conv_descs *k, err *e)
{
    TRY(init_descs(s, k, e));
    const dnnl_alg_kind_t how = dnnl_convolution_direct; /* we use our own Winograd (cpu_winograd.h) */
    const bool forward = s->shape.pass == CONV_PASS_FORWARD;
    const onednn_md bias = s->bias ? k->bias : NULL;
    if (forward) TRY(set_post_ops(s, k, e));
    DNN(onednn_convolution_forward(forward ? &k->desc : &k->forward, d->engine, dnnl_forward_training, how, k->src,
                                   k->any_filter, forward ? bias : NULL, k->dst, k->strides, k->dilates, k->pad_begin,
                                   k->pad_end, forward ? k->attr : NULL));
    if (s->shape.pass == CONV_PASS_BACKWARD_DATA)
        DNN(onednn_convolution_backward_data(&k->desc, d->engine, how, k->src, k->any_filter, k->dst, k->strides,
                                             k->dilates, k->pad_begin, k->pad_end, k->forward, k->attr));
    if (s->shape.pass == CONV_PASS_BACKWARD_WEIGHTS)
        DNN(onednn_convolution_backward_weights(&k->desc, d->engine, how, k->src, k->any_filter, bias, k->dst,
                                                k->strides, k->dilates, k->pad_begin, k->pad_end, k->forward, k->attr));
    return DDPM_OK;
}

static ddpm_status create_reorder(onednn_conv *c, onednn_const_md from, onednn_const_md to, err *e)
{
    dnnl_primitive_desc_t desc;
    DNN(dnnl_reorder_primitive_desc_create(&desc, from, c->d->engine, to, c->d->engine, NULL));
    const dnnl_status_t made = dnnl_primitive_create(&c->pack, desc);
    dnnl_primitive_desc_destroy(desc);
    DNN(made);
    return DDPM_OK;
}

static ddpm_status create_memory(onednn_conv *c, const conv_descs *k, size_t *scratch, err *e)
{
    const onednn_conv_spec *s = &c->spec;
    const bool weights = s->shape.pass == CONV_PASS_BACKWARD_WEIGHTS;
    onednn_const_md filter =
        dnnl_primitive_desc_query_md(k->desc, weights ? dnnl_query_diff_weights_md : dnnl_query_weights_md, 0);
    onednn_const_md pad = dnnl_primitive_desc_query_md(k->desc, dnnl_query_scratchpad_md, 0);
    const dnnl_engine_t engine = c->d->engine;
    DNN(dnnl_memory_create(&c->src, k->src, engine, DNNL_MEMORY_NONE));
    DNN(dnnl_memory_create(&c->dst, k->dst, engine, DNNL_MEMORY_NONE));
    DNN(dnnl_memory_create(&c->residual, k->dst, engine, DNNL_MEMORY_NONE));
    DNN(dnnl_memory_create(&c->bias, k->bias, engine, DNNL_MEMORY_NONE));
    DNN(dnnl_memory_create(&c->filter, filter, engine, DNNL_MEMORY_NONE));
    DNN(dnnl_memory_create(&c->user_filter, k->filter, engine, DNNL_MEMORY_NONE));
    DNN(dnnl_memory_create(&c->scratch, pad, engine, DNNL_MEMORY_NONE));
    *scratch = round_up_size(dnnl_memory_desc_get_size(pad), MEM_ALIGN);
    c->diff_at = *scratch;
    if (weights && (s->add || s->add_bias))
        *scratch += round_up_size((size_t)(conv_w_count(&s->shape) + s->shape.cout) * sizeof(float), MEM_ALIGN);
    if (dnnl_memory_desc_equal(filter, k->filter)) return DDPM_OK;
    const size_t bytes = dnnl_memory_desc_get_size(filter);
    c->packs = true;
    c->packed_at = *scratch;
    if (s->frozen)
        TRY(mem_array(&c->packed, bytes, 1, "filter", e));
    else
        *scratch += round_up_size(bytes, MEM_ALIGN);
    return weights ? create_reorder(c, filter, k->filter, e) : create_reorder(c, k->filter, filter, e);
}

static ddpm_status create_primitive(onednn_conv *c, const conv_descs *k, err *e)
{
    DNN(dnnl_primitive_create(&c->primitive, k->desc));
    return DDPM_OK;
}

static void destroy_descs(conv_descs *k)
{
    if (k->desc) dnnl_primitive_desc_destroy(k->desc);
    if (k->forward) dnnl_primitive_desc_destroy(k->forward);
    if (k->attr) dnnl_primitive_attr_destroy(k->attr);
    const onednn_md layouts[] = {k->src, k->dst, k->filter, k->any_filter, k->bias};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i]) onednn_md_destroy(layouts[i]);
    *k = (conv_descs){0};
}

ddpm_status onednn_conv_create(onednn *d, const onednn_conv_spec *spec, onednn_conv **out, size_t *scratch, err *e)
{
    conv_descs k = {0};
    onednn_conv *c = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(mem_array(&c, 1, sizeof *c, "convolution", e));
    c->d = d;
    c->spec = *spec;
    TRY_GOTO(create_desc(d, spec, &k, e));
    TRY_GOTO(create_primitive(c, &k, e));
    TRY_GOTO(create_memory(c, &k, scratch, e));
    *out = c;
    c = NULL;
done:
    destroy_descs(&k);
    onednn_conv_destroy(c);
    return st;
}

void onednn_conv_destroy(onednn_conv *c)
{
    if (!c) return;
    dnnl_memory_t memory[] = {c->src, c->dst, c->filter, c->user_filter, c->bias, c->residual, c->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i]) dnnl_memory_destroy(memory[i]);
    if (c->primitive) dnnl_primitive_destroy(c->primitive);
    if (c->pack) dnnl_primitive_destroy(c->pack);
    mem_free(c->packed);
    mem_free(c);
}

static ddpm_status point(dnnl_memory_t m, const void *at, err *e)
{
    DNN(dnnl_memory_set_data_handle(m, (void *)(uintptr_t)at));
    return DDPM_OK;
}

static ddpm_status execute(const onednn_conv *c, dnnl_primitive_t p, int n, const dnnl_exec_arg_t *args, err *e)
{
    DNN(dnnl_primitive_execute(p, c->d->stream, n, args));
    DNN(dnnl_stream_wait(c->d->stream));
    return DDPM_OK;
}

static ddpm_status repack(onednn_conv *c, const void *from, dnnl_memory_t from_memory, const void *to,
                          dnnl_memory_t to_memory, err *e)
{
    TRY(point(from_memory, from, e));
    TRY(point(to_memory, to, e));
    return execute(c, c->pack, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, from_memory}, {DNNL_ARG_TO, to_memory}}, e);
}

static void *scratch_at(const onednn_conv_args *a, size_t at) { return (char *)a->scratch + at; }

/* Sets the filter argument, in the primitive's layout; a frozen filter is packed again only after a change. */
static ddpm_status use_filter(onednn_conv *c, const onednn_conv_args *a, err *e)
{
    if (!c->packs) return point(c->filter, a->filter, e);
    void *packed = c->packed ? c->packed : scratch_at(a, c->packed_at);
    if (!c->packed || a->version == 0 || a->version != c->packed_version) {
        TRY(repack(c, a->filter, c->user_filter, packed, c->filter, e));
        c->packed_version = a->version;
    }
    return point(c->filter, packed, e);
}

/* Adds the contiguous rows of x to those of the filter, which are `ld` channels apart. */
static void add_filter(const onednn_conv_spec *s, float *filter, const float *x)
{
    const int64_t cin = s->shape.cin, rows = conv_w_count(&s->shape) / cin, ld = filter_ld(s);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cin; i++) filter[r * ld + i] += x[r * cin + i];
}

static ddpm_status run_weights(onednn_conv *c, const onednn_conv_args *a, err *e)
{
    const onednn_conv_spec *s = &c->spec;
    const int64_t count = conv_w_count(&s->shape);
    float *filter = (float *)(uintptr_t)a->filter, *bias = (float *)(uintptr_t)a->bias,
          *diff = scratch_at(a, c->diff_at);
    float *to = s->add ? diff : filter, *to_bias = s->add_bias ? diff + count : bias;
    void *packed = c->packs ? scratch_at(a, c->packed_at) : to;
    TRY(point(c->filter, packed, e));
    TRY(point(c->bias, to_bias, e));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, c->src},
                                    {DNNL_ARG_DIFF_DST, c->dst},
                                    {DNNL_ARG_DIFF_WEIGHTS, c->filter},
                                    {DNNL_ARG_SCRATCHPAD, c->scratch},
                                    {DNNL_ARG_DIFF_BIAS, c->bias}};
    TRY(execute(c, c->primitive, s->bias ? 5 : 4, args, e));
    if (c->packs) TRY(repack(c, packed, c->filter, to, c->user_filter, e));
    if (s->add) add_filter(s, filter, diff);
    for (int64_t i = 0; i < s->shape.cout && s->bias && s->add_bias; i++) bias[i] += to_bias[i];
    return DDPM_OK;
}

ddpm_status onednn_conv_run(onednn_conv *c, const onednn_conv_args *a, err *e)
{
    const onednn_conv_spec *s = &c->spec;
    if (s->shape.pass != CONV_PASS_BACKWARD_WEIGHTS) TRY(use_filter(c, a, e));
    TRY(point(c->src, a->src, e));
    TRY(point(c->dst, a->dst, e));
    TRY(point(c->scratch, a->scratch, e));
    if (s->shape.pass == CONV_PASS_BACKWARD_WEIGHTS) return run_weights(c, a, e);
    if (s->shape.pass == CONV_PASS_BACKWARD_DATA) {
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_DIFF_SRC, c->src},
                                        {DNNL_ARG_DIFF_DST, c->dst},
                                        {DNNL_ARG_WEIGHTS, c->filter},
                                        {DNNL_ARG_SCRATCHPAD, c->scratch}};
        return execute(c, c->primitive, 4, args, e);
    }
    TRY(point(c->bias, a->bias, e));
    TRY(point(c->residual, a->residual, e));
    dnnl_exec_arg_t args[MAX_ARGS] = {{DNNL_ARG_SRC, c->src},
                                      {DNNL_ARG_DST, c->dst},
                                      {DNNL_ARG_WEIGHTS, c->filter},
                                      {DNNL_ARG_SCRATCHPAD, c->scratch}};
    int n = 4;
    if (s->bias) args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, c->bias};
    if (s->residual) args[n++] = (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, c->residual};
    return execute(c, c->primitive, n, args, e);
}

ddpm_status onednn_gemm(const onednn_gemm_args *g, err *e)
{
    DNN(dnnl_sgemm(g->transpose_a ? 'T' : 'N', g->transpose_b ? 'T' : 'N', g->m, g->n, g->k, g->alpha, g->a, g->lda,
                   g->b, g->ldb, g->beta, g->c, g->ldc));
    return DDPM_OK;
}
