/* safetensors.h - Hugging Face's tensor file format: a validating reader and a byte-exact writer.
 *
 *   u64 LE header length | header, JSON padded with blanks | tensors, back to back
 *   {"__metadata__":{"format":"pt"},"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}
 *
 * https://github.com/huggingface/safetensors (format and limits).  The reader validates the whole header, see
 * safetensors_open().  Numbers are little-endian, as on all supported machines. */
#ifndef DDPM_SAFETENSORS_H
#define DDPM_SAFETENSORS_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, bytes of a value), in the reference implementation's order of dtypes; files hold the last dtype first. */
#define SAFETENSORS_DTYPE_LIST(X)                                                                                      \
    X(BOOL, 1)                                                                                                         \
    X(U8, 1)                                                                                                           \
    X(F16, 2)                                                                                                          \
    X(BF16, 2)                                                                                                         \
    X(I32, 4)                                                                                                          \
    X(F32, 4)                                                                                                          \
    X(F64, 8)                                                                                                          \
    X(I64, 8)

typedef enum safetensors_dtype {
#define SAFETENSORS_DTYPE_ENUM(name, size) SAFETENSORS_##name,
    SAFETENSORS_DTYPE_LIST(SAFETENSORS_DTYPE_ENUM)
#undef SAFETENSORS_DTYPE_ENUM
} safetensors_dtype;

enum { SAFETENSORS_MAX_RANK = 8, SAFETENSORS_MAX_HEADER = 100000000 };

const char *safetensors_dtype_name(safetensors_dtype dtype); /* "F32" */
size_t safetensors_dtype_size(safetensors_dtype dtype);      /* bytes of a value */

/* "[2, 3]" into out, truncated to cap; returns out. */
const char *safetensors_shape_text(char *out, size_t cap, int rank, const int64_t *shape);

/* ---- reading ---- */

typedef struct safetensors safetensors;

typedef struct safetensors_tensor {
    const char *name; /* UTF-8 */
    safetensors_dtype dtype;
    int rank; /* 0 to SAFETENSORS_MAX_RANK */
    int64_t shape[SAFETENSORS_MAX_RANK];
    const void *data; /* unaligned */
    size_t bytes;     /* product of the shape times the dtype's size (checked) */
} safetensors_tensor;

/* Map a file and validate it: the header has 2 to SAFETENSORS_MAX_HEADER bytes, lies within the file, begins with '{'
 * and is strict JSON (no duplicate keys, except in __metadata__, which is not stored); dtypes are known, ranks at most
 * 8, sizes not negative, and the product in bytes does not overflow and equals the range; the ranges cover the data
 * from its first byte to the end of the file without a gap; __metadata__ maps strings to strings.  No allocation has a
 * size taken from the header, and all allocations together are at most 3 times the header's bytes.
 * DDPM_EDATA names the tensor and the violated rule; DDPM_ENOINPUT: missing or unreadable.
 * The file must not shrink while it is open; replace files by rename. */
DDPM_MUST_CHECK ddpm_status safetensors_open(const char *path, safetensors **out, err *e);

/* As safetensors_open() over `size` bytes in memory, borrowed until safetensors_close(). */
DDPM_MUST_CHECK ddpm_status safetensors_open_memory(const void *bytes, size_t size, const char *where,
                                                    safetensors **out, err *e);
void safetensors_close(safetensors *st); /* accepts NULL */

int safetensors_count(const safetensors *st);
const safetensors_tensor *safetensors_entry(const safetensors *st, int i); /* i in [0, count), by name, bytewise */
const safetensors_tensor *safetensors_find(const safetensors *st, const char *name); /* NULL: not found */

/* Release the memory pages of a tensor (madvise); a later access reads them from the file again. */
void safetensors_let_go(const safetensors *st, const safetensors_tensor *t);

/* Can safetensors_to_f32() convert this dtype? */
bool safetensors_is_float(safetensors_dtype dtype);

/* Convert an F32, F16, BF16 or F64 tensor to float into to[product of shape]; F64 is rounded.
 * DDPM_EDATA: another dtype. */
DDPM_MUST_CHECK ddpm_status safetensors_to_f32(const safetensors_tensor *t, float *to, err *e);

/* Check that every value is finite as a float.  DDPM_EDATA names the file, the tensor and the first value that is not.
 * Tensors of integers always pass. */
DDPM_MUST_CHECK ddpm_status safetensors_check_finite(const safetensors *st, const safetensors_tensor *t, err *e);

/* ---- writing ---- */

typedef struct safetensors_item {
    const char *name; /* UTF-8, not "__metadata__" */
    safetensors_dtype dtype;
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    const void *data; /* the bytes to write, or the source that `pack` reads */
    /* NULL, or a function that writes the item's bytes to `to`: a layout change without a second copy of all items. */
    void (*pack)(const struct safetensors_item *item, void *to);
} safetensors_item;

/* Write n tensors as the reference implementation does: metadata {"format":"pt"}, sorted by dtype (the last of
 * SAFETENSORS_DTYPE_LIST first), then by name bytewise.  Only items with `pack` are buffered, one at a time.
 * `durable`: fsync.  On failure the file is removed.  DDPM_EINVAL: duplicate name, invalid UTF-8, negative or
 * overflowing shape.  DDPM_EIO: the path and the system's reason. */
DDPM_MUST_CHECK ddpm_status safetensors_write(const char *path, const safetensors_item *items, int n, bool durable,
                                              err *e);

#endif
