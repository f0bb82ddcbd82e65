/* Every sampler's table, and its resampling, while the n-th allocation fails: a status each time, nothing leaked. */
#include "diffusion/sampler.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static err why;        /* each test is a process of its own */
static long countdown; /* the allocation that brings it to 0 fails; 0: none does */

/* clang's sanitizer sits in the program itself, where this cannot be put in front of it. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NO_FAULTS
#endif
#endif
#ifndef NO_FAULTS
void *aligned_alloc(size_t alignment, size_t size)
{
    void *p = NULL;
    if (countdown > 0 && --countdown == 0) return NULL;
    return posix_memalign(&p, alignment, size) ? NULL : p;
}
#endif

static scheduler_config config_of(sampler_kind k)
{
    scheduler_config folder = scheduler_config_default();
    if (k == SAMPLER_EDM || k == SAMPLER_EDM_EULER) folder = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER);
    if (k == SAMPLER_EDM_DPMPP) folder = scheduler_config_of(SCHEDULER_CLASS_EDM_DPM);
    if (k == SAMPLER_FLOW_EULER) folder = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    scheduler_config c = sampler_config(k, &folder);
    c.timestep_spacing = SCHEDULER_LOGSNR; /* needs the most memory */
    return c;
}

/* A table of 10 steps; resampled if it has no slots. */
static ddpm_status create(const schedule *s, sampler_kind k, sampler_table **table)
{
    const sampler_spec spec = sampler_spec_default(k, 10);
    TRY(sampler_create(s, &spec, table, &why));
    return (*table)->slots || k == SAMPLER_DDIM_INVERSE ? DDPM_OK : sampler_resample(table, 2, 2, &why);
}

Test(sampler_memory, every_failing_allocation_is_a_status)
{
#ifdef NO_FAULTS
    cr_skip_test("allocations cannot be made to fail under this sanitizer");
#endif
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        const scheduler_config c = config_of((sampler_kind)k);
        schedule *s = NULL;
        cr_assert_eq(schedule_create(&c, &s, &why), DDPM_OK, "%s", why.text);
        for (long n = 1;; n++) {
            sampler_table *table = NULL;
            countdown = n;
            const ddpm_status st = create(s, (sampler_kind)k, &table);
            const bool fired = countdown == 0;
            countdown = 0;
            cr_assert_eq(st, fired ? DDPM_ENOMEM : DDPM_OK, "%s, allocation %ld: %s", sampler_name((sampler_kind)k), n,
                         why.text);
            sampler_destroy(table);
            if (!fired) break;
            cr_assert_lt(n, 20);
        }
        schedule_destroy(s);
    }
}
