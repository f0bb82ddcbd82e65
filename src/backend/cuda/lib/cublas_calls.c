/* cublas_calls.c - the functions of cuBLASLt that the backend calls (cuda_library.h). */
#include "backend/cuda/lib/cuda_library_call.h"

#include <cublasLt.h>

#define CUBLAS_CALL(name, parameters, arguments)                                                                       \
    FORWARD(CUDA_LIBRARY_CUBLASLT, CUBLAS_STATUS_NOT_INITIALIZED, cublasStatus_t, name, parameters, arguments)

CUBLAS_CALL(cublasLtCreate, (cublasLtHandle_t * handle), (handle))
CUBLAS_CALL(cublasLtDestroy, (cublasLtHandle_t handle), (handle))
CUBLAS_CALL(cublasLtMatmul,
            (cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
             cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
             const void *c, cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
             const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream),
            (handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, workspace, bytes,
             stream))
CUBLAS_CALL(cublasLtMatmulAlgoConfigGetAttribute,
            (const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t attribute, void *to, size_t bytes,
             size_t *written),
            (algo, attribute, to, bytes, written))
CUBLAS_CALL(cublasLtMatmulAlgoGetHeuristic,
            (cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
             cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int most,
             cublasLtMatmulHeuristicResult_t results[], int *count),
            (handle, product, a, b, c, d, preference, most, results, count))
CUBLAS_CALL(cublasLtMatmulDescCreate,
            (cublasLtMatmulDesc_t * product, cublasComputeType_t compute, cudaDataType_t scale),
            (product, compute, scale))
CUBLAS_CALL(cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t product), (product))
CUBLAS_CALL(cublasLtMatmulDescSetAttribute,
            (cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const void *from, size_t bytes),
            (product, attribute, from, bytes))
CUBLAS_CALL(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference), (preference))
CUBLAS_CALL(cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t preference), (preference))
CUBLAS_CALL(cublasLtMatmulPreferenceSetAttribute,
            (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const void *from,
             size_t bytes),
            (preference, attribute, from, bytes))
CUBLAS_CALL(cublasLtMatrixLayoutCreate,
            (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld),
            (layout, type, rows, cols, ld))
CUBLAS_CALL(cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t layout), (layout))
CUBLAS_CALL(cublasLtMatrixLayoutSetAttribute,
            (cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, const void *from, size_t bytes),
            (layout, attribute, from, bytes))

FORWARD(CUDA_LIBRARY_CUBLASLT, 0, size_t, cublasLtGetVersion, (void), ())
FORWARD(CUDA_LIBRARY_CUBLASLT, "CUBLAS_STATUS_NOT_INITIALIZED", const char *, cublasLtGetStatusName,
        (cublasStatus_t status), (status))
FORWARD(CUDA_LIBRARY_CUBLASLT, "cuBLASLt is not loaded", const char *, cublasLtGetStatusString, (cublasStatus_t status),
        (status))
