#include "support/faulty_backend.h"
#include "ir/operands.h"
#include "train_state.h"

#include <math.h>
#include <string.h>

static const backend_table *original;
static backend_table table;
static fault list[FAULTS + 1];
static uint64_t sample; /* the first of the micro-batch */

static ddpm_status spoil(backend *be, const tensor *t, err *e)
{
    static const uint16_t bf16 = 0x7fc0;
    const float f32 = NAN;
    const void *nan = t->dtype == DTYPE_BF16 ? (const void *)&bf16 : &f32;
    return original->upload(be, t->data, nan, dtype_size(t->dtype), e);
}

static ddpm_status after(backend *be, const step *s, err *e)
{
    train_state state;
    if (s->op == OP_q_sample) {
        TRY(original->download(be, &state, s->in[Q_SAMPLE_STATE]->data, sizeof state, e));
        sample = state.sample;
    }
    for (const fault *f = list; f->path; f++)
        if (s->op == f->op && !strcmp(s->path, f->path) && sample >= f->first && sample <= f->last)
            TRY(spoil(be, s->out[f->out], e));
    return DDPM_OK;
}

static ddpm_status run(backend *be, step *const *steps, int n, int times, err *e)
{
    for (int k = 0; k < times; k++)
        for (int i = 0; i < n; i++) {
            TRY(original->run(be, steps + i, 1, 1, e));
            TRY(after(be, steps[i], e));
        }
    return DDPM_OK;
}

void faulty_wrap(backend *be, const fault *faults)
{
    int n = 0;
    original = be->fn;
    table = *original;
    table.run = run;
    be->fn = &table;
    memset(list, 0, sizeof list);
    while (n < FAULTS && faults[n].path) list[n] = faults[n], n++;
}
