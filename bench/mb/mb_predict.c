/* mb_predict.c - the network's prediction for given x and t, to compare with another implementation's.
 *
 * --images: raw f32, x [batch, h, w, c] and then t [batch]; --out: raw f32 [batch, h, w, c]. */
#include "base/mem.h"
#include "math/bf16.h"
#include "mb.h"

#include <stdio.h>

typedef struct predictor {
    model *m;
    plan *p;
    tensor *x, *t;
    network_outputs out;
} predictor;

static ddpm_status build(const mb_run *r, predictor *f, err *e)
{
    const int64_t n = r->o->config.train.batch, h = r->image.h, w = r->image.w, c = r->image.c;
    TRY(mb_model(r, r->be, &f->m, e));
    TRY(plan_create(r->be, &f->p, e));
    f->x = plan_input(f->p, DTYPE_F32, "x", n, h, w, c);
    f->t = plan_input(f->p, DTYPE_F32, "t", n, 1, 1, 1);
    f->out = network_build(&f->m->net, f->p, &(network_inputs){.x = f->x, .t = f->t});
    plan_keep(f->p, f->out.y);
    TRY(plan_finish(f->p, e));
    TRY(params_allocate(f->m->store, false, false, e));
    TRY(mb_load(r, f->m, e));
    TRY(plan_allocate(f->p, e));
    TRY(params_bind(f->m->store, f->p, ARENA_PARAM, e));
    TRY(params_refresh(f->m->store, ARENA_PARAM, e));
    return network_fill(&f->m->net, f->p, &f->out, e);
}

static ddpm_status write_inputs(const mb_run *r, predictor *f, err *e)
{
    enum { LARGEST = 1 << 30 };
    const size_t want = (size_t)(tensor_count(f->x) + tensor_count(f->t)) * sizeof(float);
    char *bytes;
    size_t size;
    TRY(file_read(r->o->images, LARGEST, &bytes, &size, e));
    ddpm_status st =
        size == want ? DDPM_OK : err_set(e, DDPM_EDATA, "%s: %zu bytes; x and t are %zu", r->o->images, size, want);
    if (st == DDPM_OK) st = plan_write(f->p, f->x, bytes, e);
    if (st == DDPM_OK) st = plan_write(f->p, f->t, bytes + (size_t)tensor_count(f->x) * sizeof(float), e);
    mem_free(bytes);
    return st;
}

static ddpm_status write_output(const mb_run *r, predictor *f, err *e)
{
    const tensor *y = f->out.y;
    const size_t count = (size_t)tensor_count(y);
    float *out = NULL;
    bf16 *low = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&out, count, sizeof *out, "output", e));
    if (y->dtype == DTYPE_BF16) {
        TRY_GOTO(mem_array(&low, count, sizeof *low, "output", e));
        TRY_GOTO(plan_read(f->p, y, low, e));
        for (size_t i = 0; i < count; i++) out[i] = bf16_to_f32(low[i]);
    } else
        TRY_GOTO(plan_read(f->p, y, out, e));
    TRY_GOTO(file_write(r->o->out, out, count * sizeof *out, false, e));
done:
    mem_free(out);
    mem_free(low);
    return st;
}

ddpm_status mb_predict(mb_run *r, err *e)
{
    predictor f = {.m = NULL};
    ddpm_status st = DDPM_OK;
    if (!r->o->images[0] || !r->o->out[0]) return err_set(e, DDPM_EINVAL, "predict: --images and --out are needed");
    TRY_GOTO(build(r, &f, e));
    TRY_GOTO(write_inputs(r, &f, e));
    TRY_GOTO(plan_run(f.p, e));
    TRY_GOTO(write_output(r, &f, e));
    json_out_int(&r->json, "parameters", f.m->store->values);
    printf("%lld parameters\n", (long long)f.m->store->values);
done:
    plan_destroy(f.p);
    model_destroy(f.m);
    return st;
}
