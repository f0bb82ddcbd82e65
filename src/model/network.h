/* network.h - the networks there are, written once for every plan.
 *
 * A network says what it computes from x_t and t; training, sampling and prediction plans build it
 * from the same description, and its parameters are found by name (params.h). */
#ifndef DDPM_NETWORK_H
#define DDPM_NETWORK_H
#include "io/unet_config.h"
#include "plan/plan.h"

typedef enum network_kind {
    NETWORK_UNET,  /* UNet2DModel of diffusers, the U-Net of Ho et al. 2020 */
    NETWORK_SIMPLE /* three convolutions of SIMPLE_WIDTH channels with ReLU, blind to t */
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
} network_inputs;

typedef struct network_outputs {
    tensor *y;    /* [n, h, w, out_channels] */
    tensor *freq; /* an input of the plan that network_fill() sets; NULL where there is none */
} network_outputs;

/* Append the network to the plan.  In a plan with `training` dropout acts and what the backward
 * pass needs is kept. */
network_outputs network_build(const network *net, plan *p, const network_inputs *in);
/* Once the plan has memory: set its constant inputs. */
DDPM_MUST_CHECK ddpm_status network_fill(const network *net, plan *p, const network_outputs *out, err *e);

/* ---- the kinds, for network.c ---- */
network_outputs unet_build(const unet_config *c, plan *p, const network_inputs *in);
network_outputs simple_build(const unet_config *c, plan *p, const network_inputs *in);

#endif
