/* Two backends on two GPUs in one thread, by turns: the emulated runtime refuses work on a stream whose device is not
 * current.  The device of the calling program stays the current one. */
#include "backend/cuda/cuda_backend.h"
#include "emu/emu_control.h"
#include "nn/nn.h"
#include "math/bf16.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <pthread.h>

static err why; /* each test is a process of its own */

static void two_devices(void)
{
    emu_get_device()->count = 3;
    (void)rt_use(2); /* the program's own */
}
static void nothing_is_left(void)
{
    cr_expect_eq(rt_use(-1), 2, "the program's device has changed");
    cr_expect_str_eq(emu_last_error(), "");
    cr_expect_eq(emu_live_total(), 0);
}
TestSuite(two_devices, .init = two_devices, .fini = nothing_is_left, .timeout = 120);

static backend *create(const char *device)
{
    backend *be;
    OK(backend_create(&(backend_spec){.device = device, .disabled = CUDA_OPT_TUNING}, &be, &why));
    return be;
}

/* A plan that scales an image by 3. */
static plan *make_plan(backend *be, tensor **x, tensor **y)
{
    plan *p;
    OK(plan_create(be, &p, &why));
    *x = plan_input(p, be->act, "x", 1, 4, 4, 8);
    *y = nn_affine(p, nn_affine(p, *x, 3, 0), 1, 0);
    plan_keep(p, *y);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    return p;
}

static void use(backend *be, plan *p, tensor *x, tensor *y, float value)
{
    bf16 in[128], out[128];
    for (int i = 0; i < 128; i++) in[i] = bf16_of(value);
    OK(plan_write(p, x, in, &why));
    OK(plan_run(p, &why));
    OK(plan_read(p, y, out, &why));
    for (int i = 0; i < 128; i++) cr_assert_eq(bf16_to_f32(out[i]), 3 * value);
    cr_expect(be->fn->memory_free(be) > 0);
}

Test(two_devices, by_turns_in_one_thread)
{
    backend *be[2] = {create("cuda:0"), create("cuda:1")};
    plan *p[2];
    tensor *x[2], *y[2];
    for (int i = 0; i < 2; i++) p[i] = make_plan(be[i], &x[i], &y[i]);
    for (int round = 0; round < 4; round++) /* eager, captured, replayed */
        for (int i = 0; i < 2; i++) use(be[i], p[i], x[i], y[i], (float)(round + 2 * i));
    void *event = NULL;
    OK(be[0]->fn->event_record(be[0], &event, &why));
    OK(be[1]->fn->wait(be[1], &why));
    be[0]->fn->event_free(be[0], event);
    for (int i = 0; i < 2; i++) plan_destroy(p[i]), backend_destroy(be[i]);
}

typedef struct job {
    backend *be;
    plan *p;
    tensor *x, *y;
} job;

static void *in_thread(void *of)
{
    const job *j = of;
    use(j->be, j->p, j->x, j->y, 5);
    return (void *)(intptr_t)rt_use(-1);
}

/* A new thread has device 0. */
Test(two_devices, in_a_thread_that_opened_none)
{
    pthread_t thread;
    void *current;
    job j = {.be = create("cuda:1")};
    j.p = make_plan(j.be, &j.x, &j.y);
    cr_assert_eq(pthread_create(&thread, NULL, in_thread, &j), 0);
    cr_assert_eq(pthread_join(thread, &current), 0);
    cr_expect_eq((intptr_t)current, 0);
    plan_destroy(j.p);
    backend_destroy(j.be);
}
