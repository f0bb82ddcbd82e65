/* class_list.h - classes from the names that images have; for src/data only. */
#ifndef DDPM_CLASS_LIST_H
#define DDPM_CLASS_LIST_H
#include "data/dataset_kind.h"

enum { CLASS_NAME_MAX = 255 }; /* bytes */

typedef struct class_slice {
    const char *text; /* borrowed, not terminated */
    size_t size;      /* 1 to CLASS_NAME_MAX bytes */
} class_slice;

/* The class of image i in [0, d->count). */
typedef class_slice class_of_image(const void *context, int64_t i);

/* Label the images of d, which has no labels: class k is the k-th of the different names, sorted bytewise, as torchvision
 * and Hugging Face sort them. */
DDPM_MUST_CHECK ddpm_status class_list_label(dataset *d, class_of_image *of, const void *context, err *e);

/* Set the names of the classes; they are dropped, with a remark, if one of them is not UTF-8. */
DDPM_MUST_CHECK ddpm_status class_list_name(dataset *d, const char *const *names, int n, err *e);

/* Remove labels and names. */
void class_list_clear(dataset *d);

#endif
