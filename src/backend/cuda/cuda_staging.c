#include "backend/cuda/cuda_backend.h"

#include <string.h>

static const size_t STAGED_MOST = (size_t)64 << 20; /* bytes: larger uploads are not staged, and block */

static ddpm_status make_room(cuda_staging *s, size_t bytes, err *e)
{
    if (!s->done) TRY(rt_event_create(false, &s->done, e));
    if (s->used) TRY(rt_event_sync(s->done, e));
    s->used = false;
    if (s->bytes >= bytes) return DDPM_OK;
    rt_free_host(s->memory);
    s->memory = NULL;
    s->bytes = 0;
    TRY(rt_alloc_host(bytes, &s->memory, e));
    s->bytes = bytes;
    return DDPM_OK;
}

ddpm_status cuda_stage_upload(cuda_backend *be, void *to, const void *from_host, size_t bytes, err *e)
{
    if (bytes == 0) return DDPM_OK;
    if (bytes > STAGED_MOST) {
        TRY(rt_upload(to, from_host, bytes, be->main_stream, e));
        return rt_sync(be->main_stream, e);
    }
    cuda_staging *s = &be->staging[be->next_staging];
    be->next_staging = (be->next_staging + 1) % CUDA_STAGINGS;
    TRY(make_room(s, bytes, e));
    memcpy(s->memory, from_host, bytes);
    TRY(rt_upload(to, s->memory, bytes, be->main_stream, e));
    TRY(rt_event_record(s->done, be->main_stream, e));
    s->used = true;
    return DDPM_OK;
}

void cuda_staging_destroy(cuda_backend *be)
{
    for (int i = 0; i < CUDA_STAGINGS; i++) {
        err ignored = {0};
        cuda_staging *s = &be->staging[i];
        const ddpm_status left = s->used ? rt_event_sync(s->done, &ignored) : DDPM_OK;
        (void)left; /* after a device failure nothing is read any more */
        rt_event_destroy(s->done);
        rt_free_host(s->memory);
    }
}
