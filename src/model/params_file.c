/* params_file.c - an arena of parameters as a safetensors file. */
#include "base/mem.h"
#include "model/params.h"

ddpm_status params_name(const params *s, float *host, named_tensor **out, err *e)
{
    TRY(mem_array(out, (size_t)s->n, sizeof **out, "parameters", e));
    for (int i = 0; i < s->n; i++) {
        const param *q = &s->list[i];
        named_tensor *t = &(*out)[i];
        *t = (named_tensor){.name = q->name, .rank = q->rank, .data = host + q->offset};
        t->shape[0] = q->n;
        t->shape[1] = q->c;
        t->shape[2] = q->h;
        t->shape[3] = q->w;
    }
    return DDPM_OK;
}

ddpm_status params_load(params *s, arena_kind arena, const char *path, notes *remarks, err *e)
{
    const bool here = s->be->fn->host_memory; /* read in place: weights_read() validates all before it writes */
    float *host = NULL;
    named_tensor *tensors = NULL;
    ddpm_status st = DDPM_OK;
    if (!here) TRY_GOTO(mem_array(&host, s->count, sizeof *host, "weights", e));
    TRY_GOTO(params_name(s, here ? s->arena[arena] : host, &tensors, e));
    TRY_GOTO(weights_read(path, tensors, s->n, remarks, e));
    if (here)
        params_touched(s, arena);
    else
        TRY_GOTO(params_set(s, arena, host, e));
done:
    mem_free(tensors);
    mem_free(host);
    return st;
}

static ddpm_status save(const params *s, arena_kind arena, bool half, const char *path, err *e)
{
    float *host, *copy = NULL;
    named_tensor *tensors = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(params_view(s, arena, &host, &copy, e));
    TRY_GOTO(params_name(s, host, &tensors, e));
    TRY_GOTO((half ? weights_write_half : weights_write)(path, tensors, s->n, false, e));
done:
    mem_free(tensors);
    mem_free(copy);
    return st;
}

ddpm_status params_save(const params *s, arena_kind arena, const char *path, err *e)
{
    return save(s, arena, false, path, e);
}

ddpm_status params_save_half(const params *s, arena_kind arena, const char *path, err *e)
{
    return save(s, arena, true, path, e);
}
