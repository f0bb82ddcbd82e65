/* dataset_idx.h - MNIST's file format, plain or gzipped: a big-endian magic number whose last byte counts the
 * dimensions, the dimensions, then bytes.  LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist */
#ifndef DDPM_DATASET_IDX_H
#define DDPM_DATASET_IDX_H
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>

typedef struct idx_file {
    int64_t n;           /* images or labels, at least 1 */
    int h, w;            /* of an image; 0 for labels */
    const uint8_t *data; /* [n, h, w] or [n]; borrowed from the bytes parsed */
} idx_file;

/* Images (magic 0x803) or labels (0x801), as `images` asks for.
 * DDPM_EDATA: the other one, another format, or a header that does not fit the size exactly. */
DDPM_MUST_CHECK ddpm_status idx_parse(const uint8_t *bytes, size_t size, int images, const char *name, idx_file *out,
                                      err *e);

/* The contents of gzipped bytes, to be freed with mem_free(); several members follow each other, zeros behind the last
 * are ignored.  Unpacked twice: nothing is kept before the whole was seen to be undamaged and as long as its header
 * says, so a file that is refused (DDPM_EDATA) costs no memory. */
DDPM_MUST_CHECK ddpm_status idx_unpack(const uint8_t *packed, size_t size, const char *name, uint8_t **out,
                                       size_t *out_size, err *e);

#endif
