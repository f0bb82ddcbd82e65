/* recipe.h - translation of the options into the specifications of backend, data set, model, trainer and generator. */
#ifndef DDPM_RECIPE_H
#define DDPM_RECIPE_H
#include "config/config.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "sample/generator.h"
#include "train/trainer.h"

/* Size in pixels and channels of the run's images, and the number of their classes. */
typedef struct image_shape {
    int h, w, c;
    int classes; /* labels are in [0, classes); 0: there are none; -1: not known without the data */
} image_shape;

/* <name> in the user's cache folder: ddpm in $XDG_CACHE_HOME, or ~/.cache/ddpm; "" if neither variable is set. */
DDPM_MUST_CHECK ddpm_status recipe_cache_file(const char *name, char cache[PATH_CAP], err *e);

typedef struct autotune_files {
    char own[PATH_CAP], shared[PATH_CAP]; /* autotune caches of the run and of the user; "": none */
} autotune_files;
/* The backend's specification.  `out` is the run folder, NULL if there is none; *spec borrows c's texts and *files. */
DDPM_MUST_CHECK ddpm_status recipe_backend(const ddpm_config *c, const char *out, autotune_files *files,
                                           backend_spec *spec, err *e);
/* The backend's precision: "bf16", "tf32" or "fp32". */
const char *recipe_precision(const ddpm_config *c, const backend *be);
dataset_spec recipe_dataset(const ddpm_config *c); /* borrows c's texts */
image_shape recipe_shape(const dataset *d);
network recipe_network(const ddpm_config *c, image_shape shape);
scheduler_config recipe_scheduler(const ddpm_config *c); /* from the options alone */
/* With model.init_from: put the folder's values into the options that are not set (init_from.h), so that the saved
 * options are those that the run uses.  recipe_model() does this by itself. */
DDPM_MUST_CHECK ddpm_status recipe_adopt(ddpm_config *c, notes *remarks, err *e);
/* The diffusion process of the configuration; with model.init_from the folder's, overridden by options that are set. */
DDPM_MUST_CHECK ddpm_status recipe_process(const ddpm_config *c, scheduler_config *out, err *e);
/* Create the model of the configuration, or with model.init_from that of the folder, which must match the images; its
 * weights have no memory yet.  Noted: values inherited from the folder, values that are not, and properties that
 * diffusers cannot load. */
DDPM_MUST_CHECK ddpm_status recipe_model(const ddpm_config *c, backend *be, image_shape shape, model **out,
                                         notes *remarks, err *e);
/* Set the initial weights in every arena of weights: drawn, or read from model.init_from.  `file` receives the path of
 * the file read, "" if the weights were drawn. */
DDPM_MUST_CHECK ddpm_status recipe_weights(const ddpm_config *c, model *m, char file[PATH_CAP], notes *remarks, err *e);
/* `steps`: length of the whole run, which is that of the learning rate schedule. */
trainer_spec recipe_trainer(const ddpm_config *c, image_shape shape, int64_t steps);
/* With what to sample: the model's scheduler or that of the chosen sampler, overridden by the options that are set. */
scheduler_config recipe_sampling(const ddpm_config *c, const scheduler_config *of_model);
sampler_spec recipe_sampler(const ddpm_config *c, const scheduler_config *sampling);
generator_spec recipe_generator(const ddpm_config *c, const model *m, arena_kind weights);
/* Note the options of sampling that are set but have no effect with this sampler, network and task. */
void recipe_note_sampling(const ddpm_config *c, const model *m, const generator_spec *s, notes *remarks);

/* Optimizer steps of the run: train.steps, or train.epochs passes over `images` rounded up. */
int64_t recipe_steps(const ddpm_config *c, int64_t images);

#endif
