/* Properties of whole plans: who lies where in memory, who writes before whom. */
#include "base/mem.h"
#include "ir/operands.h"
#include "support/net_rig.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TIMESTEPS = 10, ROWS = 4, BATCH = 2 };

typedef enum shape { SMALL, PAPER, SCALE_SHIFT, NO_MID, ONE_BLOCK, SIMPLE, SHAPES } shape;
typedef enum use { TRAIN, TRAIN_KEEPING, TRAIN_MICRO, SAMPLE, USES } use; /* KEEPING: nothing is made again */

static network network_of(shape s)
{
    network net = {.kind = NETWORK_UNET, .unet = s == PAPER ? net_cifar10_unet() : net_small_unet()};
    unet_config *c = &net.unet;
    for (int i = 0; s == PAPER && i < 4; i++) c->block[i].out_channels = i ? 16 : 8;
    if (s == PAPER) c->norm_num_groups = 4;
    if (s == SCALE_SHIFT) {
        c->time_scale_shift = UNET_SHIFT_SCALE;
        c->center_input_sample = true;
        c->dropout = 0.2;
    }
    if (s == NO_MID) c->mid_block = false, c->layers_per_block = 2, c->out_channels = 3;
    if (s == ONE_BLOCK) c->n_block = 1, c->block[0].down = UNET_ATTN_DOWN;
    if (s == SIMPLE) net.kind = NETWORK_SIMPLE;
    return net;
}

static net_rig build(shape s, use u, bool unpacked)
{
    net_rig r = {0};
    net_options o = {.net = network_of(s), .n = BATCH, .h = 16, .w = 16, .timesteps = TIMESTEPS, .unpacked = unpacked};
    if (s == ONE_BLOCK) o.h = 5, o.w = 7;
    if (u == TRAIN_MICRO) o.micro_batches = 3;
    o.other_recompute = u == TRAIN_KEEPING;
    if (u != SAMPLE) o.updates = &net_updates;
    if (u == SAMPLE)
        net_sample(&r, &o, ROWS);
    else
        net_train(&r, &o);
    return r;
}

typedef struct kind {
    shape s;
    use u;
} kind;

static struct criterion_test_params all_kinds(void)
{
    static kind kinds[SHAPES * USES];
    for (int i = 0; i < SHAPES * USES; i++) kinds[i] = (kind){(shape)(i / USES), (use)(i % USES)};
    return cr_make_param_array(kind, kinds, SHAPES * USES);
}

/* ---- who lies where ---- */

static tensor *whole(tensor *t) { return t && t->base ? t->base : t; }

static void live(tensor *t, int i, int *first, int *last, tensor *const *tensors, int n)
{
    t = whole(t);
    for (int k = 0; k < n && t; k++)
        if (tensors[k] == t) {
            if (first[k] < 0) first[k] = i;
            last[k] = i;
            return;
        }
}

/* Lifetimes anew, from the steps alone. */
static void find_lives(const plan *p, int *first, int *last)
{
    for (int k = 0; k < p->n_tensor; k++) {
        const bool pinned = p->tensors[k]->keep;
        first[k] = pinned ? 0 : -1, last[k] = pinned ? INT_MAX : -1;
    }
    for (int i = 0; i < p->n_step; i++) {
        const step *s = p->steps[i];
        for (int k = 0; k < STEP_IN; k++) live(s->in[k], i, first, last, p->tensors, p->n_tensor);
        for (int k = 0; k < STEP_OUT; k++) live(s->out[k], i, first, last, p->tensors, p->n_tensor);
        live(s->scratch, i, first, last, p->tensors, p->n_tensor);
    }
    for (int k = 0; k < p->n_tensor; k++)
        if (p->tensors[k]->keep) first[k] = 0, last[k] = INT_MAX;
}

static void check_pair(const tensor *a, const tensor *b)
{
    cr_assert(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset,
              "%s at %zu, %zu bytes and %s at %zu, %zu bytes live at the same time", a->name, a->offset, a->bytes,
              b->name, b->offset, b->bytes);
}

ParameterizedTestParameters(plan_memory, live_tensors_never_overlap) { return all_kinds(); }
ParameterizedTest(const kind *c, plan_memory, live_tensors_never_overlap)
{
    err why = {0};
    net_rig r = build(c->s, c->u, false);
    const plan *p = r.p;
    int *first, *last, pairs = 0;
    cr_assert_eq(mem_array(&first, (size_t)p->n_tensor, sizeof *first, "test", &why), DDPM_OK);
    cr_assert_eq(mem_array(&last, (size_t)p->n_tensor, sizeof *last, "test", &why), DDPM_OK);
    find_lives(p, first, last);
    for (int i = 0; i < p->n_tensor; i++) {
        const tensor *a = p->tensors[i];
        if (a->base || a->arena > ARENA_ACT || first[i] < 0) continue;
        cr_assert(a->offset % MEM_ALIGN == 0 && a->offset + a->bytes <= p->bytes[a->arena], "%s", a->name);
        cr_assert(a->bytes >= (size_t)tensor_count(a) * dtype_size(a->dtype), "%s", a->name);
        for (int k = 0; k < i; k++) {
            const tensor *b = p->tensors[k];
            if (b->base || b->arena != a->arena || first[k] < 0 || first[k] > last[i] || first[i] > last[k]) continue;
            check_pair(a, b);
            pairs++;
        }
    }
    cr_expect(pairs > 10);
    cr_expect(p->bytes[ARENA_ACT] < p->unpacked_bytes, "nothing saved: %zu of %zu bytes", p->bytes[ARENA_ACT],
              p->unpacked_bytes);
    cr_log_info("%zu bytes of %zu, %d tensors, %d steps", p->bytes[ARENA_ACT], p->unpacked_bytes, p->n_tensor,
                p->n_step);
    mem_free(first);
    mem_free(last);
    net_destroy(&r);
}

/* ---- who writes before whom ---- */

static bool among(tensor *const *set, int n, const tensor *t)
{
    for (int i = 0; i < n; i++)
        if (set[i] == t) return true;
    return false;
}

typedef struct walk {
    const plan *p;
    tensor **written;
    int n;
} walk;

/* A matrix may be written by columns, as long as all of them are. */
static bool is_written(const walk *w, const tensor *t)
{
    if (t->arena != ARENA_ACT || among(w->written, w->n, t)) return true;
    if (t->base) return among(w->written, w->n, t->base);
    int64_t columns = 0;
    for (int i = 0; i < w->n; i++)
        if (w->written[i]->base == t) columns += w->written[i]->c;
    return columns == t->c;
}

static void walk_output(walk *w, const step *s, int k)
{
    tensor *t = s->out[k];
    const bool before = among(w->written, w->n, t), adds = step_adds(s, k);
    const bool always_adds = t->arena == ARENA_GRAD && w->p->add_grads;
    cr_expect(adds == (before || always_adds), "%s (%s) %s %s, which %s", s->path, op_name[s->op],
              adds ? "adds to" : "sets", t->name, before ? "was set already" : "nobody has written");
    if (!before) w->written[w->n++] = t;
}

ParameterizedTestParameters(plan_memory, all_is_set_once_then_added_to_and_read_after) { return all_kinds(); }
ParameterizedTest(const kind *c, plan_memory, all_is_set_once_then_added_to_and_read_after)
{
    err why = {0};
    net_rig r = build(c->s, c->u, false);
    walk w = {.p = r.p};
    int gradients = 0, parameters = 0;
    cr_assert_eq(mem_array(&w.written, (size_t)r.p->n_tensor, sizeof *w.written, "test", &why), DDPM_OK);
    for (int i = 0; i < r.p->n_step; i++) {
        const step *s = r.p->steps[i];
        for (int k = 0; k < STEP_IN; k++)
            cr_expect(!s->in[k] || is_written(&w, s->in[k]), "%s (%s) reads %s, which nobody has written", s->path,
                      op_name[s->op], s->in[k]->name);
        for (int k = 0; k < STEP_OUT; k++)
            if (s->out[k] && (s->out[k]->arena == ARENA_ACT || s->out[k]->arena == ARENA_GRAD)) walk_output(&w, s, k);
    }
    for (int i = 0; i < r.p->n_tensor; i++) {
        const tensor *t = r.p->tensors[i];
        if (t->arena != ARENA_PARAM) continue;
        parameters++;
        gradients += t->grad && among(w.written, w.n, t->grad);
    }
    cr_expect_eq(gradients, c->u == SAMPLE ? 0 : parameters, "%d of %d parameters have a gradient", gradients,
                 parameters);
    mem_free(w.written);
    net_destroy(&r);
}

/* No step of the backward pass works for nothing. */
static bool is_read(const plan *p, int from, const tensor *t)
{
    for (int i = from; i < p->n_step; i++)
        for (int k = 0; k < STEP_IN; k++)
            if (p->steps[i]->in[k] && (p->steps[i]->in[k] == t || p->steps[i]->in[k] == t->base)) return true;
    return false;
}

ParameterizedTestParameters(plan_memory, every_gradient_is_read) { return all_kinds(); }
ParameterizedTest(const kind *c, plan_memory, every_gradient_is_read)
{
    net_rig r = build(c->s, c->u, false);
    for (int i = r.p->n_forward; i < r.p->n_step; i++)
        for (int k = 0; k < STEP_OUT; k++) {
            const tensor *t = r.p->steps[i]->out[k];
            if (!t || t->arena != ARENA_ACT) continue;
            if (r.p->steps[i]->recomputed && k != NORM_Y) continue; /* the statistics, known already */
            cr_expect(is_read(r.p, i + 1, t), "%s (%s) writes %s, which nobody reads", r.p->steps[i]->path,
                      op_name[r.p->steps[i]->op], t->name);
        }
    net_destroy(&r);
}

Test(plan_memory, gradients_end_at_the_time_embedding)
{
    err why = {0};
    backend *be = NULL;
    plan *p = NULL;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why), DDPM_OK);
    cr_assert_eq(plan_create(be, &p, &why), DDPM_OK);
    p->training = true;
    tensor *t = plan_input(p, DTYPE_F32, "t", 2, 1, 1, 1), *freq = plan_input(p, DTYPE_F32, "freq", 4, 1, 1, 1);
    plan_want_grad(p, t);
    tensor *embedding = nn_time_embed(p, t, freq, 8, false);
    tensor *y = nn_linear(p, &(nn_linear_args){.x = embedding, .cout = 3, .name = "linear"});
    plan_differentiate(p, y, plan_input(p, DTYPE_F32, "dy", 2, 1, 1, 3));
    cr_expect(plan_ok(p), "%s", p->first.text);
    cr_expect_null(embedding->grad);
    cr_expect_null(t->grad);
    plan_destroy(p);
    backend_destroy(be);
}

Test(plan_memory, dump_has_a_line_for_every_step)
{
    net_rig r = build(SMALL, TRAIN, false);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    cr_assert_not_null(to);
    plan_dump(r.p, to);
    (void)fclose(to);
    int lines = 0;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    cr_expect_eq(lines, r.p->n_step);
    cr_expect_not_null(strstr(text, " norm_act      down_blocks.0.resnets.0.norm2"));
    cr_expect_not_null(strstr(text, " d.down_blocks.0.resnets.0.conv1.weight[8,3,3,8]@0="));
    free(text);
    net_destroy(&r);
}

/* ---- what packing must not change ---- */

ParameterizedTestParameters(plan_memory, packing_changes_no_bit)
{
    static shape shapes[SHAPES];
    for (int i = 0; i < SHAPES; i++) shapes[i] = (shape)i;
    return cr_make_param_array(shape, shapes, SHAPES);
}
ParameterizedTest(const shape *s, plan_memory, packing_changes_no_bit)
{
    err why = {0};
    net_rig r[2] = {build(*s, TRAIN, false), build(*s, TRAIN, true)};
    for (int i = 0; i < 2; i++) {
        net_start(&r[i]);
        for (int k = 0; k < 3; k++) {
            net_run(&r[i]);
            cr_assert_eq(plan_run(r[i].update, &why), DDPM_OK, "%s", why.text);
        }
    }
    const train_state *state = r[0].state->data;
    cr_expect(state->updates == 3 && isfinite(state->loss) && state->grad_norm > 0);
    cr_expect_arr_eq(r[0].state->data, r[1].state->data, sizeof *state);
    for (int a = ARENA_PARAM; a <= ARENA_EMA; a++)
        cr_expect_arr_eq(r[0].store->arena[a], r[1].store->arena[a], r[0].store->count * sizeof(float), "arena %d", a);
    net_destroy(&r[0]);
    net_destroy(&r[1]);
}

/* ---- plan_keep ---- */

enum { CHAIN = 5, VALUES = 64 };

/* relu(x), then affine maps of it; whether the relu's memory was given to another tensor. */
static bool chain(bool keep, float *relu)
{
    err why = {0};
    net_rig r = {0};
    float x[VALUES];
    bool shared = false;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &r.be, &why), DDPM_OK);
    cr_assert_eq(plan_create(r.be, &r.p, &why), DDPM_OK);
    r.x = plan_input(r.p, DTYPE_F32, "x", 1, 1, 1, VALUES);
    tensor *first = nn_relu(r.p, r.x), *y = first;
    if (keep) plan_keep(r.p, first);
    for (int i = 0; i < CHAIN; i++) y = nn_affine(r.p, y, 2, 1);
    cr_assert_eq(plan_finish(r.p, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(plan_allocate(r.p, &why), DDPM_OK, "%s", why.text);
    for (int i = 0; i < r.p->n_tensor; i++)
        shared |=
            r.p->tensors[i] != first && r.p->tensors[i]->arena == ARENA_ACT && r.p->tensors[i]->data == first->data;
    for (int i = 0; i < VALUES; i++) x[i] = (float)(i % 5 - 2);
    cr_assert_eq(plan_write(r.p, r.x, x, &why), DDPM_OK);
    net_run(&r);
    cr_assert_eq(plan_read(r.p, first, relu, &why), DDPM_OK);
    plan_destroy(r.p);
    backend_destroy(r.be);
    return shared;
}

Test(plan_memory, what_is_kept_can_be_read_after_the_run)
{
    float relu[VALUES];
    cr_expect(chain(false, relu), "not kept, and yet its memory serves nothing else: this test proves nothing");
    cr_expect(!chain(true, relu), "kept, but its memory is another tensor's too");
    for (int i = 0; i < VALUES; i++) cr_expect_eq(relu[i], (float)(i % 5 > 2 ? i % 5 - 2 : 0), "at %d: %g", i, relu[i]);
}
