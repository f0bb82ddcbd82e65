/* The self-test of a GPU: the emulated device passes in every precision, and faults that are planted are found. */
#include "train/self_test.h"
#include "backend/cuda/cuda_backend.h"
#include "emu/emu_control.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static err why; /* each test is a process of its own */

static void nothing_is_left(void) { cr_expect_eq(emu_live_total(), 0); }
TestSuite(self_test, .fini = nothing_is_left, .timeout = 900);

static ddpm_status run(precision_kind precision, unsigned disabled)
{
    backend *be;
    const backend_spec spec = {.device = "cuda", .precision = precision, .disabled = disabled | CUDA_OPT_TUNING};
    OK(backend_create(&spec, &be, &why));
    const ddpm_status st = self_test(be, precision, &why);
    backend_destroy(be);
    return st;
}

Test(self_test, passes_in_f32) { OK(run(PRECISION_FP32, 0)); }
Test(self_test, passes_in_tf32) { OK(run(PRECISION_TF32, 0)); }
Test(self_test, passes_in_bf16) { OK(run(PRECISION_BF16, 0)); }
Test(self_test, passes_with_the_other_form_of_every_op)
{
    OK(run(PRECISION_BF16, CUDA_OPT_SDPA | CUDA_OPT_UPCONV | CUDA_OPT_EPILOGUE | CUDA_OPT_BIAS_SUMS |
                               CUDA_OPT_TIME_MLP | CUDA_OPT_CONCAT | CUDA_OPT_PROJECTIONS | CUDA_OPT_BETA));
}

Test(self_test, names_the_first_op_whose_results_are_off)
{
    static const precision_kind precisions[] = {PRECISION_FP32, PRECISION_TF32, PRECISION_BF16};
    for (int i = 0; i < 3; i++) {
        emu_get_device()->scale = 1.02;
        cr_assert_eq(run(precisions[i], 0), DDPM_EDIVERGED, "precision %d", i);
        cr_expect(strstr(why.text, "conv_in (conv2d): conv_in differs from the result on the cpu by 0.0"), "%s",
                  why.text);
        emu_reset();
    }
}

/* The gradients of the weights are computed on a second stream, which nobody waits for here. */
Test(self_test, finds_a_missing_synchronization)
{
    emu_set_timing(EMU_ALL_LATE); /* work of a stream runs when the host waits for that stream */
    emu_get_device()->ignores_waits = true;
    cr_assert_eq(run(PRECISION_FP32, 0), DDPM_EDIVERGED);
    cr_expect(strstr(why.text, "conv_out (conv2d_dw)"), "%s", why.text);
}

/* ---- device=auto ---- */

static backend *open_auto(void)
{
    backend *be;
    OK(self_test_open(&(backend_spec){.device = "auto", .threads = 1}, &be, &why));
    return be;
}

/* A device that fails once may work the next time. */
Test(self_test, auto_does_not_remember_a_failure_of_another_kind)
{
    char folder[PATH_CAP];
    backend *be;
    (void)setenv("XDG_CACHE_HOME", scratch_make(folder), 1);
    emu_fail_at(1500); /* amid the training */
    OK(self_test_open(&(backend_spec){.device = "auto", .threads = 2, .precision = PRECISION_BF16}, &be, &why));
    cr_expect_str_eq(be->fn->name, "cpu", "without the precision that only the GPU has");
    cr_expect(be->remark && strstr(be->remark, "self-test failed: "), "%s", be->remark);
    backend_destroy(be);
    emu_reset();
    be = open_auto();
    cr_expect_str_eq(be->fn->name, "cuda");
    backend_destroy(be);
    scratch_remove(folder);
}

Test(self_test, auto_tests_a_gpu_once_and_remembers_the_result)
{
    char folder[PATH_CAP];
    (void)setenv("XDG_CACHE_HOME", scratch_make(folder), 1);
    backend *be = open_auto();
    cr_expect_str_eq(be->fn->name, "cuda");
    cr_expect_null(be->remark);
    backend_destroy(be);
    emu_get_device()->scale = 1.02; /* not seen: the result is known */
    be = open_auto();
    cr_expect_str_eq(be->fn->name, "cuda");
    backend_destroy(be);
    emu_get_device()->driver += 10; /* another driver is another machine */
    for (int again = 0; again < 2; again++) {
        be = open_auto();
        cr_expect_str_eq(be->fn->name, "cpu");
        cr_assert_not_null(be->remark);
        cr_expect(strstr(be->remark, "self-test failed: conv_in (conv2d): conv_in differs"), "%s", be->remark);
        backend_destroy(be);
        emu_get_device()->scale = 0;
    }
    OK(self_test_open(&(backend_spec){.device = "cuda", .threads = 1}, &be, &why)); /* named: not replaced */
    cr_expect_str_eq(be->fn->name, "cuda");
    backend_destroy(be);
    scratch_remove(folder);
}
