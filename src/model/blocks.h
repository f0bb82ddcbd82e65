/* blocks.h - the U-Net's blocks.  Parameter names are those of diffusers. */
#ifndef DDPM_BLOCKS_H
#define DDPM_BLOCKS_H
#include "io/unet_config.h"
#include "nn/nn.h"

typedef struct unet_context {
    plan *p;
    const unet_config *config;
    tensor *temb;           /* all resnets' projections of the time embedding, concatenated; or, without
                             * backend.projections, the embedding itself */
    int64_t column;         /* of temb: first column of the next resnet */
    tensor *state;          /* train_state, for dropout */
    uint32_t dropout_layer; /* layer number of the next dropout mask */
} unet_context;

/* Channels of one resnet's time projection: its output channels, twice as many for scale and shift. */
static inline int64_t resnet_time_channels(const unet_config *c, int64_t cout)
{
    return c->time_scale_shift == UNET_SHIFT_SCALE ? 2 * cout : cout;
}

/* y = shortcut(cat(x, skip)) + conv2(dropout(silu(norm2(conv1(silu(norm1(cat(x, skip)))) + time)))) */
tensor *unet_resnet(unet_context *u, tensor *x, tensor *skip, int64_t cout);
/* y = x + to_out(attention(to_q, to_k, to_v (norm(x)))); groups = 0: no norm */
tensor *unet_attention(unet_context *u, tensor *x, int groups);
tensor *unet_downsample(unet_context *u, tensor *x);
tensor *unet_upsample(unet_context *u, tensor *x);

#endif
