/* cuda_product.h - matrix products over rows, and launches that several ops share. */
#ifndef DDPM_CUDA_PRODUCT_H
#define DDPM_CUDA_PRODUCT_H
#include "backend/cuda/op/cuda_primitive.h"

/* Sums of the columns of dy [rows, c], whose elements may lie elsewhere, at `data`: column_sum_bytes() of partial sums,
 * and the sum of these that completes out[output] of s. */
size_t cuda_column_sum_bytes(const tensor *dy);
DDPM_MUST_CHECK ddpm_status cuda_column_sums(cuda_backend *be, const tensor *dy, const void *data, void *partial,
                                             err *e);
bool cuda_column_sum_list(grad_sum *to, const step *s, int output, const tensor *dy, const void *partial);
/* to (=, +=) from, converted to the type of `to` */
DDPM_MUST_CHECK ddpm_status cuda_copy_as(cuda_backend *be, const void *from, storage from_type, const tensor *to,
                                         bool add, err *e);
/* to [rows, c] = bias + residual; either may be NULL */
DDPM_MUST_CHECK ddpm_status cuda_fill_rows(cuda_backend *be, const tensor *to, const tensor *bias, const void *residual,
                                           err *e);

/* Where a library writes its result: a tensor, replacing or accumulating.  The library accumulates itself (beta = 1);
 * if CUDA_OPT_BETA is disabled, the result goes to a scratch of the tensor's shape, and a kernel adds the scratch. */
typedef struct target {
    bool add; /* the library accumulates (beta = 1) */
    bool via_scratch;
    size_t at; /* offset of that scratch */
} target;
target cuda_target(const cuda_backend *be, const tensor *to, bool add, size_t *end);
void *cuda_target_data(const step *s, const target *t, const tensor *to);
DDPM_MUST_CHECK ddpm_status cuda_target_finish(cuda_backend *be, const step *s, const target *t, const tensor *to,
                                               err *e);

/* A matrix product over rows: the part that all runs of the product share. */
typedef struct product {
    gemm_problem q;
    primitive *p;
    size_t workspace; /* offset in the step's scratch */
} product;
/* Fills in q.align, gets the primitive and adds its workspace to *end. */
DDPM_MUST_CHECK ddpm_status cuda_product_prepare(cuda_backend *be, product *g, int64_t offset_bytes, size_t *end,
                                                 err *e);
typedef struct product_data {
    const void *a, *b, *bias, *c;
    void *d;
} product_data;
DDPM_MUST_CHECK ddpm_status cuda_product_run(cuda_backend *be, const step *s, const product *g, const product_data *at,
                                             err *e);

#endif
