/* fake_cudnn.h - a cuDNN for tests of the calls to it and of how their results are used.
 *
 * It replaces the library in a program that includes it in one file: it records every attribute, proposes the engines
 * of a table, records executions, and can fail any call. */
#ifndef DDPM_TESTS_FAKE_CUDNN_H
#define DDPM_TESTS_FAKE_CUDNN_H
#include "backend/cuda/lib/cudnn_opgraph.h"

#include <criterion/criterion.h>
#include <cudnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ATTRIBUTES = 12, BYTES = 96 };

typedef struct fake {
    cudnnBackendDescriptorType_t type;
    bool final;
    int proposal, knob; /* engines and their configurations: index of the proposal; knob: index of its knob */
    int n;
    struct {
        cudnnBackendAttributeName_t name;
        cudnnBackendAttributeType_t type;
        int64_t count;
        unsigned char bytes[BYTES];
    } set[ATTRIBUTES];
} fake;

/* An engine configuration that the heuristics propose. */
typedef struct proposal {
    int64_t engine;
    int n_knob, knob[3];
    int64_t value[3];
    int n_note;
    cudnnBackendNumericalNote_t note[2];
    bool compiled, impossible;
    int64_t workspace;
} proposal;

static const proposal proposals[] = {
    {.engine = 7, .n_knob = 2, .knob = {18, 2}, .value = {3, 40}, .workspace = 1000},
    {.engine = 7,
     .n_knob = 2,
     .knob = {18, 2},
     .value = {3, 41},
     .n_note = 1,
     .note = {CUDNN_NUMERICAL_NOTE_TENSOR_CORE}},
    {.engine = 8, .compiled = true, .workspace = 64},
    {.engine = 9, .n_note = 2, .note = {CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}},
    {.engine = 10, .n_note = 1, .note = {CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION}},
    {.engine = 11, .impossible = true},
    {.engine = 12, .n_note = 1, .note = {CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, .workspace = 2000},
    {.engine = 13, .compiled = true},
    {.engine = 0, .n_knob = 1, .knob = {60}, .value = {-1}}, /* a knob that these headers do not know */
};

/* Mode A proposes four of them, B some of those and others, FALLBACK the rest. */
static const int mode_a[] = {2, 0, 3, 1}, mode_b[] = {0, 4, 5, 6, 1}, mode_fallback[] = {7, 8};

static struct {
    int calls, fail_at, live;
    cudnnStatus_t failure;
    size_t version; /* of the library; 0: 9.19.0 */
    bool nothing;   /* the heuristics propose no engine */
    bool described; /* the context is for a described device */
    int executed;
    fake pack; /* variant pack of the last execution */
    int engine;
    cudaStream_t stream;
} cudnn;

static struct cudnnContext {
    int x;
} the_handle;

static cudnnStatus_t call(void) { return ++cudnn.calls == cudnn.fail_at ? cudnn.failure : CUDNN_STATUS_SUCCESS; }

#define CALL()                                                                                                         \
    do {                                                                                                               \
        const cudnnStatus_t call_ = call();                                                                            \
        if (call_) return call_;                                                                                       \
    } while (0)

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    CALL();
    fake *f = calloc(1, sizeof *f);
    f->type = type;
    cudnn.live++;
    *out = f;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    cudnn.live--;
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch ((int)type) {
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_INT64: return sizeof(int64_t);
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR: return sizeof(void *);
    case CUDNN_TYPE_CHAR: return 1;
    default: return 4; /* floats and enums */
    }
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    CALL();
    fake *f = d;
    cr_assert(!f->final && f->n < ATTRIBUTES);
    f->set[f->n].name = name, f->set[f->n].type = type, f->set[f->n].count = count;
    const size_t bytes = (size_t)count * size_of(type);
    memcpy(f->set[f->n++].bytes, values, bytes < BYTES ? bytes : BYTES);
    return CUDNN_STATUS_SUCCESS;
}

static const void *set(const fake *f, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count)
{
    for (int i = 0; i < f->n; i++)
        if (f->set[i].name == name) {
            cr_assert(f->set[i].type == type && f->set[i].count == count, "attribute %d", (int)name);
            return f->set[i].bytes;
        }
    return NULL;
}

static fake *operand(const fake *f, cudnnBackendAttributeName_t name)
{
    const void *at = set(f, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1);
    cr_assert(at, "attribute %d is not set", (int)name);
    return *(fake *const *)at;
}

/* A device-specific descriptor must name its device: by the handle, or by the description if there is no handle. */
static void check_device(const fake *f, cudnnBackendAttributeName_t handle, cudnnBackendAttributeName_t description)
{
    const cudnnHandle_t the = &the_handle;
    if (cudnn.described)
        cr_assert_eq(operand(f, description)->type, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    else if (f->type != CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) /* an operation graph has the handle */
        cr_assert_arr_eq(set(f, handle, CUDNN_TYPE_HANDLE, 1), &the, sizeof the);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    CALL();
    fake *f = d;
    cr_assert(!f->final);
    f->final = true;
    if (f->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR ||
        (f->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR && !cudnn.described))
        check_device(f, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    if (f->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
    check_device(f, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    f->proposal = operand(f, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->proposal;
    return proposals[f->proposal].impossible ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t propose(const fake *heuristics, int64_t room, int64_t *n, void *const *configs)
{
    cudnnBackendHeurMode_t mode;
    memcpy(&mode, set(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1), sizeof mode);
    const int *list = mode == CUDNN_HEUR_MODE_A ? mode_a : mode == CUDNN_HEUR_MODE_B ? mode_b : mode_fallback;
    *n = mode == CUDNN_HEUR_MODE_A ? 4 : mode == CUDNN_HEUR_MODE_B ? 5 : 2;
    if (cudnn.nothing) *n = 0;
    if (room < *n && room > 0) *n = room;
    for (int64_t i = 0; i < *n && configs; i++) ((fake *)configs[i])->proposal = list[i];
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *n, void *to)
{
    CALL();
    const fake *f = d;
    const proposal *p = &proposals[f->proposal];
    const cudnnBackendBehaviorNote_t compiled = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    *n = 1;
    switch ((int)name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: return propose(f, room, n, to);
    case CUDNN_ATTR_ENGINECFG_ENGINE: (*(fake **)to)->proposal = f->proposal; break;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: memcpy(to, &p->engine, sizeof p->engine); break;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE: *n = p->n_note, memcpy(to, p->note, sizeof p->note); break;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE: *n = p->compiled, memcpy(to, &compiled, sizeof compiled); break;
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
        *n = p->n_knob;
        for (int i = 0; i < p->n_knob; i++) ((fake **)to)[i]->proposal = f->proposal, ((fake **)to)[i]->knob = i;
        break;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE: memcpy(to, &p->knob[f->knob], sizeof(int)); break;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE: memcpy(to, &p->value[f->knob], sizeof(int64_t)); break;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: memcpy(to, &p->workspace, sizeof p->workspace); break;
    default: cr_assert_fail("attribute %d is asked for", (int)name);
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t engine, cudnnBackendDescriptor_t pack)
{
    CALL();
    cr_assert_eq(handle, &the_handle);
    cr_assert(((fake *)engine)->final && ((fake *)pack)->final);
    cudnn.engine = ((fake *)engine)->proposal;
    cudnn.pack = *(fake *)pack;
    cudnn.executed++;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    CALL();
    cr_assert_eq(handle, &the_handle);
    cudnn.stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    CALL();
    cudnn.live++;
    *out = &the_handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    cr_assert_eq(handle, &the_handle);
    cudnn.live--;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void) { return cudnn.version ? cudnn.version : 91900; }
const char *cudnnGetErrorString(cudnnStatus_t s) { return s == CUDNN_STATUS_NOT_SUPPORTED ? "UNSUPPORTED" : "BROKEN"; }
void cudnnGetLastErrorString(char *text, size_t size) { (void)snprintf(text, size, "what is\nthe matter"); }

#endif
