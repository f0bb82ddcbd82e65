/* mb_up.c - mb3: nearest x2 and a 3x3 convolution, folded into one 4x4 transposed convolution and unfolded, beside the
 * plain 3x3 convolution with the same output. */
#include "mb.h"
#include "ir/operands.h"
#include "predictions.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <stdio.h>

enum { ROWS = 16, CHECKED = 24 };

typedef struct up_shape {
    int64_t n, h, w, cin, cout; /* of x; the output is twice as high and wide */
    bool plain;                 /* no upsampling: x is as large as the output */
} up_shape;

static tensor *build_up(plan *p, const void *shape, tensor *in[OP_INPUTS])
{
    const up_shape *s = shape;
    const int scale = s->plain ? 2 : 1;
    in[0] = plan_input(p, p->be->act, "x", s->n, scale * s->h, scale * s->w, s->cin);
    if (!s->plain) return nn_upconv(p, in[0], s->cout, INIT_FAN_IN, "conv");
    return nn_conv2d(p, &(nn_conv_args){.x = in[0], .cout = s->cout, .init = INIT_FAN_IN, .name = "conv"});
}

/* ---- the reference, in double ---- */

typedef struct reference {
    const up_shape *s;
    dtype d;
    fill w, bias;
} reference;

static double w_at(const reference *f, int64_t co, int i, int j, int64_t ci)
{
    return mb_filled(f->w, ((co * 3 + i) * 3 + j) * f->s->cin + ci, f->d);
}

static int64_t source(const reference *f, int64_t place) { return f->s->plain ? place : place / 2; }

/* The (upsampled) input of the 3x3 convolution; 0 beyond the border. */
static double x_at(const reference *f, int64_t n, int64_t h, int64_t w, int64_t c)
{
    const int64_t tall = 2 * f->s->h, wide = 2 * f->s->w, row = f->s->plain ? wide : wide / 2;
    if (h < 0 || w < 0 || h >= tall || w >= wide) return 0;
    const int64_t pixel = (n * (f->s->plain ? tall : tall / 2) + source(f, h)) * row + source(f, w);
    return mb_value(0, pixel * f->s->cin + c, f->d);
}

static double dy_at(const reference *f, int64_t n, int64_t h, int64_t w, int64_t c)
{
    const int64_t tall = 2 * f->s->h, wide = 2 * f->s->w;
    if (h < 0 || w < 0 || h >= tall || w >= wide) return 0;
    return mb_value(STREAM_DY, ((n * tall + h) * wide + w) * f->s->cout + c, f->d);
}

static double y_at(const reference *f, const int64_t at[4])
{
    double y = mb_filled(f->bias, at[3], f->d);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int64_t c = 0; c < f->s->cin; c++)
                y += w_at(f, at[3], i, j, c) * x_at(f, at[0], at[1] + i - 1, at[2] + j - 1, c);
    return y;
}

/* Gradient of an element of the upsampled image. */
static double dup_at(const reference *f, int64_t n, int64_t h, int64_t w, int64_t c)
{
    double dx = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            for (int64_t k = 0; k < f->s->cout; k++) dx += w_at(f, k, i, j, c) * dy_at(f, n, h + 1 - i, w + 1 - j, k);
    return dx;
}

static double dx_at(const reference *f, const int64_t at[4])
{
    if (f->s->plain) return dup_at(f, at[0], at[1], at[2], at[3]);
    double dx = 0;
    for (int k = 0; k < 4; k++) dx += dup_at(f, at[0], 2 * at[1] + k / 2, 2 * at[2] + k % 2, at[3]);
    return dx;
}

static double dw_at(const reference *f, const int64_t at[4])
{
    double dw = 0;
    for (int64_t n = 0; n < f->s->n; n++)
        for (int64_t h = 0; h < 2 * f->s->h; h++)
            for (int64_t w = 0; w < 2 * f->s->w; w++)
                dw += dy_at(f, n, h, w, at[0]) * x_at(f, n, h + at[1] - 1, w + at[2] - 1, at[3]);
    return dw;
}

/* ---- */

typedef double reference_at(const reference *f, const int64_t at[4]);

static ddpm_status compare(const reference *f, backend *be, const tensor *t, reference_at *want, agreement *a, err *e)
{
    for (int k = 0; k < CHECKED; k++) {
        const int64_t i = mb_pick(k, tensor_count(t));
        const int64_t at[4] = {i / (t->h * t->w * t->c), i / (t->w * t->c) % t->h, i / t->c % t->w, i % t->c};
        double got;
        TRY(mb_read(be, t->data, t->dtype, i, &got, e));
        agree(a, got, want(f, at));
    }
    return DDPM_OK;
}

static ddpm_status check(mb_run *r, const void *shape, op_bench *b, bool *good, err *e)
{
    const up_shape *s = shape;
    const reference f = {s, b->y->dtype, op_param_fill(op_param(b, 0), 0), op_param_fill(op_param(b, 1), 1)};
    agreement y = {0}, dx = {0}, dw = {0};
    TRY(op_run_first(b, e));
    TRY(compare(&f, b->be, b->y, y_at, &y, e));
    TRY(compare(&f, b->be, b->in[0]->grad, dx_at, &dx, e));
    TRY(compare(&f, b->be, op_param(b, 0)->grad, dw_at, &dw, e));
    const double tolerance = mb_tolerance(f.d, r->o->backend.precision == PRECISION_TF32);
    *good = mb_check(r, "error_y", &y, tolerance);
    *good &= mb_check(r, "error_dx", &dx, tolerance);
    *good &= mb_check(r, "error_dw", &dw, tolerance);
    return DDPM_OK;
}

static double tflops(const up_shape *s, double share, double ms)
{
    return share * 2 * 9e-12 * (double)(s->n * 4 * s->h * s->w * s->cin * s->cout) / (1e-3 * ms);
}

static ddpm_status row(mb_run *r, backend *unfolded, const char *name, up_shape s, err *e)
{
    op_times folded, nearest, plain;
    ddpm_status st = DDPM_OK;
    printf("%-32s", name);
    json_out_open(&r->json, NULL, '{');
    json_out_text(&r->json, "shape", name);
    TRY_GOTO(op_measure(r, &(op_variant){r->be, "folded", build_up, check}, &s, &folded, e));
    TRY_GOTO(op_measure(r, &(op_variant){unfolded, "nearest_conv3x3", build_up, check}, &s, &nearest, e));
    s.plain = true;
    TRY_GOTO(op_measure(r, &(op_variant){r->be, "conv3x3", build_up, check}, &s, &plain, e));
    const double rate = tflops(&s, 16.0 / 36, folded.forward.median) / tflops(&s, 1, plain.forward.median);
    const double gain =
        (nearest.forward.median + nearest.backward.median) / (folded.forward.median + folded.backward.median);
    json_out_real(&r->json, "rate_over_conv3x3", rate);
    json_out_real(&r->json, "predicted_rate_at_least", UP_RATE_SHARE);
    json_out_real(&r->json, "speedup", gain);
    printf("  rate %.2f of the 3x3's, %.2fx as fast\n", rate, gain);
done:
    json_out_close(&r->json, '}');
    return st;
}

static ddpm_status rows_of(mb_run *r, backend *unfolded, const plan *net, err *e)
{
    const step *seen[ROWS];
    int rows = 0;
    for (int i = 0; i < net->n_forward && rows < ROWS; i++) {
        const step *s = net->steps[i];
        bool known = s->op != OP_upconv;
        for (int k = 0; k < rows && !known; k++) known = same_step(seen[k], s);
        if (known) continue;
        seen[rows++] = s;
        const tensor *x = s->in[UPCONV_X];
        char name[80];
        (void)snprintf(name, sizeof name, "%lldx%lldx%lldx%lld", (long long)x->n, (long long)x->h, (long long)x->w,
                       (long long)x->c);
        const up_shape shape = {x->n, x->h, x->w, x->c, s->out[UPCONV_Y]->c, false};
        if (mb_wanted(r, name)) TRY(row(r, unfolded, name, shape, e));
    }
    return DDPM_OK;
}

ddpm_status mb_up(mb_run *r, err *e)
{
    backend *unfolded = NULL;
    plan *net = NULL;
    model *m = NULL;
    backend_spec spec = r->o->backend;
    ddpm_status st = DDPM_OK;
#ifdef MB_CUDA
    spec.disabled |= CUDA_OPT_UPCONV;
#endif
    json_out_open(&r->json, "rows", '[');
    TRY_GOTO(backend_create(&spec, &unfolded, e));
    TRY_GOTO(net_list(r, &net, &m, e));
    TRY_GOTO(rows_of(r, unfolded, net, e));
done:
    json_out_close(&r->json, ']');
    plan_destroy(net);
    model_destroy(m);
    backend_destroy(unfolded);
    return st;
}
