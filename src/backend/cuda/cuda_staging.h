/* cuda_staging.h - uploads that do not wait for the device.
 *
 * What is to be uploaded is copied into one of a few pinned buffers and leaves from there when the stream gets to it;
 * the caller goes on at once.  A buffer is used again only when its last copy is done. */
#ifndef DDPM_CUDA_STAGING_H
#define DDPM_CUDA_STAGING_H
#include "base/err.h"
#include <stdbool.h>

typedef struct cuda_backend cuda_backend;

enum { CUDA_STAGINGS = 4 };
typedef struct cuda_staging {
    void *memory; /* pinned */
    size_t bytes;
    void *done; /* event: its last copy has left */
    bool used;
} cuda_staging;

DDPM_MUST_CHECK ddpm_status cuda_stage_upload(cuda_backend *be, void *to, const void *from_host, size_t bytes, err *e);
void cuda_staging_destroy(cuda_backend *be);

#endif
