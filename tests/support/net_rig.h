/* net_rig.h - whole plans as a trainer and a sampler build them, on the cpu backend.
 *
 * A failing call fails the running test with its message. */
#ifndef DDPM_NET_RIG_H
#define DDPM_NET_RIG_H
#include "diffusion/sampler.h"
#include "model/network.h"
#include "model/params.h"
#include "nn/nn.h"

/* diffusers' defaults, but small: 3 channels, widths 8 8 16 16, 4 groups, one layer a block; for images from 16x16. */
unet_config net_small_unet(void);
/* The optimizer settings of tests: Adam with clipping and EMA. */
extern const step_attr net_updates;
/* The network of Ho et al. 2020 for CIFAR-10, 35.7 million parameters. */
unet_config net_cifar10_unet(void);

typedef struct net_options {
    network net;
    int64_t n, h, w;
    int threads;              /* 0: 1 */
    bool unpacked;            /* no two activations share memory */
    bool other_recompute;     /* training: the opposite of the backend's choice for plan.recompute */
    bool keep;                /* training: x_t, t and the prediction can be read after a run */
    bool flip;                /* training: mirror images at random */
    int timesteps;            /* training: rows of the table */
    int micro_batches;        /* training: 0: 1 */
    float label_dropout;      /* training with classes: probability of the last class */
    const step_attr *updates; /* training: NULL: no update plan */
} net_options;

typedef struct net_rig {
    backend *be;
    network net;
    params *store;
    plan *p;
    plan *update; /* grad_norm and adamw, on the same state */
    tensor *images, *table, *state, *x, *t, *rows, *ids, *loss, *xt;
    nn_drawn drawn;
    tensor *labels; /* NULL: the network takes none */
    network_outputs out;
} net_rig;

/* A training plan of noising, network, loss, backward pass and tally, and an update plan; finished, without memory. */
void net_train(net_rig *r, const net_options *o);
/* A sampling plan: next row, network, sampler step over `rows` rows; x, ids and state are inputs; finished. */
void net_sample(net_rig *r, const net_options *o, int rows);
/* Allocates the plans' memory, allocates and binds the parameters, and loads the weights if given. */
void net_allocate(net_rig *r, arena_kind weights, const char *weights_path);
/* net_allocate() of a training rig; random weights, images, table and state, the same in every rig of equal shape. */
void net_start(net_rig *r);
void net_run(net_rig *r);
void net_destroy(net_rig *r);

#endif
