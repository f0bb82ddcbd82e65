/* weights.h - reading and writing a network's parameters as safetensors, with PyTorch's names and shapes.
 *
 * Convolution filters are [cout, cin, kh, kw] in the file and [cout, kh, kw, cin] in memory; every
 * other tensor is the same in both.  The shape of a named_tensor is always the file's. */
#ifndef DDPM_WEIGHTS_H
#define DDPM_WEIGHTS_H
#include "base/err.h"
#include "base/notes.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct named_tensor {
    const char *name; /* "down_blocks.0.resnets.0.conv1.weight" */
    int rank;         /* 1 to 4; 4 is a convolution's filter */
    int64_t shape[4]; /* as in PyTorch */
    float *data;      /* [product of the shape] in our layout; weights_read() writes it */
} named_tensor;

/* Convert one filter between the two layouts; shape is PyTorch's [cout, cin, kh, kw].  No overlap. */
void filter_from_torch(float *to, const float *from, const int64_t shape[4]);
void filter_to_torch(float *to, const float *from, const int64_t shape[4]);

/* Find the weights file of a folder, into out[PATH_CAP]: diffusion_pytorch_model.safetensors, else its .fp16
 * variant.  DDPM_EDATA: only pickled or sharded weights; the message says what to do.  DDPM_ENOINPUT: no weights. */
DDPM_MUST_CHECK ddpm_status weights_find(const char *dir, char *out, err *e);

/* Read tensors[n] from a file.  F16, BF16 and F64 are converted to float and noted.  The attention names of diffusers'
 * first releases (query, key, value, proj_attn) and their [c, c, 1, 1] shapes are accepted.
 * DDPM_EDATA: tensors that are missing, extra or of another shape or dtype, all in one message, or a non-finite value,
 * with its tensor.  On failure no tensor is written. */
DDPM_MUST_CHECK ddpm_status weights_read(const char *path, const named_tensor *tensors, int n, notes *remarks, err *e);

/* Write tensors[n] by safetensors_write(), converting one filter at a time. */
DDPM_MUST_CHECK ddpm_status weights_write(const char *path, const named_tensor *tensors, int n, bool durable, err *e);
/* The same in F16, rounded to nearest, ties to even.  DDPM_EDIVERGED: also a value of 65520 or more, which F16 cannot
 * hold. */
DDPM_MUST_CHECK ddpm_status weights_write_half(const char *path, const named_tensor *tensors, int n, bool durable,
                                               err *e);

#endif
