/* safetensors.h - Hugging Face's tensor container, read with distrust and written to the byte.
 *
 *   u64 LE header length | header, JSON padded with blanks | tensors, back to back
 *   {"__metadata__":{"format":"pt"},"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}
 *
 * https://github.com/huggingface/safetensors (format and limits).  The reader takes nothing for
 * granted: see safetensors_open().  Numbers are little-endian, as on every machine this runs on. */
#ifndef DDPM_SAFETENSORS_H
#define DDPM_SAFETENSORS_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, bytes of a value), in the order in which the reference ranks them; the highest is written first. */
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

/* "[2, 3]" into out, cut at cap; returns out. */
const char *safetensors_shape_text(char *out, size_t cap, int rank, const int64_t *shape);

/* ---- reading ---- */

typedef struct safetensors safetensors;

typedef struct safetensors_tensor {
    const char *name; /* UTF-8 */
    safetensors_dtype dtype;
    int rank; /* 0 to SAFETENSORS_MAX_RANK */
    int64_t shape[SAFETENSORS_MAX_RANK];
    const void *data; /* not aligned to anything */
    size_t bytes;     /* product of the shape times the dtype's size: checked */
} safetensors_tensor;

/* Map a file and check all of it: the header is 2 to SAFETENSORS_MAX_HEADER bytes and within the
 * file, begins with '{' and is strict JSON (no duplicates, save in __metadata__, of which nothing is kept); dtypes
 * are known, ranks at most 8, sizes not negative, their product in bytes does not overflow and equals the range; the
 * ranges follow one another without a gap from the first data byte to the end of the file; __metadata__ maps text to
 * text.  Nothing is allocated by a number from the header, and no header takes more than 3 times its bytes besides
 * them.  DDPM_EDATA names the tensor and the rule, DDPM_ENOINPUT: missing or unreadable.
 * The file must not shrink while it is open; replace files by rename. */
DDPM_MUST_CHECK ddpm_status safetensors_open(const char *path, safetensors **out, err *e);

/* As safetensors_open() over `size` bytes in memory, borrowed until safetensors_close(). */
DDPM_MUST_CHECK ddpm_status safetensors_open_memory(const void *bytes, size_t size, const char *where,
                                                    safetensors **out, err *e);
void safetensors_close(safetensors *st); /* takes NULL */

int safetensors_count(const safetensors *st);
const safetensors_tensor *safetensors_entry(const safetensors *st, int i); /* i in [0, count), by name, bytewise */
const safetensors_tensor *safetensors_find(const safetensors *st, const char *name); /* NULL: not there */

/* The tensor has been read and need not stay in memory; it is read from the file again where it is asked for. */
void safetensors_let_go(const safetensors *st, const safetensors_tensor *t);

/* Can safetensors_to_f32() read it? */
bool safetensors_is_float(safetensors_dtype dtype);

/* The values of an F32, F16, BF16 or F64 tensor as float into to[product of shape]; F64 is rounded.
 * DDPM_EDATA: another dtype. */
DDPM_MUST_CHECK ddpm_status safetensors_to_f32(const safetensors_tensor *t, float *to, err *e);

/* Is every value finite as a float?  DDPM_EDATA names the file, the tensor and the first that is not; what is no
 * floating-point tensor is always. */
DDPM_MUST_CHECK ddpm_status safetensors_check_finite(const safetensors *st, const safetensors_tensor *t, err *e);

/* ---- writing ---- */

typedef struct safetensors_item {
    const char *name; /* UTF-8, not "__metadata__" */
    safetensors_dtype dtype;
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    const void *data; /* the bytes of the file, or the source that `pack` reads */
    /* NULL, or writes the file's bytes of the item to `to`: a change of layout without a second copy of all. */
    void (*pack)(const struct safetensors_item *item, void *to);
} safetensors_item;

/* Write n tensors as the reference does: metadata {"format":"pt"}, dtypes from the highest rank down,
 * then names bytewise.  One tensor at a time is in memory, and only where it has a `pack`.
 * `durable`: fsynced.  The file is complete or removed.  DDPM_EINVAL: two of one name, bad UTF-8, a
 * negative or overflowing shape.  DDPM_EIO: the path and the system's reason. */
DDPM_MUST_CHECK ddpm_status safetensors_write(const char *path, const safetensors_item *items, int n, bool durable,
                                              err *e);

#endif
