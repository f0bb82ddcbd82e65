/* A build without the cuda backend, whatever this build has: the functions included here replace the library's. */
#include "backend/cuda_absent.c"

#include <criterion/criterion.h>
#include <string.h>

Test(backend_absent, says_what_is_missing_and_what_to_do)
{
    static const char *const devices[] = {"cuda", "cuda:1"};
    static const char *const said[] = {"device=cuda: this build has no CUDA backend",
                                       "device=cuda:1: this build has no"};
    for (int i = 0; i < 2; i++) {
        err why = {0};
        backend *be = NULL;
        cr_expect_eq(backend_create(&(backend_spec){.device = devices[i], .threads = 1}, &be, &why), DDPM_EDEVICE);
        cr_expect_null(be);
        cr_expect(strstr(why.text, said[i]) && strstr(why.text, "use device=cpu"), "%s", why.text);
    }
}

Test(backend_absent, says_how_to_get_it)
{
    char text[80] = "x";
    int count = 7;
    err why = {0};
    cr_expect_eq(cuda_look(-1, text, sizeof text, &count, &why), DDPM_EDEVICE);
    cr_expect(count == 0 && !text[0]);
    cr_expect(strstr(why.text, "install the CUDA toolkit") && strstr(why.text, "-DCUDA=ON"), "%s", why.text);
    cuda_libraries(NULL, text, sizeof text);
    cr_expect_str_eq(text, "not in this build");
}

Test(backend_absent, auto_is_the_cpu)
{
    err why = {0};
    backend *be = NULL;
    cr_assert_eq(backend_create(&(backend_spec){.device = "auto", .threads = 1}, &be, &why), DDPM_OK, "%s", why.text);
    cr_expect_str_eq(be->fn->name, "cpu");
    backend_destroy(be);
}
