/* golden.h - the fixtures computed by PyTorch and diffusers (tests/golden, tools/gen_golden.py).
 *
 * A missing file or tensor, or one of another type, fails the running test with its name. */
#ifndef DDPM_GOLDEN_H
#define DDPM_GOLDEN_H
#include "io/safetensors.h"
#include <stdint.h>

/* Writes the path DDPM_TESTS/golden/<name> to out[PATH_CAP] (base/file.h); returns out. */
char *golden_path(char *out, const char *name);

/* Opens the safetensors file tests/golden/<name>, e.g. "unet_cifar/io.safetensors".  safetensors_close() it. */
safetensors *golden_open(const char *name);

const safetensors_tensor *golden_find(const safetensors *st, const char *name);
int64_t golden_count(const safetensors *st, const char *name); /* values in the tensor */

/* All values of a tensor in a new array, *n of them (n may be NULL); mem_free() it.
 * golden_f32 reads F32, F64, F16 and BF16; golden_f64 only F64, golden_i64 only I64, golden_u8 only U8. */
float *golden_f32(const safetensors *st, const char *name, int64_t *n);
double *golden_f64(const safetensors *st, const char *name, int64_t *n);
int64_t *golden_i64(const safetensors *st, const char *name, int64_t *n);
uint8_t *golden_u8(const safetensors *st, const char *name, int64_t *n);

/* |a - b| / |b|, Euclidean norms in double; |a| if b is all zero; NaN if a or b contains a NaN. */
double rel_l2(const float *a, const float *b, int64_t n);

#endif
