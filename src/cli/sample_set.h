/* sample_set.h - which pictures `ddpm sample` is to draw, in which format, and which part of them by this process. */
#ifndef DDPM_SAMPLE_SET_H
#define DDPM_SAMPLE_SET_H
#include "config/config.h"
#include "sample/label_list.h"
#include "sample/picture_set.h"

/* Ids, format and cut from the options; no folder and no sizes.  DDPM_EINVAL: ids= with count=, or impossible ids. */
DDPM_MUST_CHECK ddpm_status sample_set_of(const ddpm_config *c, int images, picture_set *set, err *e);
/* DDPM_EIO: the set is one file, which is not there yet and larger than what is free on the disk of `folder`. */
DDPM_MUST_CHECK ddpm_status sample_set_fits(const picture_set *set, const char *folder, err *e);
/* The contents of set.json; free with free(). */
DDPM_MUST_CHECK ddpm_status sample_set_describe(const picture_set *set, char **text, size_t *size, err *e);
/* Read a set from the sampling.json and set.json of a folder, with the labels to which it then points; free them.
 * DDPM_ENOINPUT, DDPM_EDATA. */
DDPM_MUST_CHECK ddpm_status sample_set_read(const char *folder, picture_set *set, label_list *labels, err *e);

typedef struct sample_part {
    int rank, ranks;
    const char *from; /* the environment variable that says which rank it is; NULL: the options or the default */
} sample_part;
/* rank= and ranks=, or what torchrun, Slurm or MPI set in the environment, or 0 of 1.  DDPM_EINVAL: one without the
 * other, or a rank that is not less than ranks. */
DDPM_MUST_CHECK ddpm_status sample_part_of(const ddpm_config *c, sample_part *part, err *e);

/* sample.verify: compare the pictures in `folder` with their manifest, and print what differs.  DDPM_EDATA: something
 * does. */
DDPM_MUST_CHECK ddpm_status sample_set_verify(const char *folder, err *e);

#endif
