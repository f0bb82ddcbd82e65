/* run_classes.h - the classes of a data set in the model that is trained with them. */
#ifndef DDPM_RUN_CLASSES_H
#define DDPM_RUN_CLASSES_H
#include "data/dataset.h"
#include "train/trainer.h"

/* Of a network with classes: store in the model, for its checkpoints, the names of the data's classes and the null class
 * that label dropout trains, and note the classes, "3 classes: 0 bird, 1 cat, 2 dog".  Without label dropout a new network
 * has no null class, and one with earlier weights (`is_new` false) may have one.  Nothing for a network without classes.
 * DDPM_EINVAL: names that cannot be stored. */
DDPM_MUST_CHECK ddpm_status run_classes_take(const dataset *data, const trainer_spec *spec, bool is_new, model *m,
                                             notes *remarks, err *e);

/* What the labels add to the hash of the data set: nothing for a network without classes. */
uint64_t run_classes_hash(const dataset *data, const model *m);

#endif
