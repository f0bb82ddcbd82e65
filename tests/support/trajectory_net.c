#include "support/trajectory_net.h"
#include "base/mem.h"
#include "support/golden.h"
#include "support/ok.h"

#include <stdio.h>

static void path_of(char path[2 * PATH_CAP], const char *file)
{
    char dir[PATH_CAP];
    (void)snprintf(path, 2 * (size_t)PATH_CAP, "%s/%s", golden_path(dir, "trajectory/initial"), file);
}

network trajectory_net(bool learned)
{
    err why = {0};
    char path[2 * PATH_CAP];
    network net = {.kind = NETWORK_UNET};
    path_of(path, "config.json");
    OK(unet_config_read(path, &net.unet, NULL, &why));
    if (learned) net.unet.out_channels = 2;
    return net;
}

/* Parameter k of m with the rows of `from`, and for the second channel others. */
static void fill(const param *q, const param *first, const float *from, float *to)
{
    const int64_t there = param_count(first);
    for (int64_t i = 0; i < param_count(q); i++) {
        const float v = from[first->offset + (size_t)(i % there)];
        to[q->offset + (size_t)i] = i < there ? v : (q->rank == 1 ? 0.25f : 0) - 0.5f * v;
    }
}

void trajectory_weights(model *m, bool learned)
{
    err why = {0};
    char path[2 * PATH_CAP];
    model *plain;
    float *from, *to;
    path_of(path, "diffusion_pytorch_model.safetensors");
    if (!learned) {
        OK(params_load(m->store, ARENA_PARAM, path, NULL, &why));
        return;
    }
    const network net = trajectory_net(false);
    OK(model_create(m->be, &net, &m->scheduler, &plain, &why));
    OK(params_allocate(plain->store, false, 0, &why));
    OK(params_load(plain->store, ARENA_PARAM, path, NULL, &why));
    OK(mem_array(&from, plain->store->count, sizeof *from, "test", &why));
    OK(mem_array(&to, m->store->count, sizeof *to, "test", &why));
    OK(params_get(plain->store, ARENA_PARAM, from, &why));
    for (int k = 0; k < m->store->n; k++)
        fill(&m->store->list[k], params_find(plain->store, m->store->list[k].name), from, to);
    OK(params_set(m->store, ARENA_PARAM, to, &why));
    mem_free(from);
    mem_free(to);
    model_destroy(plain);
}
