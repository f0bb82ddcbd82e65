/* dtype.h - element types of tensors. */
#ifndef DDPM_DTYPE_H
#define DDPM_DTYPE_H
#include <stddef.h>

typedef enum dtype { DTYPE_F32, DTYPE_U8, DTYPE_I64, DTYPE_BF16 } dtype;

static inline size_t dtype_size(dtype d)
{
    static const size_t size[] = {[DTYPE_F32] = 4, [DTYPE_U8] = 1, [DTYPE_I64] = 8, [DTYPE_BF16] = 2};
    return size[d];
}

static inline const char *dtype_name(dtype d)
{
    static const char *const name[] = {
        [DTYPE_F32] = "f32", [DTYPE_U8] = "u8", [DTYPE_I64] = "i64", [DTYPE_BF16] = "bf16"};
    return name[d];
}

#endif
