/* model.h - a network, its weights and the diffusion process they were trained for. */
#ifndef DDPM_MODEL_H
#define DDPM_MODEL_H
#include "io/pipeline.h"
#include "model/network.h"
#include "model/params.h"

typedef struct model {
    backend *be; /* borrowed */
    network net;
    scheduler_config scheduler;
    params *store; /* declared; allocated by model_init(), model_load() or a trainer */
} model;

/* A model of that shape, its parameters declared but without memory.  DDPM_EINVAL: an impossible network. */
DDPM_MUST_CHECK ddpm_status model_create(backend *be, const network *net, const scheduler_config *scheduler,
                                         model **out, err *e);
void model_destroy(model *m);

/* The model of a pipeline folder, a checkpoint or a run (io/pipeline.h), its weights in ARENA_PARAM. */
DDPM_MUST_CHECK ddpm_status model_load(backend *be, const char *path, model **out, notes *remarks, err *e);

/* The network and the scheduler of such a folder, without the weights. */
DDPM_MUST_CHECK ddpm_status model_read_configs(const char *path, network *net, scheduler_config *scheduler,
                                               notes *remarks, err *e);

/* Write one arena of the weights and both configs as a pipeline folder into `dir`. */
DDPM_MUST_CHECK ddpm_status model_save(const model *m, arena_kind weights, const char *dir, err *e);

/* Pixels a side that a plan of this model may be built for: the config's, or the nearest that works. */
void model_image_size(const model *m, int *h, int *w);

#endif
