/* label_metadata.h - labels from the metadata files of an imagefolder of Hugging Face's datasets; for
 * src/data/folder_labels.c only.
 *
 *   metadata.jsonl   {"file_name": "sub/cat.png", "label": 3} on each line; other keys are ignored
 *   metadata.csv     the same as columns
 *
 * file_name is relative to the folder of the file.  The label is an integer in [0, LABEL_MAX], which stays the number of
 * the class, or a text, the name of the class; in all files of one kind.  A column of integers in a CSV file is one of
 * integers. */
#ifndef DDPM_LABEL_METADATA_H
#define DDPM_LABEL_METADATA_H
#include "data/dataset_kind.h"

enum { LABEL_MAX = 999998 }; /* a network has at most a million rows, one of them the null class */

/* Label the images of d, which has no labels, from these files.  *labelled is false if they have no labels at all; then
 * d is unchanged.
 * DDPM_EDATA: a malformed line, a label of another kind, more missing images than d->max_bad (all with file:line), or one that has
 * no label or several; DDPM_ENOINPUT, DDPM_EIO: a file cannot be read. */
DDPM_MUST_CHECK ddpm_status label_metadata_take(const file_list *files, const file_list *images, dataset *d,
                                                bool *labelled, err *e);

#endif
