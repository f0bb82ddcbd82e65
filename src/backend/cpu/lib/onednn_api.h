/* onednn_api.h - oneDNN's C API in the form of version 3, also for version 2 of the library.
 *
 * Version 3 creates memory descriptors and convolution primitive descriptors with one call each; in version 2 such
 * calls fill structs that the caller owns.  With version 2's headers, this file implements the version-3 calls that
 * we use, under the prefix `onednn_`, so that onednn.c needs only one API.  No other file depends on the version of
 * oneDNN. */
#ifndef DDPM_ONEDNN_API_H
#define DDPM_ONEDNN_API_H
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t onednn_md;             /* owned; NULL: none */
typedef const_dnnl_memory_desc_t onednn_const_md; /* borrowed */

#define onednn_md_create_with_tag           dnnl_memory_desc_create_with_tag
#define onednn_md_create_with_strides       dnnl_memory_desc_create_with_strides
#define onednn_md_destroy                   dnnl_memory_desc_destroy
#define onednn_convolution_forward          dnnl_convolution_forward_primitive_desc_create
#define onednn_convolution_backward_data    dnnl_convolution_backward_data_primitive_desc_create
#define onednn_convolution_backward_weights dnnl_convolution_backward_weights_primitive_desc_create

static inline dnnl_status_t onednn_append_sum(dnnl_post_ops_t ops, float scale)
{
    return dnnl_post_ops_append_sum(ops, scale, 0, dnnl_data_type_undef);
}

#else

typedef dnnl_memory_desc_t *onednn_md;
typedef const dnnl_memory_desc_t *onednn_const_md;

#define onednn_append_sum dnnl_post_ops_append_sum

static inline dnnl_status_t onednn_md_destroy(onednn_md md)
{
    free(md);
    return dnnl_success;
}

/* Checks a call that fills *md: on failure *md is freed and set to NULL. */
static inline dnnl_status_t onednn_md_checked(onednn_md *md, dnnl_status_t filled)
{
    if (filled == dnnl_success) return dnnl_success;
    free(*md);
    *md = NULL;
    return filled;
}

static inline dnnl_status_t onednn_md_create_with_tag(onednn_md *md, int ndims, const dnnl_dims_t dims,
                                                      dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    *md = malloc(sizeof **md);
    if (!*md) return dnnl_out_of_memory;
    return onednn_md_checked(md, dnnl_memory_desc_init_by_tag(*md, ndims, dims, type, tag));
}

static inline dnnl_status_t onednn_md_create_with_strides(onednn_md *md, int ndims, const dnnl_dims_t dims,
                                                          dnnl_data_type_t type, const dnnl_dims_t strides)
{
    *md = malloc(sizeof **md);
    if (!*md) return dnnl_out_of_memory;
    return onednn_md_checked(md, dnnl_memory_desc_init_by_strides(*md, ndims, dims, type, strides));
}

static inline dnnl_status_t onednn_convolution_forward(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                                       dnnl_prop_kind_t prop, dnnl_alg_kind_t alg, onednn_const_md src,
                                                       onednn_const_md weights, onednn_const_md bias,
                                                       onednn_const_md dst, const dnnl_dims_t strides,
                                                       const dnnl_dims_t dilates, const dnnl_dims_t pad_begin,
                                                       const dnnl_dims_t pad_end, const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t desc;
    const dnnl_status_t st = dnnl_dilated_convolution_forward_desc_init(&desc, prop, alg, src, weights, bias, dst,
                                                                        strides, dilates, pad_begin, pad_end);
    return st ? st : dnnl_primitive_desc_create(pd, &desc, attr, engine, NULL);
}

static inline dnnl_status_t onednn_convolution_backward_data(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                                             dnnl_alg_kind_t alg, onednn_const_md diff_src,
                                                             onednn_const_md weights, onednn_const_md diff_dst,
                                                             const dnnl_dims_t strides, const dnnl_dims_t dilates,
                                                             const dnnl_dims_t pad_begin, const dnnl_dims_t pad_end,
                                                             const_dnnl_primitive_desc_t forward,
                                                             const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t desc;
    const dnnl_status_t st = dnnl_dilated_convolution_backward_data_desc_init(&desc, alg, diff_src, weights, diff_dst,
                                                                              strides, dilates, pad_begin, pad_end);
    return st ? st : dnnl_primitive_desc_create(pd, &desc, attr, engine, forward);
}

static inline dnnl_status_t
onednn_convolution_backward_weights(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, dnnl_alg_kind_t alg,
                                    onednn_const_md src, onednn_const_md diff_weights, onednn_const_md diff_bias,
                                    onednn_const_md diff_dst, const dnnl_dims_t strides, const dnnl_dims_t dilates,
                                    const dnnl_dims_t pad_begin, const dnnl_dims_t pad_end,
                                    const_dnnl_primitive_desc_t forward, const_dnnl_primitive_attr_t attr)
{
    dnnl_convolution_desc_t desc;
    const dnnl_status_t st = dnnl_dilated_convolution_backward_weights_desc_init(
        &desc, alg, src, diff_weights, diff_bias, diff_dst, strides, dilates, pad_begin, pad_end);
    return st ? st : dnnl_primitive_desc_create(pd, &desc, attr, engine, forward);
}

#endif
#endif
