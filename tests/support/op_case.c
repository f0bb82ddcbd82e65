#include "support/op_case.h"
#include "ir/operands.h"
#include "ref/ref_ops.h"

#include <stdlib.h>
#include <string.h>

/* The macros of cases.def as initializers of an op_case; a field that a macro does not name is 0. */
#define SHAPE(N, H, W, C) .n = N, .h = H, .w = W, .c = C

#define CONV(N, H, W, C, C2, COUT, KERNEL, STRIDE, PAD_END, RESIDUAL)                                                  \
    {.op = OP_conv2d,                                                                                                  \
     SHAPE(N, H, W, C),                                                                                                \
     .c2 = C2,                                                                                                         \
     .cout = COUT,                                                                                                     \
     .kernel = KERNEL,                                                                                                 \
     .stride = STRIDE,                                                                                                 \
     .pad_end = PAD_END,                                                                                               \
     .residual = RESIDUAL},
#define UPCONV(N, H, W, C, COUT) {.op = OP_upconv, SHAPE(N, H, W, C), .cout = COUT},

#define NORM(N, H, W, C, C2, GROUPS, SILU, COND)                                                                       \
    {.op = OP_norm_act, SHAPE(N, H, W, C), .c2 = C2, .groups = GROUPS, .silu = SILU, .cond = COND},
#define NORM_COLUMNS(N, H, W, C, C2, GROUPS, SILU, COND)                                                               \
    {.op = OP_norm_act, SHAPE(N, H, W, C), .c2 = C2, .groups = GROUPS, .silu = SILU, .cond = COND, .columns = true},
#define NORM_DROPOUT(N, H, W, C, C2, GROUPS, SILU, COND)                                                               \
    {.op = OP_norm_act, SHAPE(N, H, W, C), .c2 = C2, .groups = GROUPS, .silu = SILU, .cond = COND, .dropout = true},

#define LINEAR(N, C, COUT, SILU)     {.op = OP_linear, SHAPE(N, 1, 1, C), .cout = COUT, .silu = SILU},
#define ATTENTION(N, H, W, C, HEADS) {.op = OP_attention, SHAPE(N, H, W, C), .groups = HEADS},
#define TIME_EMBED(N, DIM, FLIP)     {.op = OP_time_embed, SHAPE(N, 1, 1, DIM), .flip_sin_to_cos = FLIP},

#define TIME_MLP(N, DIM, WIDTH, FLIP)  {.op = OP_time_mlp, SHAPE(N, 1, 1, DIM), .cout = WIDTH, .flip_sin_to_cos = FLIP},
#define POINT(OP, N, H, W, C)          {.op = OP_##OP, SHAPE(N, H, W, C)},
#define CONCAT(N, H, W, C, C2)         {.op = OP_concat, SHAPE(N, H, W, C), .c2 = C2},
#define CLASS_EMBED(N, WIDTH, CLASSES) {.op = OP_class_embed, SHAPE(N, 1, 1, WIDTH), .cout = CLASSES},

static const op_case cases[] = {
#include "cases.def"
};

const op_case *op_cases(int *n)
{
    *n = (int)(sizeof cases / sizeof *cases);
    return cases;
}

bool op_takes_images(const op_case *c)
{
    return c->op != OP_linear && c->op != OP_time_embed && c->op != OP_time_mlp && c->op != OP_class_embed;
}

int64_t op_label(const op_case *c, int b) { return (b / 2 * 5 + 1) % (c->cout + 1) - 1; }

bool op_fills_some_blocks(const op_case *c)
{
    const int channels[] = {c->c, c->c2, c->cout};
    bool some = false;
    for (int i = 0; i < 3; i++) some |= channels[i] > 0 && channels[i] % 16 == 0;
    return some && op_takes_images(c);
}

bool op_fills_blocks(const op_case *c)
{
    const bool works = op_takes_images(c) && c->op != OP_attention && c->op != OP_concat;
    return works && c->c % 16 == 0 && c->c2 % 16 == 0 && c->cout % 16 == 0;
}

const char *op_case_text(const op_case *c, char text[160])
{
    (void)snprintf(
        text, 160,
        "%s n %d, %dx%d, c %d + %d, cout %d, kernel %d, stride %d, groups %d, cond %d%s%s%s%s%s, activations %x",
        op_name[c->op], c->n, c->h, c->w, c->c, c->c2, c->cout, c->kernel, c->stride, c->groups, c->cond,
        c->pad_end ? ", pad_end" : "", c->residual ? ", residual" : "", c->silu ? ", silu" : "",
        c->columns ? ", columns" : "", c->dropout ? ", dropout" : "", c->activations);
    return text;
}

/* ---- in a plan ---- */

static tensor *input(op_graph *g, const char *name, const int64_t dims[4])
{
    return g->operand[g->n_input++] = plan_input(g->p, g->p->be->act, name, dims[0], dims[1], dims[2], dims[3]);
}

static tensor *copy_of(op_graph *g, tensor *x, tensor *y)
{
    step *s = plan_emit(g->p, OP_copy);
    s->in[POINT_X] = x, s->out[POINT_Y] = y;
    return y;
}

/* The image that the op reads: an input of the plan, or an activation, which is a copy of the input. */
static tensor *image_of(op_graph *g, const op_case *c, const char *name, const int64_t dims[4])
{
    tensor *x = input(g, name, dims);
    const int k = g->n_input - 1;
    if (c->activations >> k & 1) g->activation[k] = copy_of(g, x, plan_like(g->p, x, "activation"));
    return g->activation[k] ? g->activation[k] : x;
}

static tensor *input_f32(op_graph *g, const char *name, int64_t n)
{
    return g->operand[g->n_input++] = plan_input(g->p, DTYPE_F32, name, n, 1, 1, 1);
}

static tensor *image(op_graph *g, const op_case *c, const char *name, int64_t channels)
{
    return image_of(g, c, name, (const int64_t[]){c->n, c->h, c->w, channels});
}

static tensor *row(op_graph *g, const op_case *c, const char *name, int64_t channels)
{
    return input(g, name, (const int64_t[]){c->n, 1, 1, channels});
}

static tensor *build_conv(const op_case *c, op_graph *g)
{
    nn_conv_args a = {.cout = c->cout, .kernel = c->kernel, .stride = c->stride, .pad_end = c->pad_end, .name = "conv"};
    a.x = image(g, c, "x", c->c);
    if (c->c2) a.x2 = image(g, c, "x2", c->c2);
    const int64_t h = (c->h + c->stride - 1) / c->stride, w = (c->w + c->stride - 1) / c->stride;
    if (c->residual) a.residual = image_of(g, c, "residual", (const int64_t[]){c->n, h, w, c->cout});
    return nn_conv2d(g->p, &a);
}

static int64_t cond_width(const op_case *c) { return (c->cond == COND_SCALE_SHIFT ? 2 : 1) * (c->c + c->c2); }

static tensor *build_norm(const op_case *c, op_graph *g)
{
    nn_norm_args a = {
        .kind = (norm_cond)c->cond, .groups = c->groups, .eps = (double)NORM_EPS, .silu = c->silu, .name = "norm"};
    a.x = image(g, c, "x", c->c);
    if (c->c2) a.x2 = image(g, c, "x2", c->c2);
    if (c->cond != COND_NONE) a.cond = row(g, c, "cond", cond_width(c) + (c->columns ? 2 * OP_MARGIN : 0));
    if (c->columns) a.cond = plan_columns(g->p, a.cond, OP_MARGIN, cond_width(c));
    if (c->dropout) {
        a.state = g->state = plan_input(g->p, DTYPE_U8, "state", sizeof(train_state), 1, 1, 1);
        a.dropout = DROPOUT_RATE, a.dropout_layer = DROPOUT_LAYER;
    }
    return nn_norm_act(g->p, &a);
}

static tensor *build_concat(const op_case *c, op_graph *g)
{
    tensor *x = image(g, c, "x", c->c);
    return nn_concat(g->p, x, image(g, c, "x2", c->c2));
}

static tensor *build_copy(const op_case *c, op_graph *g)
{
    tensor *x = image(g, c, "x", c->c);
    return copy_of(g, x, plan_like(g->p, x, "copy"));
}

static tensor *build_class_embed(const op_case *c, op_graph *g)
{
    tensor *x = row(g, c, "x", c->c);
    if (c->cout == 0) return nn_class_embed(g->p, x, row(g, c, "vectors", c->c), NULL);
    tensor *table = g->operand[g->n_input++] = plan_input(g->p, DTYPE_F32, "table", c->cout, 1, 1, c->c);
    g->labels = plan_input(g->p, DTYPE_I64, "labels", c->n, 1, 1, 1);
    return nn_class_embed(g->p, x, table, g->labels);
}

static tensor *build(const op_case *c, op_graph *g)
{
    plan *p = g->p;
    switch ((int)c->op) {
    case OP_conv2d: return build_conv(c, g);
    case OP_norm_act: return build_norm(c, g);
    case OP_copy: return build_copy(c, g);
    case OP_concat: return build_concat(c, g);
    case OP_upconv: return nn_upconv(p, image(g, c, "x", c->c), c->cout, INIT_FAN_AVG, "upconv");
    case OP_linear:
        return nn_linear(
            p, &(nn_linear_args){.x = row(g, c, "x", c->c), .cout = c->cout, .silu = c->silu, .name = "linear"});
    case OP_attention: return nn_attention(p, image(g, c, "qkv", 3 * c->c), c->groups);
    case OP_time_embed: {
        tensor *t = input_f32(g, "t", c->n);
        return nn_time_embed(p, t, input_f32(g, "freq", c->c / 2), c->c, c->flip_sin_to_cos);
    }
    case OP_time_mlp: {
        tensor *t = input_f32(g, "t", c->n), *freq = input_f32(g, "freq", c->c / 2);
        return nn_time_mlp(p, &(nn_time_mlp_args){.t = t,
                                                  .freq = freq,
                                                  .dim = c->c,
                                                  .width = c->cout,
                                                  .flip_sin_to_cos = c->flip_sin_to_cos,
                                                  .name = "mlp"});
    }
    case OP_class_embed: return build_class_embed(c, g);
    case OP_relu: return nn_relu(p, image(g, c, "x", c->c));
    case OP_affine: return nn_affine(p, image(g, c, "x", c->c), AFFINE_SCALE, AFFINE_SHIFT);
    }
    return NULL;
}

void op_build(const op_case *c, op_graph *g)
{
    g->y = build(c, g);
    if (c->activations >> OP_Y_ACTIVATION) {
        g->y_activation = g->y;
        g->y = copy_of(g, g->y_activation, plan_like(g->p, g->y_activation, "output"));
    }
    g->n_operand = g->n_input;
    for (int i = 0; i < g->p->n_tensor; i++)
        if (g->p->tensors[i]->arena == ARENA_PARAM) g->operand[g->n_operand++] = g->p->tensors[i];
}

static int cond_operand(const op_case *c) { return c->c2 ? 2 : 1; }

bool op_reads(const op_case *c, int k, int64_t i)
{
    if (!c->columns || k != cond_operand(c)) return true;
    const int64_t column = i % (cond_width(c) + 2 * OP_MARGIN) - OP_MARGIN;
    return column >= 0 && column < cond_width(c);
}

bool op_differentiates(const op_case *c, int k) { return c->op != OP_time_embed && (c->op != OP_time_mlp || k >= 2); }

/* ---- in double ---- */

static ref_conv conv_of(const op_case *c)
{
    return (ref_conv){c->n, c->h, c->w, c->c, c->c2, c->cout, c->kernel, c->stride, c->pad_end};
}

static void reference_conv(const op_case *c, double *const v[], double *y)
{
    const ref_conv a = conv_of(c);
    int k = 0;
    const double *x = v[k++], *x2 = c->c2 ? v[k++] : NULL, *residual = c->residual ? v[k++] : NULL;
    ref_conv2d(&a, x, x2, v[k], v[k + 1], residual, y);
}

/* The columns that the op reads, without the margins. */
static double *narrow(const op_case *c, const double *cond)
{
    const size_t width = (size_t)cond_width(c), wide = width + 2 * OP_MARGIN;
    double *to = malloc((size_t)c->n * width * sizeof *to);
    if (!to) abort();
    for (int b = 0; b < c->n; b++)
        memcpy(to + (size_t)b * width, cond + (size_t)b * wide + OP_MARGIN, width * sizeof *to);
    return to;
}

static void reference_norm(const op_case *c, double *const v[], const train_state *state, double *y)
{
    const ref_norm a = {c->n, c->h * c->w, c->c, c->c2, c->groups, (double)NORM_EPS, c->silu, c->cond};
    int k = 0;
    const double *x = v[k++], *x2 = c->c2 ? v[k++] : NULL, *cond = c->cond ? v[k++] : NULL;
    double *narrowed = c->columns ? narrow(c, cond) : NULL;
    ref_norm_act(&a, x, x2, v[k], v[k + 1], narrowed ? narrowed : cond, y);
    free(narrowed);
    if (!c->dropout) return;
    const int d = c->h * c->w * (c->c + c->c2);
    ref_dropout(c->n, d, (double)DROPOUT_RATE, DROPOUT_LAYER, state, y, y);
}

static void reference_time_mlp(const op_case *c, double *const v[], double *y)
{
    double *h0 = malloc((size_t)c->n * (size_t)c->c * sizeof *h0),
           *h1 = malloc((size_t)c->n * (size_t)c->cout * sizeof *h1);
    if (!h0 || !h1) abort();
    ref_time_embed(c->n, c->c, c->flip_sin_to_cos, v[0], v[1], h0);
    ref_linear(c->n, c->c, c->cout, true, h0, v[2], v[3], h1);
    ref_linear(c->n, c->cout, c->cout, true, h1, v[4], v[5], y);
    free(h0);
    free(h1);
}

static void reference_class_embed(const op_case *c, double *const v[], double *y)
{
    int64_t *labels = malloc((size_t)c->n * sizeof *labels);
    if (!labels) abort();
    for (int b = 0; b < c->n; b++) labels[b] = c->cout ? op_label(c, b) : b;
    ref_class_embed(c->n, c->c, labels, v[0], v[1], y);
    free(labels);
}

void op_reference(const op_case *c, double *const v[OP_OPERANDS], const train_state *state, double *y)
{
    const int hw = c->h * c->w;
    const int64_t count = (int64_t)c->n * hw * c->c;
    const ref_conv conv = conv_of(c);
    switch ((int)c->op) {
    case OP_conv2d: reference_conv(c, v, y); return;
    case OP_norm_act: reference_norm(c, v, state, y); return;
    case OP_upconv: ref_upconv(&conv, v[0], v[1], v[2], y); return;
    case OP_linear: ref_linear(c->n, c->c, c->cout, c->silu, v[0], v[1], v[2], y); return;
    case OP_attention: ref_attention(c->n, hw, c->c, c->groups, v[0], y); return;
    case OP_time_embed: ref_time_embed(c->n, c->c, c->flip_sin_to_cos, v[0], v[1], y); return;
    case OP_time_mlp: reference_time_mlp(c, v, y); return;
    case OP_class_embed: reference_class_embed(c, v, y); return;
    case OP_relu: ref_relu(count, v[0], y); return;
    case OP_affine: ref_affine(count, (double)AFFINE_SCALE, (double)AFFINE_SHIFT, v[0], y); return;
    case OP_concat: ref_concat(c->n * hw, c->c, c->c2, v[0], v[1], y); return;
    case OP_copy: ref_affine(count, 1, 0, v[0], y); return;
    }
}
