/* device=auto and device=cuda on a machine with a GPU, of whose libraries one may be missing. */
#include "backend/backend.h"
#include "emu/emu_control.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <string.h>

static err why; /* each test is a process of its own */

static void nothing_is_left(void) { cr_expect_eq(emu_live_total(), 0); }
TestSuite(cuda_usable, .fini = nothing_is_left, .timeout = 60);

static backend *create(backend_spec spec)
{
    backend *be;
    spec.threads = 1;
    OK(backend_create(&spec, &be, &why));
    return be;
}

Test(cuda_usable, auto_takes_the_gpu_where_everything_is_there)
{
    backend *be = create((backend_spec){.device = "auto"});
    cr_expect_str_eq(be->fn->name, "cuda");
    cr_expect_null(be->remark);
    backend_destroy(be);
}

Test(cuda_usable, auto_takes_the_cpu_where_a_library_is_missing_and_says_why)
{
    static const char *const names[] = {"cuDNN", "cuBLASLt"};
    for (int i = 0; i < 2; i++) {
        emu_get_device()->missing = names[i];
        backend *be = create((backend_spec){.device = "auto"});
        cr_expect_str_eq(be->fn->name, "cpu");
        cr_assert_not_null(be->remark);
        cr_expect(strstr(be->remark, "the GPU of this machine is not used: ") && strstr(be->remark, names[i]), "%s",
                  be->remark);
        backend_destroy(be);
        be = create((backend_spec){.device = "auto", .cuda_libraries = "/its/folder"});
        cr_expect_str_eq(be->fn->name, "cuda");
        backend_destroy(be);
    }
}

Test(cuda_usable, the_device_that_was_named_is_not_replaced)
{
    backend *be;
    emu_get_device()->missing = "cuDNN";
    cr_expect_eq(backend_create(&(backend_spec){.device = "cuda", .threads = 1}, &be, &why), DDPM_EDEVICE);
    cr_expect(strstr(why.text, "cuDNN cannot be loaded"), "%s", why.text);
    emu_get_device()->missing = "NVRTC"; /* not needed by every engine */
    be = create((backend_spec){.device = "cuda"});
    cr_expect_str_eq(be->fn->name, "cuda");
    backend_destroy(be);
}

Test(cuda_usable, without_a_gpu_auto_takes_the_cpu_without_a_word)
{
    emu_get_device()->count = 0;
    emu_get_device()->missing = "cuDNN";
    backend *be = create((backend_spec){.device = "auto"});
    cr_expect_str_eq(be->fn->name, "cpu");
    cr_expect_null(be->remark);
    backend_destroy(be);
}
