/* recipe.h - from the options of a run to what the engine is told. */
#ifndef DDPM_RECIPE_H
#define DDPM_RECIPE_H
#include "config/config.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "sample/generator.h"
#include "train/trainer.h"

/* Pixels and channels of the images the run is about. */
typedef struct image_shape {
    int h, w, c;
} image_shape;

typedef struct autotune_files {
    char own[PATH_CAP], shared[PATH_CAP]; /* of what is chosen by timing; "": none */
} autotune_files;
/* The device and how to use it.  `out` is the run's folder, NULL where there is none; *spec borrows
 * c's texts and *files. */
DDPM_MUST_CHECK ddpm_status recipe_backend(const ddpm_config *c, const char *out, autotune_files *files,
                                           backend_spec *spec, err *e);
/* The arithmetic that the backend computes in: "bf16", "tf32" or "fp32". */
const char *recipe_precision(const ddpm_config *c, const backend *be);
dataset_spec recipe_dataset(const ddpm_config *c); /* borrows c's texts */
network recipe_network(const ddpm_config *c, image_shape shape);
scheduler_config recipe_scheduler(const ddpm_config *c); /* of the options alone */
/* With model.init_from: the options that nobody set and which it says (init_from.h) take its values, so that what is
 * kept of them is what runs.  recipe_model() does the same for itself. */
DDPM_MUST_CHECK ddpm_status recipe_adopt(ddpm_config *c, notes *remarks, err *e);
/* The diffusion process of the configuration; with model.init_from it is the folder's, but for what is set. */
DDPM_MUST_CHECK ddpm_status recipe_process(const ddpm_config *c, scheduler_config *out, err *e);
/* The network and process of the configuration, or with model.init_from those of the folder, which must fit the images;
 * its weights have no memory yet.  Noted: what is taken from there, what is not, and what diffusers cannot load. */
DDPM_MUST_CHECK ddpm_status recipe_model(const ddpm_config *c, backend *be, image_shape shape, model **out,
                                         notes *remarks, err *e);
/* The weights a run begins with, in every arena that holds weights: drawn, or those of model.init_from.  `file`
 * is where they come from, "" where they were drawn. */
DDPM_MUST_CHECK ddpm_status recipe_weights(const ddpm_config *c, model *m, char file[PATH_CAP], notes *remarks, err *e);
/* `steps`: of the whole run, where the learning rate's schedule ends. */
trainer_spec recipe_trainer(const ddpm_config *c, image_shape shape, int64_t steps);
/* The model's own scheduler with sample.variance_type, sample.clip and sample.timestep_spacing over it. */
scheduler_config recipe_sampling(const ddpm_config *c, const scheduler_config *of_model);
generator_spec recipe_generator(const ddpm_config *c, const model *m, arena_kind weights);

/* Optimizer steps of the run: train.steps, or train.epochs passes over `images` rounded up. */
int64_t recipe_steps(const ddpm_config *c, int64_t images);

#endif
