#include "diffusion/sampler.h"
#include "base/mem.h"

void sampler_destroy(sampler_table *t)
{
    if (!t) return;
    mem_free(t->rows);
    mem_free(t);
}
