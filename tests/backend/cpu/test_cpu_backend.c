/* The cpu backend: its description, its memory, and its number of threads. */
#include "backend/backend.h"
#include "base/mem.h"
#include "support/op_fixture.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <string.h>
#include <unistd.h>

Test(cpu_backend, refuses_devices_it_does_not_know)
{
    static const struct {
        const char *device;
        int threads;
        ddpm_status status;
        const char *text;
    } bad[] = {{"tpu", 1, DDPM_EINVAL, "device=tpu"}, {"cpu", -1, DDPM_EINVAL, "threads=-1"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err why = {0};
        backend *be = NULL;
        cr_expect_eq(backend_create(&(backend_spec){.device = bad[i].device, .threads = bad[i].threads}, &be, &why),
                     bad[i].status);
        cr_expect_null(be);
        cr_expect(strstr(why.text, bad[i].text), "%s", why.text);
    }
}

Test(cpu_backend, describes_itself)
{
    err why = {0};
    backend *be = NULL;
    char text[120];
    cr_assert_eq(backend_create(&(backend_spec){.device = "auto", .threads = 2}, &be, &why), DDPM_OK, "%s", why.text);
    be->fn->describe(be, text, sizeof text);
    cr_expect(strstr(text, "cpu: 2 threads, oneDNN "), "%s", text);
    backend_destroy(be);
    backend_destroy(NULL);
}

Test(cpu_backend, memory_is_zeroed_and_aligned)
{
    err why = {0};
    backend *be = NULL;
    void *memory = NULL;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(be->fn->alloc(be, 1000, &memory, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq((uintptr_t)memory % 64, 0);
    for (int i = 0; i < 1000; i++) cr_assert_eq(((char *)memory)[i], 0);
    be->fn->release(be, memory);
    const size_t large = ((size_t)5 << 20) + 12345; /* in huge pages, where available */
    for (int turn = 0; turn < 2; turn++) {
        cr_assert_eq(be->fn->alloc(be, large, &memory, &why), DDPM_OK, "%s", why.text);
        cr_expect_eq((uintptr_t)memory % (2 << 20), 0);
        for (size_t i = 0; i < large; i++) cr_assert_eq(((char *)memory)[i], 0, "at %zu", i);
        memset(memory, 1, large); /* so the second allocation may get used memory, which must be zeroed */
        be->fn->release(be, memory);
    }
    be->fn->release(be, NULL);
    cr_expect_eq(be->fn->alloc(be, SIZE_MAX / 2, &memory, &why), DDPM_ENOMEM);
    /* more than the physical memory, which an overcommitting system would grant */
    const size_t there = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    cr_expect_eq(be->fn->alloc(be, there + 1, &memory, &why), DDPM_ENOMEM);
    cr_expect_not_null(strstr(why.text, "a smaller batch"), "%s", why.text);
    cr_expect_null(memory);
    backend_destroy(be);
}

/* A 3x3 convolution in whose backward-weights pass oneDNN splits the sum by the number of threads. */
Test(cpu_backend, bits_depend_on_its_own_threads_not_on_the_callers)
{
    const op_case c = {.op = OP_conv2d, .n = 2, .h = 8, .w = 8, .c = 16, .cout = 16, .kernel = 3, .stride = 1};
    op_result r[2];
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i + 1);
        r[i] = op_run(&c, &(op_options){.threads = 1});
    }
    for (int k = 1; k < r[0].n_operand; k++)
        cr_expect_arr_eq(r[0].grad[k], r[1].grad[k], (size_t)r[0].count[k] * sizeof(float), "gradient %d", k);
    op_result_free(&r[0]);
    op_result_free(&r[1]);
}
