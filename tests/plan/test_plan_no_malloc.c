/* Once a plan has its memory, running it allocates none: malloc and its kin are counted by caller. */
#include "base/mem.h"
#include "support/net_rig.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#if !defined(__SANITIZE_ADDRESS__) && defined(__GLIBC__)
#define COUNTED 1

/* glibc's own, under the names it keeps for those who replace them */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern char __executable_start, etext;

static volatile bool counting;
static int by_us, by_libraries; /* the program's own code; oneDNN, OpenMP, libc */

static void count(const void *caller)
{
    if (!counting) return;
    const bool ours = (const char *)caller >= &__executable_start && (const char *)caller < &etext;
    __atomic_add_fetch(ours ? &by_us : &by_libraries, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
    count(__builtin_return_address(0));
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    count(__builtin_return_address(0));
    return __libc_memalign(align, size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
    count(__builtin_return_address(0));
    *p = __libc_memalign(align, size);
    return *p ? 0 : ENOMEM;
}
#else
#define COUNTED 0
static bool counting;
static int by_us, by_libraries;
#endif

static const step_attr updates = {.update = {.lr = {.peak = 1e-3},
                                             .beta1 = 0.9,
                                             .beta2 = 0.999,
                                             .eps = 1e-8,
                                             .max_grad_norm = 1,
                                             .ema = {{.kind = EMA_CONSTANT, .decay = 0.99}}}};

static net_options options(void)
{
    net_options o = {.net = {NETWORK_UNET, net_small_unet()}, .n = 2, .h = 16, .w = 16, .threads = 2, .timesteps = 10};
    o.net.unet.dropout = 0.1;
    o.updates = &updates;
    return o;
}

/* Two runs: oneDNN and OpenMP may set themselves up in the first. */
static void run_counted(net_rig *r)
{
    err why = {0};
    for (int i = 0; i < 2; i++) {
        by_us = by_libraries = 0;
        counting = true;
        const ddpm_status st = plan_run(r->p, &why);
        const ddpm_status updated = r->update ? plan_run(r->update, &why) : DDPM_OK;
        counting = false;
        cr_assert(st == DDPM_OK && updated == DDPM_OK, "%s", why.text);
        cr_expect_eq(by_us, 0, "run %d: %d allocations", i, by_us);
        cr_log_info("run %d: %d allocations by libraries", i, by_libraries);
    }
}

Test(plan_no_malloc, the_count_counts)
{
    if (!COUNTED) cr_skip_test("a sanitizer counts allocations itself");
    err why = {0};
    void *p = NULL;
    counting = true;
    const ddpm_status st = mem_array(&p, 10, 4, "test", &why);
    counting = false;
    cr_expect(st == DDPM_OK && by_us == 1, "%d allocations", by_us);
    mem_free(p);
}

Test(plan_no_malloc, a_training_step_allocates_nothing)
{
    if (!COUNTED) cr_skip_test("a sanitizer counts allocations itself");
    err why = {0};
    net_rig r = {0};
    const net_options o = options();
    net_train(&r, &o);
    net_allocate(&r, ARENA_PARAM, NULL);
    cr_assert_eq(params_init(r.store, 3, &why), DDPM_OK, "%s", why.text);
    *(train_state *)r.state->data = (train_state){.seed = 5, .beta1_pow = 1, .beta2_pow = 1};
    run_counted(&r);
    net_destroy(&r);
}

Test(plan_no_malloc, a_sampling_step_allocates_nothing)
{
    if (!COUNTED) cr_skip_test("a sanitizer counts allocations itself");
    err why = {0};
    net_rig r = {0};
    const net_options o = options();
    net_sample(&r, &o, 2);
    net_allocate(&r, ARENA_PARAM, NULL);
    cr_assert_eq(params_init(r.store, 3, &why), DDPM_OK, "%s", why.text);
    for (int i = 0; i < 2; i++) ((sampler_row *)r.rows->data)[i] = (sampler_row){.slot = -1, .guidance = 1};
    ((sampler_state *)r.state->data)->row = -1;
    run_counted(&r);
    net_destroy(&r);
}
