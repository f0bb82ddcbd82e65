/* trajectory_net.h - the small network of tests/golden/trajectory: images of 12 x 12 pixels, one channel.
 *
 * `learned`: with a second output channel v, made of the first, as learn_variance() of
 * tests/train/make_loss_trajectories.py makes it. */
#ifndef DDPM_TRAJECTORY_NET_H
#define DDPM_TRAJECTORY_NET_H
#include "model/model.h"

network trajectory_net(bool learned);
void trajectory_weights(model *m, bool learned); /* into ARENA_PARAM, which is allocated */

#endif
