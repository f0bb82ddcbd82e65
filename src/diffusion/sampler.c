#include "diffusion/sampler.h"
#include "base/mem.h"

const char *sampler_name(sampler_kind k)
{
    static const char *const names[] = {
#define SAMPLER(id, name) name,
#include "config/sampler_names.def"
    };
    return names[k];
}

sampler_kind sampler_of_class(const scheduler_config *c) { return (void)c, SAMPLER_DDPM; }

void sampler_destroy(sampler_table *t)
{
    if (!t) return;
    mem_free(t->rows);
    mem_free(t);
}
