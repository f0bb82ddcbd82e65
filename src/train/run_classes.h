/* run_classes.h - the classes of a data set in the model that is trained with them. */
#ifndef DDPM_RUN_CLASSES_H
#define DDPM_RUN_CLASSES_H
#include "config/config.h"
#include "data/dataset.h"
#include "train/trainer.h"

/* The classes of the weights that a run begins with: those of its checkpoint, or of the folder of model.init_from. */
typedef struct earlier_classes {
    const char *folder; /* borrowed, for messages; NULL: the weights are new */
    int rows;           /* of the class embedding; 0: none */
    class_names names;  /* owned */
} earlier_classes;
DDPM_MUST_CHECK ddpm_status earlier_classes_read(const char *folder, earlier_classes *out, err *e);
void earlier_classes_free(earlier_classes *c); /* accepts a zeroed struct */

/* Note it if the data has hardly an image of each class, and what was probably meant. */
void run_classes_doubt(const dataset *data, notes *remarks);

/* Do the classes of the data fit the network of the checkpoint that a run continues from?  DDPM_EINVAL: they ask for
 * another number of rows; the message names the classes that were gained or lost. */
DDPM_MUST_CHECK ddpm_status run_classes_resume(const ddpm_config *c, const dataset *data, const earlier_classes *before,
                                               err *e);

/* Of a network with classes: store in the model, for its checkpoints, the names of the data's classes and the null class,
 * and note the classes, "3 classes: 0 bird, 1 cat, 2 dog".  The null class is the last row if label dropout trains it, or
 * if the earlier weights have it there and it is no class of the data; new weights without label dropout have none.
 * Noted are classes whose earlier name was another one.  Earlier names stay for rows beyond the classes of the data, if
 * the others are as before.  Nothing for a network without classes.  DDPM_EINVAL: names that cannot be stored. */
DDPM_MUST_CHECK ddpm_status run_classes_take(const dataset *data, const trainer_spec *spec,
                                             const earlier_classes *earlier, model *m, notes *remarks, err *e);

/* What the labels add to the hash of the data set: nothing for a network without classes. */
uint64_t run_classes_hash(const dataset *data, const model *m);

#endif
