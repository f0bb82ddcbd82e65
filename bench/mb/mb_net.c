/* mb_net.c - the network of a configuration: its steps and its weights. */
#include "base/clock.h"
#include "mb.h"
#include "predictions.h"
#include "train_state.h"

#include <stdio.h>
#include <string.h>

bool mb_wanted(const mb_run *r, const char *row)
{
    return strstr(row, r->o->only) != NULL && !mb_late(r, clock_seconds());
}

ddpm_status mb_model(const mb_run *r, backend *be, model **out, err *e)
{
    const network net = recipe_network(&r->o->config, r->image);
    const scheduler_config scheduler = recipe_scheduler(&r->o->config);
    return model_create(be, &net, &scheduler, out, e);
}

ddpm_status mb_load(const mb_run *r, model *m, err *e)
{
    pipeline p;
    char file[PATH_CAP];
    notes remarks = {.text = ""};
    if (!r->o->weights[0]) return params_init(m->store, (uint64_t)r->o->config.seed, e);
    TRY(pipeline_find(r->o->weights, &p, &remarks, e));
    TRY(weights_find(p.unet, file, e));
    return params_load(m->store, ARENA_PARAM, file, &remarks, e);
}

const predicted_step *mb_prediction(const mb_run *r)
{
    for (int k = 0; k < PREDICTED_STEPS; k++) {
        const char *file = r->o->config.files ? r->o->config.file[0] : "", *slash = strrchr(file, '/');
        char name[64];
        (void)snprintf(name, sizeof name, "%s.yaml", predicted_steps[k].config);
        if (strcmp(slash ? slash + 1 : file, name) == 0) return &predicted_steps[k];
    }
    return NULL;
}

/* ---- the steps of a network, to inspect ---- */

ddpm_status net_list(const mb_run *r, plan **out, model **m, err *e)
{
    const int64_t n = r->o->config.train.batch, h = r->image.h, w = r->image.w, c = r->image.c;
    *out = NULL;
    TRY(mb_model(r, r->be, m, e));
    TRY(plan_create(r->be, out, e));
    plan *p = *out;
    p->training = true;
    tensor *state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    tensor *x = plan_input(p, DTYPE_F32, "x", n, h, w, c), *t = plan_input(p, DTYPE_F32, "t", n, 1, 1, 1);
    tensor *y = network_build(&(*m)->net, p, &(network_inputs){.x = x, .t = t, .state = state}).y;
    if (y) plan_differentiate(p, y, plan_input(p, y->dtype, "dy", y->n, y->h, y->w, y->c));
    return plan_ok(p) ? DDPM_OK : err_set(e, p->first.status, "%s", p->first.text);
}

/* ---- which steps are equal ---- */

static bool same_shape(const tensor *a, const tensor *b)
{
    if (!a || !b) return a == b;
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c && a->dtype == b->dtype;
}

/* Layers of dropout differ in their masks alone. */
static step_attr without_layer(const step *s)
{
    step_attr a = s->a;
    if (s->op == OP_norm_act || s->op == OP_norm_act_bwd) a.norm.dropout_layer = 0;
    return a;
}

bool same_step(const step *a, const step *b)
{
    const step_attr of_a = without_layer(a), of_b = without_layer(b);
    if (a->op != b->op || a->accumulate != b->accumulate || memcmp(&of_a, &of_b, sizeof of_a) != 0) return false;
    for (int k = 0; k < STEP_IN; k++)
        if (!same_shape(a->in[k], b->in[k])) return false;
    for (int k = 0; k < STEP_OUT; k++)
        if (!same_shape(a->out[k], b->out[k])) return false;
    return true;
}
