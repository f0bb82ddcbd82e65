/* Disabled optimizations are off: in the network's steps and in the libraries' problems; parameters do not change. */
#include "backend/cuda/cuda_backend.h"
#include "ir/operands.h"
#include "base/mem.h"
#include "support/net_rig.h"
#include "support/ok.h"
#include "train/recipe.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static err why;

typedef struct rig {
    backend *be;
    plan *p;
    params *store;
    char *report; /* the library problems */
} rig;

enum { UP_RESNETS = 8, RESNETS = 14 }; /* of net_small_unet() */

/* A prepared training plan for micro-batches, and its parameters, declared. */
static rig prepared(unsigned disabled, precision_kind precision)
{
    const network net = {NETWORK_UNET, net_small_unet()};
    rig r = {0};
    OK(backend_create(&(backend_spec){.device = "cuda", .precision = precision, .disabled = disabled | CUDA_OPT_TUNING},
                      &r.be, &why));
    OK(plan_create(r.be, &r.p, &why));
    r.p->training = r.p->add_grads = true;
    tensor *x = plan_input(r.p, DTYPE_F32, "x", 1, 16, 16, 3), *t = plan_input(r.p, DTYPE_F32, "t", 1, 1, 1, 1);
    tensor *state = plan_input(r.p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    const network_outputs out = network_build(&net, r.p, &(network_inputs){.x = x, .t = t, .state = state});
    plan_differentiate(r.p, out.y, plan_input(r.p, r.be->act, "dy", 1, 16, 16, 3));
    (void)plan_emit(r.p, OP_tally); /* in place of the update */
    OK(plan_finish(r.p, &why));
    OK(params_create(r.be, &r.store, &why));
    OK(params_declare(r.store, r.p, &why));
    size_t size;
    FILE *to = open_memstream(&r.report, &size);
    cr_assert_not_null(to);
    r.be->fn->report(r.be, to);
    cr_assert_eq(fclose(to), 0);
    return r;
}

static void destroy(rig *r)
{
    plan_destroy(r->p);
    params_destroy(r->store);
    backend_destroy(r->be);
    free(r->report); /* allocated by open_memstream() */
}

static int count(const plan *p, op_kind op)
{
    int n = 0;
    for (int i = 0; i < p->n_step; i++) n += p->steps[i]->op == op;
    return n;
}

static int two_sources(const plan *p)
{
    int n = 0;
    for (int i = 0; i < p->n_step; i++) {
        const step *s = p->steps[i];
        n += s->op == OP_norm_act && s->in[NORM_X2];
        n += s->op == OP_conv2d && s->in[CONV_X2];
    }
    return n;
}

static bool is_shortcut(const step *s) { return strstr(s->path, "conv_shortcut") != NULL; }

/* Two convolutions whose outputs are added have biases with the same gradient: the norm's sums serve both. */
Test(cuda_ablations, the_bias_of_a_shortcut_takes_the_sums_of_conv2)
{
    const struct {
        unsigned disabled;
        bool taken;
    } cases[] = {{0, true}, {CUDA_OPT_BIAS_SUMS, false}};
    for (int c = 0; c < 2; c++) {
        rig r = prepared(cases[c].disabled, PRECISION_BF16);
        int shortcuts = 0, twins = 0;
        for (int i = 0; i < r.p->n_step; i++) {
            const step *s = r.p->steps[i];
            if (s->op == OP_norm_act_bwd) twins += s->out[NORM_BWD_DBIAS_TWIN] || s->out[NORM_BWD_DBIAS2_TWIN];
            if (s->op != OP_conv2d_dw || !is_shortcut(s)) continue;
            shortcuts++;
            cr_expect_eq(s->out[CONV_DW_DBIAS] == NULL, cases[c].taken, "%s", s->path);
        }
        cr_expect(shortcuts > 0);
        cr_expect_eq(twins, cases[c].taken ? shortcuts : 0);
        destroy(&r);
    }
}

/* The partial sums of gradients keep their memory until the update, which begins after they are added. */
Test(cuda_ablations, partial_sums_live_until_the_update)
{
    rig r = prepared(0, PRECISION_BF16);
    int with = 0, update = -1;
    for (int i = 0; i < r.p->n_step; i++)
        if (r.p->steps[i]->op == OP_tally) update = i;
    for (int i = 0; i < r.p->n_step; i++) {
        const step *s = r.p->steps[i];
        const bool wanted = s->op == OP_norm_act_bwd || s->op == OP_linear_bwd ||
                            (s->op == OP_conv2d_dw && (s->a.conv.kernel == 3 || s->out[CONV_DW_DBIAS]));
        if (wanted) cr_expect_not_null(s->partial, "%s (%s)", s->path, op_name[s->op]);
        if (!s->partial) continue;
        with++;
        cr_expect(s->partial->first == i && s->partial->last == update, "%s lives from step %d to %d", s->path,
                  s->partial->first, s->partial->last);
    }
    cr_expect(with > RESNETS);
    destroy(&r);
}

Test(cuda_ablations, nothing_left_out)
{
    rig r = prepared(0, PRECISION_FP32);
    cr_expect_eq(count(r.p, OP_concat), 0);
    cr_expect_eq(count(r.p, OP_concat_bwd), 0);
    cr_expect_eq(two_sources(r.p), 2 * UP_RESNETS);
    cr_expect_eq(count(r.p, OP_linear), 1); /* all projections */
    cr_expect_eq(count(r.p, OP_time_mlp), 1);
    cr_expect_not_null(strstr(r.report, ":add\t"));
    cr_expect_not_null(strstr(r.report, ":addend\t"));
    destroy(&r);
}

Test(cuda_ablations, without_concat_nothing_reads_two_sources)
{
    rig r = prepared(CUDA_OPT_CONCAT, PRECISION_FP32);
    cr_expect_eq(count(r.p, OP_concat), UP_RESNETS);
    cr_expect_eq(count(r.p, OP_concat_bwd), UP_RESNETS);
    cr_expect_eq(two_sources(r.p), 0);
    destroy(&r);
}

Test(cuda_ablations, without_time_mlp_its_layers_are_ops)
{
    rig r = prepared(CUDA_OPT_TIME_MLP, PRECISION_FP32);
    cr_expect_eq(count(r.p, OP_time_mlp), 0);
    cr_expect_eq(count(r.p, OP_linear), 3);
    destroy(&r);
}

Test(cuda_ablations, without_projections_every_resnet_has_its_own)
{
    rig r = prepared(CUDA_OPT_PROJECTIONS, PRECISION_FP32);
    cr_expect_eq(count(r.p, OP_linear), RESNETS);
    for (int i = 0; i + 1 < r.p->n_step; i++) /* right before the norm that uses it */
        if (r.p->steps[i]->op == OP_linear && strstr(r.p->steps[i]->path, "time_emb_proj"))
            cr_expect(strstr(r.p->steps[i + 1]->path, ".norm2"), "%s", r.p->steps[i]->path);
    destroy(&r);
}

/* Epilogues are disabled too, so that beta is the only reason for an addend. */
Test(cuda_ablations, without_beta_the_libraries_add_nothing)
{
    for (int upconv = 0; upconv < 2; upconv++)
        for (precision_kind precision = PRECISION_FP32; precision <= PRECISION_BF16; precision++) {
            rig r = prepared(CUDA_OPT_BETA | CUDA_OPT_EPILOGUE | (upconv ? CUDA_OPT_UPCONV : 0), precision);
            cr_expect_null(strstr(r.report, ":add"), "%s", r.report);
            destroy(&r);
        }
}

/* Names, shapes and initial weights are the same whatever is disabled, so any checkpoint fits. */
Test(cuda_ablations, no_switch_changes_a_parameter)
{
    rig full = prepared(0, PRECISION_FP32);
    float *want, *got;
    OK(params_allocate(full.store, false, false, &why));
    OK(params_init(full.store, 3, &why));
    OK(mem_array(&want, full.store->count, sizeof *want, "test", &why));
    OK(params_get(full.store, ARENA_PARAM, want, &why));
#define OPTIMIZATION(NAME, word, bit) bit,
    const unsigned bits[] = {CUDA_OPT_LIST(OPTIMIZATION)};
#undef OPTIMIZATION
    for (size_t k = 0; k < sizeof bits / sizeof *bits; k++) {
        rig r = prepared(bits[k], PRECISION_FP32);
        OK(params_allocate(r.store, false, false, &why));
        OK(params_init(r.store, 3, &why));
        OK(mem_array(&got, r.store->count, sizeof *got, "test", &why));
        OK(params_get(r.store, ARENA_PARAM, got, &why));
        cr_assert_eq(r.store->n, full.store->n);
        cr_assert_eq(r.store->values, full.store->values);
        for (int i = 0; i < full.store->n; i++) {
            const param *a = &full.store->list[i], *b = params_find(r.store, a->name);
            cr_assert_not_null(b, "%s", a->name);
            cr_assert(a->rank == b->rank && a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c, "%s",
                      a->name);
            cr_expect_arr_eq(got + b->offset, want + a->offset, (size_t)param_count(a) * sizeof *want, "%s", a->name);
        }
        mem_free(got);
        destroy(&r);
    }
    mem_free(want);
    destroy(&full);
}

/* Each word of the option cuda.disable is one bit of the backend's. */
Test(cuda_ablations, a_word_is_a_bit)
{
#define OPTIMIZATION(NAME, word, bit) {#word, CUDA_OPT_##NAME},
    const struct {
        const char *word;
        unsigned bit;
    } switches[] = {CUDA_OPT_LIST(OPTIMIZATION)};
#undef OPTIMIZATION
    unsigned all = 0;
    for (size_t k = 0; k < sizeof switches / sizeof *switches; k++) {
        char text[64];
        autotune_files files;
        ddpm_config c;
        backend_spec spec;
        config_defaults(&c);
        (void)snprintf(text, sizeof text, "cuda.disable=%s", switches[k].word);
        OK(config_assign(&c, NULL, text, &why));
        OK(recipe_backend(&c, NULL, &files, &spec, &why));
        cr_expect_eq(spec.disabled, switches[k].bit, "%s", switches[k].word);
        cr_expect(switches[k].bit && !(switches[k].bit & (switches[k].bit - 1)), "%s", switches[k].word);
        cr_expect_eq(all & switches[k].bit, 0, "%s", switches[k].word);
        all |= switches[k].bit;
    }
    ddpm_config c;
    backend_spec spec;
    autotune_files files;
    config_defaults(&c);
    OK(recipe_backend(&c, NULL, &files, &spec, &why));
    cr_expect_eq(spec.disabled, 0);
    OK(config_assign(&c, NULL, "cuda.disable=concat,projections,beta", &why));
    OK(recipe_backend(&c, NULL, &files, &spec, &why));
    cr_expect_eq(spec.disabled, 512 + 1024 + 2048);
}
