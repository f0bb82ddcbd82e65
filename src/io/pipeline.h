/* pipeline.h - a diffusers pipeline folder as a whole: finding, reading and writing one.
 *
 *   model_index.json
 *   unet/config.json  unet/diffusion_pytorch_model.safetensors
 *   scheduler/scheduler_config.json
 *
 * The flat layout of google/ddpm-*, with all files in one folder, is read too. */
#ifndef DDPM_PIPELINE_H
#define DDPM_PIPELINE_H
#include "base/file.h"
#include "base/notes.h"
#include "io/scheduler_config.h"
#include "io/unet_config.h"
#include "io/weights.h"

typedef struct pipeline {
    char root[PATH_CAP];      /* the pipeline's own folder */
    char unet[PATH_CAP];      /* the folder with config.json and the weights */
    char scheduler[PATH_CAP]; /* the path of scheduler_config.json */
} pipeline;

/* Find the pipeline that `path` stands for: a pipeline folder (a checkpoint of ours is one); a run
 * folder, or its ckpt folder, and then its newest checkpoint that verifies.  Older checkpoints taken
 * instead of damaged ones are noted.  DDPM_ENOINPUT says what was looked for; DDPM_EDATA: the
 * pipeline is of a class other than DDPMPipeline, or is made of other classes than DDPMScheduler and UNet2DModel
 * (named), or no checkpoint is whole. */
DDPM_MUST_CHECK ddpm_status pipeline_find(const char *path, pipeline *p, notes *n, err *e);

DDPM_MUST_CHECK ddpm_status pipeline_read_configs(const pipeline *p, unet_config *net, scheduler_config *scheduler,
                                                  notes *n, err *e);
/* weights_read() on the pipeline's weights file. */
DDPM_MUST_CHECK ddpm_status pipeline_read_weights(const pipeline *p, const named_tensor *tensors, int n_tensor,
                                                  notes *n, err *e);

/* Write all files of a pipeline into `dir`, made if missing, so that DDPMPipeline.from_pretrained()
 * loads it.  Not fsynced and not atomic: give it the path of an atomic_dir. */
DDPM_MUST_CHECK ddpm_status pipeline_write(const char *dir, const unet_config *net, const scheduler_config *scheduler,
                                           const named_tensor *tensors, int n_tensor, err *e);
/* All of it but unet/config.json and model_index.json, for a network that is no diffusers class. */
DDPM_MUST_CHECK ddpm_status pipeline_write_parts(const char *dir, const scheduler_config *scheduler,
                                                 const named_tensor *tensors, int n_tensor, err *e);

#endif
