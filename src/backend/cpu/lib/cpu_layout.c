#include "backend/cpu/lib/cpu_layout.h"
#include "base/arith.h"
#include "base/mem.h"
#include "ir/operands.h"

#include <string.h>

/* Operands that an op takes in both layouts, a bit per position; with `alike`, all must have the same layout. */
typedef struct op_layouts {
    unsigned in, out;
    bool alike;
} op_layouts;

#define AT(operand) (1u << (operand))
static const op_layouts layouts[OP_COUNT] = {
    [OP_conv2d] = {AT(CONV_X) | AT(CONV_X2) | AT(CONV_RESIDUAL), AT(CONV_Y), false},
    [OP_conv2d_dx] = {AT(CONV_DX_DY), AT(CONV_DX_DX) | AT(CONV_DX_DX2), false},
    [OP_conv2d_dw] = {AT(CONV_DW_X) | AT(CONV_DW_X2) | AT(CONV_DW_DY), 0, false},
    [OP_upconv] = {AT(UPCONV_X), AT(UPCONV_Y), false},
    [OP_upconv_dx] = {AT(UPCONV_DX_DY), AT(UPCONV_DX_DX), false},
    [OP_upconv_dw] = {AT(UPCONV_DW_X) | AT(UPCONV_DW_DY), 0, false},
    [OP_norm_act] = {AT(NORM_X) | AT(NORM_X2), AT(NORM_Y), false},
    [OP_norm_act_bwd] = {AT(NORM_BWD_DY) | AT(NORM_BWD_X) | AT(NORM_BWD_X2), AT(NORM_BWD_DX) | AT(NORM_BWD_DX2), false},
    [OP_copy] = {AT(POINT_X), AT(POINT_Y), false},
    [OP_affine] = {AT(POINT_X), AT(POINT_Y), true},
    [OP_relu] = {AT(POINT_X), AT(POINT_Y), true},
    [OP_relu_bwd] = {AT(RELU_BWD_DY) | AT(RELU_BWD_Y), AT(RELU_BWD_DX), true},
};

static bool fills_blocks(const tensor *t)
{
    return t->arena == ARENA_ACT && !t->keep && !t->base && t->dtype == DTYPE_F32 && t->c > 0 &&
           t->c % CHANNEL_BLOCK == 0;
}

static bool make_nhwc(tensor *t)
{
    if (!t || t->layout == LAYOUT_NHWC) return false;
    t->layout = LAYOUT_NHWC;
    return true;
}

/* Makes each operand of a list NHWC unless the op takes both layouts at its position.  Returns true if anything
 * changed. */
static bool settle(tensor *const *list, int n, unsigned either, bool *all_blocked)
{
    bool changed = false;
    for (int i = 0; i < n; i++) {
        if (!list[i]) continue;
        if (!(either >> i & 1))
            changed |= make_nhwc(list[i]);
        else
            *all_blocked &= list[i]->layout == LAYOUT_BLOCKED;
    }
    return changed;
}

static bool touches(const step *s, const tensor *t)
{
    for (int k = 0; k < STEP_IN; k++)
        if (s->in[k] == t) return true;
    for (int k = 0; k < STEP_OUT; k++)
        if (s->out[k] == t) return true;
    return false;
}

static bool is_product(const step *s)
{
    return (s->op == OP_conv2d || s->op == OP_conv2d_dx || s->op == OP_conv2d_dw) && s->a.conv.kernel == 1;
}

/* True if only norms and 1x1 convolutions use t.  Norms read and write both layouts at the same speed, so t should
 * be NHWC if the other side of the convolution is. */
static bool between_norm_and_product(step *const *steps, int n, const tensor *t)
{
    for (int i = 0; i < n; i++) {
        const step *s = steps[i];
        if (touches(s, t) && s->op != OP_norm_act && s->op != OP_norm_act_bwd && !is_product(s)) return false;
    }
    return true;
}

static bool follow_product(step *const *steps, int n, const step *s)
{
    tensor *to = NULL;
    if (s->op == OP_conv2d && s->out[CONV_Y]->layout == LAYOUT_NHWC && !s->in[CONV_X2]) to = s->in[CONV_X];
    if (s->op == OP_conv2d_dx && s->in[CONV_DX_DY]->layout == LAYOUT_NHWC && !s->out[CONV_DX_DX2])
        to = s->out[CONV_DX_DX];
    return to && is_product(s) && to->layout == LAYOUT_BLOCKED && between_norm_and_product(steps, n, to) &&
           make_nhwc(to);
}

static bool settle_step(step *const *steps, int n, step *s)
{
    const op_layouts *can = &layouts[s->op];
    bool all_blocked = true;
    bool changed = settle(s->in, STEP_IN, can->in, &all_blocked);
    changed |= settle(s->out, STEP_OUT, can->out, &all_blocked);
    changed |= make_nhwc(s->scratch);
    if (can->alike && !all_blocked) {
        changed |= settle(s->in, STEP_IN, 0, &all_blocked);
        changed |= settle(s->out, STEP_OUT, 0, &all_blocked);
    }
    return follow_product(steps, n, s) || changed;
}

void cpu_arrange(step *const *steps, int n)
{
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < STEP_IN; k++)
            if (steps[i]->in[k]) steps[i]->in[k]->layout = fills_blocks(steps[i]->in[k]) ? LAYOUT_BLOCKED : LAYOUT_NHWC;
        for (int k = 0; k < STEP_OUT; k++)
            if (steps[i]->out[k])
                steps[i]->out[k]->layout = fills_blocks(steps[i]->out[k]) ? LAYOUT_BLOCKED : LAYOUT_NHWC;
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < n; i++) changed |= settle_step(steps, n, steps[i]);
    }
}

static void copy_all(const float *x, float *y, int64_t count, bool add)
{
    if (add) {
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < count; i++) y[i] += x[i];
    } else {
#pragma omp parallel for simd schedule(static)
        for (int64_t i = 0; i < count; i++) y[i] = x[i];
    }
}

static void move_block(const float *x, int64_t x_step, float *y, int64_t y_step, int64_t pixels, bool add)
{
    for (int64_t p = 0; p < pixels; p++) {
        const float *from = x + p * x_step;
        float *to = y + p * y_step;
        if (add) {
#pragma omp simd
            for (int c = 0; c < CHANNEL_BLOCK; c++) to[c] += from[c];
        } else {
            memcpy(to, from, CHANNEL_BLOCK * sizeof *to);
        }
    }
}

void cpu_relayout(const tensor *t, const float *x, tensor_layout x_layout, float *y, tensor_layout y_layout, bool add)
{
    if (x_layout == y_layout) {
        copy_all(x, y, tensor_count(t), add);
        return;
    }
    const int64_t blocks = t->c / CHANNEL_BLOCK, hw = tensor_hw(t);
    const cpu_strides from = cpu_strides_of(t, x_layout), to = cpu_strides_of(t, y_layout);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t b = 0; b < blocks; b++)
            move_block(x + i * from.image + b * from.block, from.pixel, y + i * to.image + b * to.block, to.pixel, hw,
                       add);
}

staged stage(const tensor *t, tensor_layout layout, bool add, size_t *end)
{
    staged g = {.t = t, .layout = layout, .at = *end, .add = add};
    if (!t) return g;
    g.copied = add || t->layout != layout;
    if (g.copied) *end += round_up_size((size_t)tensor_count(t) * sizeof(float), MEM_ALIGN);
    return g;
}

float *stage_write(const staged *g, const step *s)
{
    if (!g->t) return NULL;
    return g->copied ? (float *)(void *)((char *)s->scratch->data + g->at) : g->t->data;
}

const float *stage_read(const staged *g, const step *s)
{
    float *to = stage_write(g, s);
    if (to && g->copied) cpu_relayout(g->t, g->t->data, g->t->layout, to, g->layout, false);
    return to;
}

void stage_done(const staged *g, const step *s)
{
    if (g->t && g->copied) cpu_relayout(g->t, stage_write(g, s), g->layout, g->t->data, g->t->layout, g->add);
}
