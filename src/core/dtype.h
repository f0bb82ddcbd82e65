/* dtype.h - element types of tensors. */
#ifndef DDPM_DTYPE_H
#define DDPM_DTYPE_H
#include <stddef.h>

typedef enum dtype { DTYPE_F32, DTYPE_U8, DTYPE_I64 } dtype;

static inline size_t dtype_size(dtype d) { return d == DTYPE_U8 ? 1 : d == DTYPE_I64 ? 8 : 4; }
static inline const char *dtype_name(dtype d) { return d == DTYPE_U8 ? "u8" : d == DTYPE_I64 ? "i64" : "f32"; }

#endif
