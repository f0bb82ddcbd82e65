/* dataset_idx.h - MNIST's file format, plain or gzipped: a big-endian magic number whose last byte is the number of
 * dimensions, the dimensions, then the values as bytes.  LeCun, Cortes & Burges, http://yann.lecun.com/exdb/mnist */
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

/* Parse images (magic 0x803) if `images` is not 0, else labels (0x801).
 * DDPM_EDATA: the other kind, another format, or a header that does not match the size exactly. */
DDPM_MUST_CHECK ddpm_status idx_parse(const uint8_t *bytes, size_t size, int images, const char *name, idx_file *out,
                                      err *e);

/* Unpack gzipped bytes; free with mem_free().  Several gzip members may follow one another; zeros after the last one
 * are ignored.  The first of two passes only checks that the data is undamaged and as long as its IDX header says, so
 * that a bad file (DDPM_EDATA) allocates nothing. */
DDPM_MUST_CHECK ddpm_status idx_unpack(const uint8_t *packed, size_t size, const char *name, uint8_t **out,
                                       size_t *out_size, err *e);

#endif
