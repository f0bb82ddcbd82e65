/* simple.c - a minimal denoiser: Conv-ReLU-Conv-ReLU-Conv, without a time embedding. */
#include "model/network.h"
#include "nn/nn.h"

static tensor *conv(plan *p, tensor *x, int64_t cout, const char *name)
{
    return nn_conv2d(
        p, &(nn_conv_args){
               .x = x, .cout = cout, .kernel = 3, .init = INIT_FAN_IN, .bias_init = INIT_FAN_IN, .name = name});
}

network_outputs simple_build(const unet_config *c, plan *p, const network_inputs *in)
{
    tensor *h = nn_relu(p, conv(p, in->x, SIMPLE_WIDTH, "conv1"));
    h = nn_relu(p, conv(p, h, SIMPLE_WIDTH, "conv2"));
    return (network_outputs){.y = conv(p, h, c->out_channels, "conv3")};
}
