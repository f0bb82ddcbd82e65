#include "plan/plan_finite.h"
#include "base/arith.h"
#include "base/mem.h"
#include "ir/operands.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PIECE = 1 << 16 }; /* elements that are read at once */

static bool is_float(const tensor *t) { return t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16; }

static bool all_finite(dtype d, const void *values, int64_t n)
{
    bool finite = true;
    if (d == DTYPE_F32)
        for (int64_t i = 0; i < n; i++) finite &= isfinite(((const float *)values)[i]) != 0;
    else
        for (int64_t i = 0; i < n; i++) finite &= (((const uint16_t *)values)[i] & 0x7f80) != 0x7f80;
    return finite;
}

/* Reads the tensor in pieces; of a view only its own columns, because the others may not be computed yet. */
static ddpm_status look(backend *be, const tensor *t, void *piece, bool *finite, err *e)
{
    const int64_t rows = t->base ? t->n : 1, length = t->base ? t->c : tensor_count(t);
    const size_t each = dtype_size(t->dtype);
    *finite = true;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t at = 0; at < length && *finite; at += PIECE) {
            const int64_t n = min_i64(PIECE, length - at);
            const char *from = (const char *)t->data + (size_t)(row * tensor_ld(t) + at) * each;
            TRY(be->fn->download(be, piece, from, (size_t)n * each, e));
            *finite = all_finite(t->dtype, piece, n);
        }
    return DDPM_OK;
}

static ddpm_status look_at_results(backend *be, const step *s, void *piece, const tensor **bad, err *e)
{
    for (int k = 0; k < STEP_OUT && !*bad; k++) {
        const tensor *t = s->out[k];
        bool finite;
        if (!t || !t->data || !is_float(t)) continue;
        TRY(look(be, t, piece, &finite, e));
        if (!finite) *bad = t;
    }
    return DDPM_OK;
}

static ddpm_status look_at_weights(backend *be, const step *s, void *piece, const tensor **bad, err *e)
{
    for (int k = 0; k < STEP_IN && !*bad; k++) {
        const tensor *t = s->in[k];
        bool finite;
        if (!t || t->arena != ARENA_PARAM) continue;
        TRY(look(be, t, piece, &finite, e));
        if (!finite) *bad = t;
    }
    return DDPM_OK;
}

ddpm_status plan_first_not_finite(plan *p, plan_finding *out, err *e)
{
    void *piece = NULL;
    ddpm_status st = DDPM_OK;
    *out = (plan_finding){.s = NULL};
    TRY(mem_array(&piece, PIECE, sizeof(float), "values of a layer", e));
    for (int i = 0; i < p->n_step && !out->s; i++) {
        step *s = p->steps[i];
        if (op_flag[s->op] & OP_UPDATE) continue;
        TRY_GOTO(p->be->fn->run(p->be, &p->steps[i], 1, 1, e));
        TRY_GOTO(look_at_results(p->be, s, piece, &out->result, e));
        if (!out->result) continue;
        TRY_GOTO(look_at_weights(p->be, s, piece, &out->weights, e));
        out->s = s;
        out->backward = i >= p->n_forward;
    }
done:
    mem_free(piece);
    return st;
}

void plan_finding_text(const plan_finding *f, char *text, size_t cap)
{
    const char *pass = f->backward ? "backward" : "forward", *name = f->result->name;
    char of_weights[NAME_CAP + 32] = "";
    if (f->weights) (void)snprintf(of_weights, sizeof of_weights, ", which reads non-finite %s", f->weights->name);
    if (f->s->op == OP_loss && f->result != f->s->out[LOSS_DPRED])
        (void)snprintf(text, cap, "the loss (%s)", pass);
    else if (f->result->arena == ARENA_GRAD)
        (void)snprintf(text, cap, "gradient of %s (%s)%s", strncmp(name, "d.", 2) ? name : name + 2, pass, of_weights);
    else
        (void)snprintf(text, cap, "%s %s (%s)%s", f->backward ? "gradient that leaves" : "output of", f->s->path, pass,
                       of_weights);
}
