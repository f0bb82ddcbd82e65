/* cudnn_numbers.h - <cudnn_graph.h>, with the enumerators that the headers of older versions lack.
 *
 * The library that is loaded may be newer than the headers.  One that is older refuses these descriptors, with a reason.
 * cuDNN keeps its numbers from version to version. */
#ifndef DDPM_CUDNN_NUMBERS_H
#define DDPM_CUDNN_NUMBERS_H
#include <cudnn_graph.h>

#if CUDNN_MAJOR != 9
#error "cuDNN 9 is required"
#endif

enum { CUDNN_FIRST_DEVICEPROP = 90800 }; /* the first version with descriptions of devices */
#if CUDNN_VERSION < 90800
#define CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR       ((cudnnBackendDescriptorType_t)38)
#define CUDNN_ATTR_DEVICEPROP_DEVICE_ID           ((cudnnBackendAttributeName_t)2700)
#define CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION ((cudnnBackendAttributeName_t)2702)
#define CUDNN_ATTR_ENGINEHEUR_DEVICEPROP          ((cudnnBackendAttributeName_t)204)
#define CUDNN_ATTR_ENGINE_DEVICEPROP              ((cudnnBackendAttributeName_t)1307)
#define CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP      ((cudnnBackendAttributeName_t)407)
#endif

#if CUDNN_VERSION < 91400
#define CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR ((cudnnBackendDescriptorType_t)41)
#define CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC         ((cudnnBackendAttributeName_t)2800)
#define CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC         ((cudnnBackendAttributeName_t)2801)
#define CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC         ((cudnnBackendAttributeName_t)2802)
#define CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC         ((cudnnBackendAttributeName_t)2803)
#define CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC     ((cudnnBackendAttributeName_t)2804)
#define CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC     ((cudnnBackendAttributeName_t)2805)
#endif

#endif
