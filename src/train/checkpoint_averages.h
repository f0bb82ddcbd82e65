/* checkpoint_averages.h - the averages of the weights in a checkpoint.
 *
 *   unet/diffusion_pytorch_model.safetensors   the first average
 *   training/ema_1.safetensors, ema_2, ema_3   the others
 *   training/state.json                        "averages": their names, in this order */
#ifndef DDPM_CHECKPOINT_AVERAGES_H
#define DDPM_CHECKPOINT_AVERAGES_H
#include "io/json_in.h"
#include "io/json_out.h"
#include "model/model.h"
#include "rates.h"

/* Files of a checkpoint; the raw weights are there if the run has an average. */
#define CHECKPOINT_STATE       "training/state.json"
#define CHECKPOINT_RAW_WEIGHTS "training/weights.safetensors"

enum { AVERAGE_NAME = 40 };
typedef struct average_names {
    int n; /* 0 .. EMA_MOST */
    char name[EMA_MOST][AVERAGE_NAME];
} average_names;

/* "decay=0.9999", "halflife_kimg=500" or "sigma_rel=0.05": what identifies an average, whatever its warm-up. */
average_names averages_name(const ema_rule rules[EMA_MOST]);

void averages_put(json_out *j, const average_names *names);
/* A checkpoint of an earlier version has no names. */
void averages_get(json_in *j, average_names *names);

/* Write those of the model beside the first. */
DDPM_MUST_CHECK ddpm_status averages_save(const char *dir, const model *m, err *e);
/* Load the averages of the model, whose names are `now`.  One that the checkpoint does not have starts from the
 * checkpoint's weights, the first one from its first average. */
DDPM_MUST_CHECK ddpm_status averages_restore(const char *dir, const average_names *now, model *m, err *e);

/* The file, into out[PATH_CAP], of the weights that sample.weights means: "raw", "ema_1" to "ema_3", or a name;
 * "" for those of the pipeline folder itself.  DDPM_EINVAL: the checkpoint has no such weights; the message lists them. */
DDPM_MUST_CHECK ddpm_status averages_find(const char *dir, const char *weights, char *out, err *e);

#endif
