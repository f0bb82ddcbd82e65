/* dataset_cifar.h - CIFAR-10, binary version: each record is a label byte and 3 planes of 32 x 32 bytes.
 * Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html */
#ifndef DDPM_DATASET_CIFAR_H
#define DDPM_DATASET_CIFAR_H
#include "data/image.h"

enum { CIFAR_SIDE = 32, CIFAR_PLANE = CIFAR_SIDE * CIFAR_SIDE, CIFAR_RECORD = 1 + 3 * CIFAR_PLANE, CIFAR_CLASSES = 10 };

/* Number of records.  DDPM_EDATA: empty, not a multiple of 3073 bytes, or a label over 9. */
DDPM_MUST_CHECK ddpm_status cifar_parse(const uint8_t *bytes, size_t size, const char *name, int64_t *count, err *e);

/* The image of one record, [32, 32, 3]. */
DDPM_MUST_CHECK ddpm_status cifar_image(const uint8_t *record, image *out, err *e);

#endif
