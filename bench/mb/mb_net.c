/* mb_net.c - the network of a configuration: its steps, its weights, its images. */
#include "core/clock.h"
#include "core/mem.h"
#include "mb.h"
#include "noise.h"
#include "predictions.h"
#include "train_state.h"

#include <stdio.h>
#include <string.h>

bool mb_wanted(const mb_run *r, const char *row)
{
    return strstr(row, r->o->only) != NULL && !mb_late(r, clock_seconds());
}

trainer_spec mb_trainer_spec(const mb_run *r)
{
    return recipe_trainer(&r->o->config, r->image, r->o->config.train.steps);
}

ddpm_status mb_model(const mb_run *r, backend *be, model **out, err *e)
{
    const network net = recipe_network(&r->o->config, r->image);
    const scheduler_config scheduler = recipe_scheduler(&r->o->config);
    return model_create(be, &net, &scheduler, out, e);
}

static ddpm_status load(const mb_run *r, params *s, arena_kind arena, err *e)
{
    pipeline p;
    char file[PATH_CAP];
    notes remarks = {.text = ""};
    TRY(pipeline_find(r->o->weights, &p, &remarks, e));
    TRY(weights_find(p.unet, file, e));
    return params_load(s, arena, file, &remarks, e);
}

static ddpm_status copy_to_ema(params *s, err *e)
{
    float *host;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&host, s->count, sizeof *host, "weights", e));
    TRY_GOTO(params_get(s, ARENA_PARAM, host, e));
    TRY_GOTO(params_set(s, ARENA_EMA, host, e));
done:
    mem_free(host);
    return st;
}

ddpm_status mb_load(const mb_run *r, model *m, bool ema, err *e)
{
    if (r->o->weights[0])
        TRY(load(r, m->store, ARENA_PARAM, e));
    else
        TRY(params_init(m->store, (uint64_t)r->o->config.seed, e));
    return ema ? copy_to_ema(m->store, e) : DDPM_OK;
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

/* ---- images ---- */

static ddpm_status draw_images(image_source *s, err *e)
{
    enum { MOST = 256 << 20 };
    while (s->count * s->bytes_each > MOST && s->count > s->batch) s->count /= 2;
    const int64_t size = s->count * s->bytes_each;
    TRY(mem_array(&s->bytes, (size_t)size + 16, 1, "images", e));
    for (int64_t i = 0; i < size; i += 16) {
        const philox4 words = noise_bits(5, 0, 0, 0, (uint32_t)(i / 16));
        memcpy(s->bytes + i, &words, 16);
    }
    return DDPM_OK;
}

ddpm_status images_open(const mb_run *r, image_source *out, err *e)
{
    enum { LARGEST = 1 << 30, DRAWN = 2048 };
    const int batch = r->o->config.train.batch;
    char *bytes;
    size_t size;
    *out = (image_source){.batch = batch, .bytes_each = (int64_t)r->image.h * r->image.w * r->image.c};
    TRY(mem_array(&out->index, (size_t)batch, sizeof *out->index, "images", e));
    if (!r->o->images[0]) {
        out->count = batch < DRAWN ? DRAWN : batch;
        return draw_images(out, e);
    }
    TRY(file_read(r->o->images, LARGEST, &bytes, &size, e));
    out->bytes = (uint8_t *)bytes;
    out->count = (int64_t)size / out->bytes_each;
    return out->count >= batch ? DDPM_OK : err_set(e, DDPM_EDATA, "%s: fewer images than one batch has", r->o->images);
}

void images_close(image_source *s)
{
    mem_free(s->bytes);
    mem_free(s->index);
    *s = (image_source){.bytes = NULL};
}

const int64_t *images_next(image_source *s)
{
    for (int64_t b = 0; b < s->batch; b++) {
        const philox4 words = noise_bits(6, 0, 0, (uint32_t)(s->drawn >> 32), (uint32_t)s->drawn);
        s->index[b] = noise_below(words.v[0], (uint32_t)s->count);
        s->drawn++;
    }
    return s->index;
}

/* ---- the steps of a network, to be looked at ---- */

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

/* ---- which steps are alike ---- */

static bool same_shape(const tensor *a, const tensor *b)
{
    if (!a || !b) return a == b;
    return a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c && a->dtype == b->dtype;
}

bool same_step(const step *a, const step *b)
{
    if (a->op != b->op || a->accumulate != b->accumulate || memcmp(&a->a, &b->a, sizeof a->a) != 0) return false;
    for (int k = 0; k < STEP_IN; k++)
        if (!same_shape(a->in[k], b->in[k])) return false;
    for (int k = 0; k < STEP_OUT; k++)
        if (!same_shape(a->out[k], b->out[k])) return false;
    return true;
}
