/* mb_ceilings.c - peak copy bandwidth and matrix-product rate of the device, to which other results are compared. */
#include "mb_cuda.h"
#include "predictions.h"

#include <stdio.h>

static ddpm_status time_copy(mb_run *r, void *to, const void *from, size_t bytes, timing *t, err *e)
{
    enum { TURNS = 20 };
    cuda_backend *be = (cuda_backend *)r->be;
    stamp *stamps;
    double ms[TURNS];
    ddpm_status st = DDPM_OK;
    TRY(stamps_create(&stamps, TURNS + 1, e));
    for (int i = -2; i < TURNS; i++) { /* the first two are a warm-up */
        if (i == 0) TRY_GOTO(stamp_set(r->be, &stamps[0], e));
        TRY_GOTO(rt_copy(to, from, bytes, be->main_stream, e));
        if (i >= 0) TRY_GOTO(stamp_set(r->be, &stamps[i + 1], e));
    }
    for (int i = 0; i < TURNS; i++) TRY_GOTO(stamp_ms(r->be, &stamps[i], &stamps[i + 1], &ms[i], e));
    *t = timing_of(ms, TURNS);
done:
    stamps_destroy(r->be, stamps, TURNS + 1);
    return st;
}

ddpm_status mb_measure_copy(mb_run *r, err *e)
{
    const size_t room = rt_memory_free() / 8, most = (size_t)1 << 30;
    const size_t bytes = (room < most ? room : most) / 256 * 256;
    void *from = NULL, *to = NULL;
    timing t;
    ddpm_status st = DDPM_OK;
    if (!mb_on_cuda(r->be)) return DDPM_OK;
    TRY_GOTO(rt_alloc(bytes, &from, e));
    TRY_GOTO(rt_alloc(bytes, &to, e));
    TRY_GOTO(mb_fill(r->be, from, DTYPE_F32, (int64_t)(bytes / 4), (fill){0, 1, 0}, e));
    TRY_GOTO(time_copy(r, to, from, bytes, &t, e));
    r->peak_gb = 2e-9 * (double)bytes / (1e-3 * t.median);
    json_out_real(&r->json, "copy_gb_s", r->peak_gb);
done:
    rt_free(from);
    rt_free(to);
    return st;
}

static ddpm_status multiply(mb_run *r, const char *key, dtype d, bool tf32, err *e)
{
    enum { SIDE = 8192 };
    cuda_backend *be = (cuda_backend *)r->be;
    const gemm_problem q = {.in = d,
                            .out = d,
                            .tf32 = tf32,
                            .transpose_b = true,
                            .m = SIDE,
                            .n = SIDE,
                            .k = SIDE,
                            .lda = SIDE,
                            .ldb = SIDE,
                            .ldd = SIDE,
                            .ldc = SIDE,
                            .batch = 1,
                            .alpha = 1,
                            .align = 16};
    const primitive_search how = {.deterministic = true, .workspace_cap = (size_t)256 << 20};
    const operand_fill fills[PRIMITIVE_OPERANDS] = {
        [GEMM_A] = {d, {0, 1, 0}}, [GEMM_B] = {d, {1, 1, 0}}, [GEMM_D] = {d, {2, 1, 0}}};
    primitive *p = NULL;
    plan_bench b = {.be = be};
    plan_times t;
    double best = 0;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(cublas_gemm_create(be->cublas, &q, &how, &p, e));
    TRY_GOTO(plan_bench_create(r, p, fills, &b, e));
    for (int i = 0; i < p->fn->count(p); i++) {
        TRY_GOTO(plan_bench_time(r, &b, i, &t, e));
        const double rate = 2e-12 * SIDE * (double)SIDE * SIDE / (1e-3 * t.time.median);
        if (rate > best) best = rate;
    }
    json_out_real(&r->json, key, best);
    printf("%s: %.0f\n", key, best);
done:
    plan_bench_destroy(&b);
    primitive_destroy(p);
    return st;
}

ddpm_status mb_ceilings(mb_run *r, err *e)
{
    TRY(mb_measure_copy(r, e));
    printf("copy: %.0f GB/s, read and written\n", r->peak_gb);
    TRY(multiply(r, "bf16_tflops", DTYPE_BF16, false, e));
    TRY(multiply(r, "tf32_tflops", DTYPE_F32, true, e));
    json_out_real(&r->json, "predicted_copy_gb_s", PEAK_GB);
    json_out_real(&r->json, "predicted_bf16_tflops", PEAK_BF16_TFLOPS);
    json_out_real(&r->json, "predicted_tf32_tflops", PEAK_TF32_TFLOPS);
    return DDPM_OK;
}
