/* mb_device.c - cuDNN's description of the device. */
#include "backend/cuda/lib/cudnn_numbers.h"
#include "base/mem.h"
#include "mb_cuda.h"

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

/* Writes cuDNN's description of the device to --out: engines can be built from the description without the device. */
ddpm_status mb_device(mb_run *r, err *e)
{
    const cuda_backend *be = (const cuda_backend *)r->be;
    cudnnBackendDescriptor_t d;
    char *text = NULL;
    int64_t size = 0;
    if (cudnnGetVersion() < CUDNN_FIRST_DEVICEPROP)
        return err_set(e, DDPM_EBACKEND, "device: cuDNN describes devices since 9.8");
    const cudnnStatus_t made = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &d);
    if (made != CUDNN_STATUS_SUCCESS) return refused("device descriptor", made, e);
    ddpm_status st = device_json(d, be->device.index, &text, &size, e);
    if (st == DDPM_OK) {
        while (size > 0 && text[size - 1] == '\0') size--; /* drop trailing zero bytes */
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
