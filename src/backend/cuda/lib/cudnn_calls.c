/* cudnn_calls.c - the functions of cuDNN that the backend calls (cuda_library.h). */
#include "backend/cuda/lib/cuda_library_call.h"

#include <cudnn_graph.h>

#define CUDNN_CALL(name, parameters, arguments)                                                                        \
    FORWARD(CUDA_LIBRARY_CUDNN, CUDNN_STATUS_NOT_INITIALIZED, cudnnStatus_t, name, parameters, arguments)

CUDNN_CALL(cudnnCreate, (cudnnHandle_t * handle), (handle))
CUDNN_CALL(cudnnDestroy, (cudnnHandle_t handle), (handle))
CUDNN_CALL(cudnnSetStream, (cudnnHandle_t handle, cudaStream_t stream), (handle, stream))
CUDNN_CALL(cudnnBackendCreateDescriptor, (cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor),
           (type, descriptor))
CUDNN_CALL(cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t descriptor), (descriptor))
CUDNN_CALL(cudnnBackendFinalize, (cudnnBackendDescriptor_t descriptor), (descriptor))
CUDNN_CALL(cudnnBackendSetAttribute,
           (cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
            int64_t count, const void *values),
           (descriptor, name, type, count, values))
CUDNN_CALL(cudnnBackendGetAttribute,
           (cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
            cudnnBackendAttributeType_t type, int64_t capacity, int64_t *count, void *values),
           (descriptor, name, type, capacity, count, values))
CUDNN_CALL(cudnnBackendExecute,
           (cudnnHandle_t handle, cudnnBackendDescriptor_t engine, cudnnBackendDescriptor_t variant_pack),
           (handle, engine, variant_pack))

FORWARD(CUDA_LIBRARY_CUDNN, 0, size_t, cudnnGetVersion, (void), ())
FORWARD(CUDA_LIBRARY_CUDNN, "cuDNN is not loaded", const char *, cudnnGetErrorString, (cudnnStatus_t status), (status))
FORWARD(CUDA_LIBRARY_CUDNN, (void)(message[0] = '\0'), void, cudnnGetLastErrorString, (char *message, size_t max_size),
        (message, max_size))
