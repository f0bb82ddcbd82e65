/* folder_labels.h - the classes of the images of a folder (dataset_spec.labels); for src/data/dataset_folder.c only. */
#ifndef DDPM_FOLDER_LABELS_H
#define DDPM_FOLDER_LABELS_H
#include "data/dataset_kind.h"

typedef struct folder_files {
    const file_list *images;   /* sorted bytewise; the first d->count are used */
    const file_list *metadata; /* the metadata files */
    size_t root;               /* length of the root's path with the slash: start of the relative names */
} folder_files;

/* Label the images of d.  DDPM_EINVAL, DDPM_EDATA: the folder does not label every image so; the message names the
 * image, or the line of the metadata file.  With DATASET_LABELS_AUTO this is only a remark, and d has no labels. */
DDPM_MUST_CHECK ddpm_status folder_label(dataset_labels from, const folder_files *f, dataset *d, err *e);

#endif
