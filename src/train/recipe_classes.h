/* recipe_classes.h - class labels in training: how many the network distinguishes, and which combinations are refused. */
#ifndef DDPM_RECIPE_CLASSES_H
#define DDPM_RECIPE_CLASSES_H
#include "train/recipe.h"

/* num_class_embeds of the network that the options ask for; `classes`: of the data, as in image_shape.  For
 * model.num_class_embeds=-1 those of the data, and with train.label_dropout one more, the last, that stands for no class;
 * 0 if the data has none or is not known. */
int recipe_class_count(const ddpm_config *c, int classes);

/* A network with class_embed_type timestep takes any label; if it does not say how many there are, those of the options
 * and the data become its num_class_embeds, which has no other effect on it. */
void recipe_name_classes(const ddpm_config *c, int classes, network *net);

/* Can `net`, the network of the options or of model.init_from, be trained with the labels of the data?
 * DDPM_EINVAL says which option to change. */
DDPM_MUST_CHECK ddpm_status recipe_check_classes(const ddpm_config *c, const network *net, image_shape shape, err *e);

#endif
