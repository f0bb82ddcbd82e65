/* mb_device.c - what the device is, and what it can do at most. */
#include "core/mem.h"
#include "mb.h"
#include "mb_cuda.h"
#include "predictions.h"

#include <cudnn.h>
#include <stdio.h>

static ddpm_status refused(const char *what, cudnnStatus_t status, err *e)
{
    return err_set(e, DDPM_EBACKEND, "cuDNN: %s: %s", what, cudnnGetErrorString(status));
}

static ddpm_status device_json(cudnnBackendDescriptor_t d, int32_t device, char **text, int64_t *size, err *e)
{
    const cudnnBackendAttributeName_t json = CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION;
    cudnnStatus_t st = cudnnBackendSetAttribute(d, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &device);
    if (st != CUDNN_STATUS_SUCCESS) return refused("device id", st, e);
    st = cudnnBackendFinalize(d);
    if (st != CUDNN_STATUS_SUCCESS) return refused("device description", st, e);
    st = cudnnBackendGetAttribute(d, json, CUDNN_TYPE_CHAR, 0, size, NULL);
    if (st != CUDNN_STATUS_SUCCESS) return refused("size of the device description", st, e);
    TRY(mem_array(text, (size_t)*size + 1, 1, "device description", e));
    st = cudnnBackendGetAttribute(d, json, CUDNN_TYPE_CHAR, *size, size, *text);
    return st == CUDNN_STATUS_SUCCESS ? DDPM_OK : refused("text of the device description", st, e);
}

/* cuDNN's own description of the device, into --out: from it plans can be built without the device. */
ddpm_status mb_device(mb_run *r, err *e)
{
    const cuda_backend *be = (const cuda_backend *)r->be;
    cudnnBackendDescriptor_t d;
    char *text = NULL;
    int64_t size = 0;
    const cudnnStatus_t made = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d);
    if (made != CUDNN_STATUS_SUCCESS) return refused("device descriptor", made, e);
    ddpm_status st = device_json(d, be->device.index, &text, &size, e);
    if (st == DDPM_OK) {
        while (size > 0 && text[size - 1] == '\0') size--; /* as long as it is as a text */
        json_out_text(&r->json, "cudnn_device", text);
        json_out_int(&r->json, "l2_bytes", (int64_t)be->device.l2);
        json_out_int(&r->json, "multiprocessors", be->device.sms);
        json_out_bool(&r->json, "while_nodes", be->device.loops);
        printf("cuDNN's description of the device has %lld bytes\n", (long long)size);
        if (r->o->out[0]) st = file_write(r->o->out, text, (size_t)size, false, e);
    }
    mem_free(text);
    (void)cudnnBackendDestroyDescriptor(d);
    return st;
}

/* ---- ceilings ---- */

static ddpm_status time_copy(mb_run *r, void *to, const void *from, size_t bytes, timing *t, err *e)
{
    enum { TURNS = 20 };
    cuda_backend *be = (cuda_backend *)r->be;
    stamp *stamps;
    double ms[TURNS];
    ddpm_status st = DDPM_OK;
    TRY(stamps_create(r->be, &stamps, TURNS + 1, e));
    for (int i = -2; i < TURNS; i++) { /* the first two warm up */
        if (i == 0) TRY_GOTO(stamp_set(r->be, &stamps[0], e));
        TRY_GOTO(rt_copy(to, from, bytes, be->main, e));
        if (i >= 0) TRY_GOTO(stamp_set(r->be, &stamps[i + 1], e));
    }
    for (int i = 0; i < TURNS; i++) TRY_GOTO(stamp_ms(&stamps[i], &stamps[i + 1], &ms[i], e));
    *t = timing_of(ms, TURNS);
done:
    stamps_destroy(stamps, TURNS + 1);
    return st;
}

ddpm_status mb_measure_copy(mb_run *r, err *e)
{
    const size_t bytes = (size_t)1 << 30;
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
    const gemm_problem q = {.in = d, .out = d, .tf32 = tf32, .transpose_b = true, .m = SIDE, .n = SIDE, .k = SIDE,
                            .lda = SIDE, .ldb = SIDE, .ldd = SIDE, .ldc = SIDE, .batch = 1, .alpha = 1, .align = 16};
    const primitive_search how = {.deterministic = true, .workspace_cap = (size_t)256 << 20};
    const operand_fill fills[PRIMITIVE_OPERANDS] = {
        [GEMM_A] = {d, {0, 1, 0}}, [GEMM_B] = {d, {1, 1, 0}}, [GEMM_D] = {d, {2, 1, 0}}};
    primitive *p = NULL;
    plan_bench b = {.be = be};
    plan_times t;
    double best = 0;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(blas_gemm_create(be->blas, &q, &how, &p, e));
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
