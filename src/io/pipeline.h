/* pipeline.h - finding, reading and writing a diffusers pipeline folder.
 *
 *   model_index.json
 *   unet/config.json  unet/diffusion_pytorch_model.safetensors
 *   scheduler/scheduler_config.json
 *   classes.json                      of a network with classes, if known (io/class_names.h)
 *
 * The flat layout of google/ddpm-*, with all files in one folder, can be read too. */
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
    bool has_class;           /* model_index.json names a scheduler class, or its pipeline implies one */
    scheduler_class class_of; /* which diffusers then uses, whatever scheduler_config.json names */
} pipeline;

/* Find the pipeline at `path`: a pipeline folder (also a checkpoint), or the newest checkpoint that verifies of a run
 * folder or of its ckpt folder.  Noted: an older checkpoint used instead of a damaged one.
 * DDPM_ENOINPUT: nothing found; the message lists the expected files.  DDPM_EDATA: a pipeline of another class than
 * DDPMPipeline, DDIMPipeline, PNDMPipeline or ConsistencyModelPipeline, parts that are not a supported scheduler and
 * UNet2DModel (the message names them), or every checkpoint is damaged. */
DDPM_MUST_CHECK ddpm_status pipeline_find(const char *path, pipeline *p, notes *n, err *e);

DDPM_MUST_CHECK ddpm_status pipeline_read_configs(const pipeline *p, unet_config *net, scheduler_config *scheduler,
                                                  notes *n, err *e);
/* weights_read() of the pipeline's weights file. */
DDPM_MUST_CHECK ddpm_status pipeline_read_weights(const pipeline *p, const named_tensor *tensors, int n_tensor,
                                                  notes *n, err *e);

/* Write all files of a pipeline into `dir`, created if missing, so that DDPMPipeline.from_pretrained()
 * loads it.  Neither fsynced nor atomic: `dir` should be the path of an atomic_dir. */
DDPM_MUST_CHECK ddpm_status pipeline_write(const char *dir, const unet_config *net, const scheduler_config *scheduler,
                                           const named_tensor *tensors, int n_tensor, err *e);
/* As pipeline_write() without unet/config.json and model_index.json, for a network that diffusers has no class for. */
DDPM_MUST_CHECK ddpm_status pipeline_write_parts(const char *dir, const scheduler_config *scheduler,
                                                 const named_tensor *tensors, int n_tensor, err *e);

#endif
