#include "support/digit_run.h"
#include "base/mem.h"
#include "support/ok.h"

#include <stdlib.h>

enum { BATCH = 80 };

void digit_run_train(const ddpm_config *c)
{
    static const run_hooks quiet = {.context = NULL};
    ddpm_config without = *c;
    backend *be;
    err why;
    without.sample.every = 0;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 0}, &be, &why));
    OK(run_train(be, &without, &quiet, &why));
    backend_destroy(be);
}

int digit_run_sample(const ddpm_config *c, int n, uint8_t *pixels)
{
    backend *be;
    model *m;
    generator *g;
    int64_t ids[BATCH];
    int labels[BATCH];
    err why;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 0}, &be, &why));
    OK(model_load(be, c->out, &m, NULL, &why));
    generator_spec spec = recipe_generator(c, m, ARENA_PARAM);
    spec.batch = BATCH;
    OK(generator_create(m, &spec, &g, &why));
    OK(generator_allocate(g, &why));
    const int evaluations = generator_steps(g) * (c->sample.guidance == 1 ? 1 : 2);
    const size_t d = (size_t)(spec.h * spec.w);
    for (int first = 0; first < n; first += BATCH) {
        const int now = n - first < BATCH ? n - first : BATCH;
        for (int i = 0; i < now; i++) ids[i] = first + i, labels[i] = (first + i) % 10;
        const generator_batch batch = {.n = now, .ids = ids, .labels = labels};
        OK(generator_run_bytes(g, &batch, pixels + (size_t)first * d, &why));
    }
    generator_destroy(g);
    model_destroy(m);
    backend_destroy(be);
    return evaluations;
}
