/* model.h - a network, its weights, and the diffusion process of its training. */
#ifndef DDPM_MODEL_H
#define DDPM_MODEL_H
#include "io/class_names.h"
#include "io/pipeline.h"
#include "model/network.h"
#include "model/params.h"

typedef struct model {
    backend *be; /* borrowed */
    network net;
    scheduler_config scheduler;
    class_names classes; /* of a network with classes: what model_load() found, and what model_save() writes */
    params *store;       /* declared by model_create(); allocated by model_load() or a trainer */
} model;

/* Create a model whose parameters are declared but have no memory.  DDPM_EINVAL: an invalid network. */
DDPM_MUST_CHECK ddpm_status model_create(backend *be, const network *net, const scheduler_config *scheduler,
                                         model **out, err *e);
void model_destroy(model *m);

/* Load the model of a pipeline folder, a checkpoint or a run (io/pipeline.h), with its weights in ARENA_PARAM.
 * DDPM_EDATA names the file that is damaged, also if its betas make no process. */
DDPM_MUST_CHECK ddpm_status model_load(backend *be, const char *path, model **out, notes *remarks, err *e);

/* Read only the configs of network and scheduler from such a folder. */
DDPM_MUST_CHECK ddpm_status model_read_configs(const char *path, network *net, scheduler_config *scheduler,
                                               notes *remarks, err *e);

/* Read the scheduler's config alone.  DDPM_EDATA: also if its betas make no process (schedule_create()). */
DDPM_MUST_CHECK ddpm_status model_read_process(const char *path, scheduler_config *scheduler, err *e);

/* Read what the rows of such a folder's class embedding mean, and how many there are; 0: no classes. */
DDPM_MUST_CHECK ddpm_status model_read_classes(const char *path, int *rows, class_names *out, err *e);

/* Write one arena of the weights, both configs and the names of the classes as a pipeline folder into `dir`. */
DDPM_MUST_CHECK ddpm_status model_save(const model *m, arena_kind weights, const char *dir, err *e);

/* An image size in pixels that a plan of this model can be built for: that of the config, or the nearest valid one. */
void model_image_size(const model *m, int *h, int *w);

#endif
