/* network.h - the available networks, each defined once for all plans.
 *
 * A network is a function of x_t and t.  Training, sampling and prediction plans are built from the
 * same definition and find its parameters by name (params.h). */
#ifndef DDPM_NETWORK_H
#define DDPM_NETWORK_H
#include "io/unet_config.h"
#include "plan/plan.h"

typedef enum network_kind {
    NETWORK_UNET,  /* UNet2DModel of diffusers, the U-Net of Ho et al. 2020 */
    NETWORK_SIMPLE /* three convolutions of SIMPLE_WIDTH channels with ReLU, without a time embedding */
} network_kind;

enum { SIMPLE_WIDTH = 64 };

typedef struct network {
    network_kind kind;
    unet_config unet; /* both kinds: in_channels, out_channels, sample_size */
} network;

typedef struct network_inputs {
    tensor *x;     /* [n, h, w, in_channels] */
    tensor *t;     /* [n], any real number */
    tensor *state; /* train_state; needed in training with dropout, else NULL */
    /* Of a network that takes labels (unet_config_classes()): i64 [n], in [0, classes).  -1 adds no row of
     * class_embedding.weight; with class_embed_type timestep it is a number like any other, as in diffusers. */
    tensor *labels;
    tensor *vectors; /* with class_embed_type identity: f32 [n, 1, 1, 4 block_out_channels[0]], added as they are */
} network_inputs;

typedef struct network_outputs {
    tensor *y;    /* [n, h, w, out_channels] */
    tensor *freq; /* frequencies of the time embedding, set by network_fill(); NULL if the network has none */
} network_outputs;

/* Everything that the network reads without training, as inputs of the plan: n images of h x w pixels, their times, and
 * their labels or vectors if it takes any. */
network_inputs network_input_tensors(const network *net, plan *p, int64_t n, int h, int w);
/* Append the network to the plan.  In a plan with `training` set, dropout is active and activations
 * are kept for the backward pass. */
network_outputs network_build(const network *net, plan *p, const network_inputs *in);
/* Set the plan's constant inputs; call it once the plan has memory. */
DDPM_MUST_CHECK ddpm_status network_fill(const network *net, plan *p, const network_outputs *out, err *e);

/* ---- one function per kind, for network.c ---- */
network_outputs unet_build(const unet_config *c, plan *p, const network_inputs *in);
network_outputs simple_build(const unet_config *c, plan *p, const network_inputs *in);

#endif
