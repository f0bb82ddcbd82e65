/* cudnn_recorder.h - intercepts the calls of cuDNN, for tests without a device.
 *
 * Records descriptors and their attributes on the way into cuDNN.  With `pretend` off, cuDNN's status for each
 * execution plan is recorded too.  With `pretend` on, execution plans are not created but count as created, and
 * executing one computes the described operations one after the other, in double, on host memory, exactly as cuDNN
 * documents each operation.
 *
 * Include in one file of a program. */
#ifndef CUDNN_RECORDER_H
#define CUDNN_RECORDER_H
#include "backend/cuda/lib/cuda_library.h"
#include "backend/cuda/lib/cudnn_numbers.h"
#include "math/bf16.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RECORDS = 4096, ATTRIBUTES = 16, VALUE_BYTES = 32 * 8, PLANS = 64 };

typedef struct record {
    cudnnBackendDescriptor_t descriptor;
    cudnnBackendDescriptorType_t type;
    int n;
    struct {
        cudnnBackendAttributeName_t name;
        int64_t count;
        unsigned char value[VALUE_BYTES];
    } attribute[ATTRIBUTES];
    struct record *graph; /* the operation graph of an execution plan */
    double *storage;      /* values of a tensor, while a graph is computed */
    int64_t extent;
} record;

static struct {
    record *all;
    int n;
    record *graph; /* the latest operation graph */
    int plans;     /* execution plans since recorder_clear() */
    cudnnStatus_t status[PLANS];
    char why[PLANS][400];
    bool pretend;
    int64_t workspace; /* workspace of pretended execution plans */
    int executed;
} recorder;

static inline void recorder_clear(void) { recorder.plans = recorder.executed = 0; }

#define REAL(name) ((__typeof__(&name))cuda_library_function(CUDA_LIBRARY_CUDNN, #name))

static record *record_of(cudnnBackendDescriptor_t d)
{
    for (int i = recorder.n - 1; i >= 0; i--)
        if (recorder.all[i].descriptor == d) return &recorder.all[i];
    return NULL;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    const cudnnStatus_t status = REAL(cudnnBackendCreateDescriptor)(type, out);
    if (status) return status;
    if (!recorder.all) recorder.all = calloc(RECORDS, sizeof *recorder.all);
    record *r = record_of(NULL); /* a record that is free again */
    if (!r) {
        cr_assert(recorder.all && recorder.n < RECORDS, "too many descriptors to write down");
        r = &recorder.all[recorder.n++];
    }
    *r = (record){.descriptor = *out, .type = type, .graph = recorder.graph};
    if (type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) recorder.graph = r;
    return status;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    record *r = d ? record_of(d) : NULL;
    if (r) {
        free(r->storage);
        *r = (record){0};
    }
    return REAL(cudnnBackendDestroyDescriptor)(d);
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    static const size_t size[] = {
        [CUDNN_TYPE_HANDLE] = 8, [CUDNN_TYPE_DATA_TYPE] = 4, [CUDNN_TYPE_BOOLEAN] = 1, [CUDNN_TYPE_INT64] = 8,
        [CUDNN_TYPE_FLOAT] = 4,  [CUDNN_TYPE_DOUBLE] = 8,    [CUDNN_TYPE_VOID_PTR] = 8};
    size_t each = type < sizeof size / sizeof *size && size[type] ? size[type] : 4;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) each = sizeof d;
    record *r = record_of(d);
    if (r && (size_t)count * each <= VALUE_BYTES) {
        cr_assert(r->n < ATTRIBUTES);
        r->attribute[r->n].name = name;
        r->attribute[r->n].count = count;
        memcpy(r->attribute[r->n++].value, values, (size_t)count * each);
    }
    return REAL(cudnnBackendSetAttribute)(d, name, type, count, values);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    const record *r = record_of(d);
    const bool plan = r && r->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR;
    if (plan) cr_assert_lt(recorder.plans, PLANS);
    const cudnnStatus_t status = plan && recorder.pretend ? CUDNN_STATUS_SUCCESS : REAL(cudnnBackendFinalize)(d);
    if (plan) {
        recorder.status[recorder.plans] = status;
        if (status) cudnnGetLastErrorString(recorder.why[recorder.plans], sizeof recorder.why[0]);
        recorder.plans++;
    }
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t cap, int64_t *count, void *values)
{
    if (!recorder.pretend || name != CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)
        return REAL(cudnnBackendGetAttribute)(d, name, type, cap, count, values);
    *(int64_t *)values = recorder.workspace;
    if (count) *count = 1;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- computing the described operations --------------------------------------------------------------- */

/* The first value of the attribute; NULL if it was not set. */
static const void *value_of(const record *r, cudnnBackendAttributeName_t name, int64_t *count)
{
    for (int i = 0; r && i < r->n; i++)
        if (r->attribute[i].name == name) {
            if (count) *count = r->attribute[i].count;
            return r->attribute[i].value;
        }
    return NULL;
}

static record *part_of(const record *r, cudnnBackendAttributeName_t name, int i)
{
    int64_t count = 0;
    cudnnBackendDescriptor_t d = NULL;
    const unsigned char *values = value_of(r, name, &count);
    if (!values || i >= count) return NULL;
    memcpy(&d, values + (size_t)i * sizeof d, sizeof d);
    return record_of(d);
}

static int64_t whole_of(const record *r, cudnnBackendAttributeName_t name, int i)
{
    int64_t v = 0, count = 0;
    const unsigned char *values = value_of(r, name, &count);
    cr_assert(values && i < count, "attribute %d is not there", (int)name);
    memcpy(&v, values + (size_t)i * sizeof v, sizeof v);
    return v;
}

static int choice_of(const record *r, cudnnBackendAttributeName_t name)
{
    int v = 0;
    const void *value = value_of(r, name, NULL);
    cr_assert_not_null(value);
    memcpy(&v, value, sizeof v);
    return v;
}

static bool flag_of(const record *r, cudnnBackendAttributeName_t name)
{
    const bool *value = value_of(r, name, NULL);
    return value && *value;
}

static int64_t dim(const record *t, int k) { return whole_of(t, CUDNN_ATTR_TENSOR_DIMENSIONS, k); }

/* Element (i, j, k, l); dimensions of size 1 are broadcast. */
static double *element(const record *t, const int64_t at[4])
{
    int64_t offset = 0;
    for (int k = 0; k < 4; k++) offset += dim(t, k) == 1 ? 0 : at[k] * whole_of(t, CUDNN_ATTR_TENSOR_STRIDES, k);
    cr_assert(t->storage && offset >= 0 && offset < t->extent);
    return &t->storage[offset];
}

static bool next(int64_t at[4], const record *t)
{
    for (int k = 3; k >= 0; k--) {
        if (++at[k] < dim(t, k)) return true;
        at[k] = 0;
    }
    return false;
}

static void *memory_of(const record *t, const record *pack)
{
    int64_t count = 0;
    void *at = NULL;
    const int64_t uid = whole_of(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    (void)value_of(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &count);
    for (int i = 0; i < count; i++)
        if (whole_of(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i) == uid)
            memcpy(&at, (const char *)value_of(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, NULL) + 8 * i, sizeof at);
    cr_assert_not_null(at, "tensor %ld has no memory", (long)uid);
    if (!flag_of(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE))
        cr_assert_eq((uintptr_t)at % (uintptr_t)whole_of(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0), 0);
    return at;
}

static bool in_memory(const record *t) { return !flag_of(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL); }
static bool is_bf16(const record *t) { return choice_of(t, CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16; }

/* Allocates the tensor's storage and fills it from the tensor's memory, or with NaN if it is virtual. */
static record *loaded(record *t, const record *pack)
{
    if (!t || t->storage) return t;
    int64_t at[4] = {0};
    t->extent = 1;
    for (int k = 0; k < 4; k++) t->extent += (dim(t, k) - 1) * whole_of(t, CUDNN_ATTR_TENSOR_STRIDES, k);
    t->storage = malloc((size_t)t->extent * sizeof *t->storage);
    for (int64_t i = 0; i < t->extent; i++) t->storage[i] = NAN;
    if (!in_memory(t)) return t;
    const char *memory = memory_of(t, pack);
    do {
        const int64_t i = element(t, at) - t->storage;
        t->storage[i] =
            is_bf16(t) ? (double)bf16_to_f32(((const bf16 *)memory)[i]) : (double)((const float *)memory)[i];
    } while (next(at, t));
    return t;
}

static void store(const record *t, const record *pack)
{
    int64_t at[4] = {0};
    if (!in_memory(t)) return;
    char *memory = memory_of(t, pack);
    do {
        const int64_t i = element(t, at) - t->storage;
        if (is_bf16(t))
            ((bf16 *)memory)[i] = bf16_of((float)t->storage[i]);
        else
            ((float *)memory)[i] = (float)t->storage[i];
    } while (next(at, t));
}

static void compute_pointwise(const record *op, const record *x, const record *b, const record *y)
{
    int64_t at[4] = {0};
    const int mode = choice_of(part_of(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, 0), CUDNN_ATTR_POINTWISE_MODE);
    do {
        const double v = *element(x, at), w = b ? *element(b, at) : 0;
        *element(y, at) = mode == CUDNN_POINTWISE_MUL        ? v * w
                          : mode == CUDNN_POINTWISE_SUB      ? v - w
                          : mode == CUDNN_POINTWISE_ADD      ? v + w
                          : mode == CUDNN_POINTWISE_EXP      ? exp(v)
                          : mode == CUDNN_POINTWISE_IDENTITY ? v
                                                             : NAN;
    } while (next(at, y));
}

static void compute_sums(const record *x, const record *y)
{
    int64_t at[4] = {0};
    do *element(y, at) = 0;
    while (next(at, y));
    do *element(y, at) += *element(x, at);
    while (next(at, x));
}

static void compute_product(const record *a, const record *b, const record *c)
{
    int64_t at[4] = {0};
    cr_assert_eq(dim(a, 3), dim(b, 2));
    cr_assert(dim(a, 2) == dim(c, 2) && dim(b, 3) == dim(c, 3));
    do {
        double sum = 0;
        for (int64_t k = 0; k < dim(a, 3); k++)
            sum += *element(a, (int64_t[]){at[0], at[1], at[2], k}) * *element(b, (int64_t[]){at[0], at[1], k, at[3]});
        *element(c, at) = sum;
    } while (next(at, c));
}

static void compute_attention(const record *op, const record *pack)
{
    record *const q = loaded(part_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, 0), pack);
    record *const k = loaded(part_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, 0), pack);
    record *const v = loaded(part_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, 0), pack);
    record *const o = loaded(part_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, 0), pack);
    record *const stats = loaded(part_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC, 0), pack);
    const double scale = *loaded(part_of(op, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, 0), pack)->storage;
    int64_t at[4] = {0};
    do {
        double sum = 0, weighted = 0;
        for (int64_t j = 0; j < dim(k, 2); j++) {
            double score = 0;
            for (int64_t c = 0; c < dim(q, 3); c++)
                score +=
                    *element(q, (int64_t[]){at[0], at[1], at[2], c}) * *element(k, (int64_t[]){at[0], at[1], j, c});
            sum += exp(scale * score);
            weighted += exp(scale * score) * *element(v, (int64_t[]){at[0], at[1], j, at[3]});
        }
        *element(o, at) = weighted / sum;
        *element(stats, (int64_t[]){at[0], at[1], at[2], 0}) = log(sum);
    } while (next(at, o));
    store(o, pack);
    store(stats, pack);
}

static void compute(const record *op, const record *pack)
{
    record *x = NULL, *y = NULL;
    switch ((int)op->type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
        x = loaded(part_of(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, 0), pack);
        y = loaded(part_of(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, 0), pack);
        compute_pointwise(op, x, loaded(part_of(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, 0), pack), y);
        break;
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
        x = loaded(part_of(op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, 0), pack);
        y = loaded(part_of(op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, 0), pack);
        compute_sums(x, y);
        break;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR:
        y = loaded(part_of(op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, 0), pack);
        compute_product(loaded(part_of(op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, 0), pack),
                        loaded(part_of(op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, 0), pack), y);
        break;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: /* the same elements in memory, with other indices */
        x = loaded(part_of(op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, 0), pack);
        y = loaded(part_of(op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, 0), pack);
        cr_assert_eq(x->extent, y->extent);
        memcpy(y->storage, x->storage, (size_t)x->extent * sizeof *x->storage);
        break;
    case CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR: compute_attention(op, pack); return;
    default: cr_assert_fail("operation %d", (int)op->type);
    }
    store(y, pack);
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    int64_t count = 0;
    const record *graph = record_of(plan)->graph;
    (void)value_of(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, &count);
    for (int i = 0; i < recorder.n; i++) free(recorder.all[i].storage), recorder.all[i].storage = NULL;
    for (int i = 0; i < count; i++) compute(part_of(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, i), record_of(pack));
    recorder.executed++;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) { return CUDNN_STATUS_SUCCESS; }

static inline int64_t recorder_operations(void)
{
    int64_t count = 0;
    (void)value_of(recorder.graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, &count);
    return count;
}

#endif
