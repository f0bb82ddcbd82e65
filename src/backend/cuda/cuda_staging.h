/* cuda_staging.h - uploads that do not wait for the device.
 *
 * The data are copied into one of a few pinned buffers, from which the stream copies them to the device later;
 * the caller continues at once.  A buffer is reused only when its last copy is done. */
#ifndef DDPM_CUDA_STAGING_H
#define DDPM_CUDA_STAGING_H
#include "base/err.h"
#include <stdbool.h>

typedef struct cuda_backend cuda_backend;

enum { CUDA_STAGINGS = 4 };
typedef struct cuda_staging {
    void *memory; /* pinned */
    size_t bytes;
    void *done; /* event: the last copy from this buffer is done */
    bool used;
} cuda_staging;

DDPM_MUST_CHECK ddpm_status cuda_stage_upload(cuda_backend *be, void *to, const void *from_host, size_t bytes, err *e);
void cuda_staging_destroy(cuda_backend *be);

#endif
