/* small_run.h - the settings of a training run of one second, and a recorder of a run's reports.
 *
 * An invalid setting fails the running test. */
#ifndef DDPM_TESTS_SMALL_RUN_H
#define DDPM_TESTS_SMALL_RUN_H
#include "train/training_run.h"

/* Assign one setting, "key=value". */
void config_put(ddpm_config *c, const char *setting);
/* Assign several settings; the list ends with NULL. */
void config_put_all(ddpm_config *c, const char *const *settings);

/* Sets the defaults, then a training run on drawn digits of 8x8 pixels with a U-Net of two levels, the lower one with
 * attention, in the folder root/name; then `settings`, which give the sizes: data.count, model.block_out_channels,
 * model.norm_num_groups, train.batch, train.steps. */
void small_run(ddpm_config *c, const char *root, const char *name, const char *const *settings);

enum { RUN_RECORD_LOSSES = 16 };
typedef struct run_record {
    uint64_t stop_at; /* the run is asked to stop after this step; 0: never */
    uint64_t now;     /* the last step that was reported */
    int steps;        /* number of reported steps */
    float loss[RUN_RECORD_LOSSES];
    char notes[8192]; /* one line each */
} run_record;
run_hooks run_record_hooks(run_record *r);

#endif
