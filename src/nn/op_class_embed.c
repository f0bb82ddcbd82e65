/* op_class_embed.c - rows of a table added to the time embedding, before its last SiLU. */
#include "ir/operands.h"
#include "nn/nn.h"

static bool check_table(plan *p, const tensor *x, const tensor *table, const tensor *labels)
{
    const int64_t rows = labels ? tensor_count(labels) : table->n;
    if (table->c != x->c)
        plan_fail(p, DDPM_EINVAL, "class embeddings of %lld values for a time embedding of %lld", (long long)table->c,
                  (long long)x->c);
    else if (rows != x->n)
        plan_fail(p, DDPM_EINVAL, "%lld %s for %lld images", (long long)rows, labels ? "labels" : "class embeddings",
                  (long long)x->n);
    return plan_ok(p);
}

tensor *nn_class_embed(plan *p, tensor *x, tensor *table, tensor *labels)
{
    if (!x || !table || !plan_ok(p) || !check_table(p, x, table, labels)) return NULL;
    tensor *y = plan_like(p, x, "class_embedding");
    plan_push(p, "class_embedding");
    step *s = plan_emit(p, OP_class_embed);
    plan_pop(p);
    s->in[CLASS_EMBED_X] = x, s->in[CLASS_EMBED_TABLE] = table, s->in[CLASS_EMBED_LABELS] = labels;
    s->out[CLASS_EMBED_Y] = y;
    return y;
}

void class_embed_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_class_embed_bwd);
    s->in[CLASS_EMBED_BWD_DY] = f->out[CLASS_EMBED_Y]->grad;
    s->in[CLASS_EMBED_BWD_X] = f->in[CLASS_EMBED_X];
    s->in[CLASS_EMBED_BWD_TABLE] = f->in[CLASS_EMBED_TABLE];
    s->in[CLASS_EMBED_BWD_LABELS] = f->in[CLASS_EMBED_LABELS];
    plan_grad_out(p, s, CLASS_EMBED_BWD_DX, f->in[CLASS_EMBED_X]);
    plan_grad_out(p, s, CLASS_EMBED_BWD_DTABLE, f->in[CLASS_EMBED_TABLE]);
}
