#include "model/network.h"
#include "base/mem.h"
#include "nn/nn.h"
#include "time_embed.h"

static bool check_classes(const unet_config *c, plan *p, const network_inputs *in)
{
    const int classes = unet_config_classes(c);
    if (classes > 0 && !in->labels)
        plan_fail(p, DDPM_EINVAL, "the network has %d classes, but no labels are given", classes);
    if (c->class_embed_type == UNET_CLASS_IDENTITY && !in->vectors)
        plan_fail(
            p, DDPM_EINVAL,
            "class_embed_type is identity: the network reads a vector of %d numbers for each image, which cannot be "
            "given here; use a network with labels (class_embed_type null or timestep)",
            4 * c->block[0].out_channels);
    return plan_ok(p);
}

network_inputs network_input_tensors(const network *net, plan *p, int64_t n, int h, int w)
{
    const unet_config *c = &net->unet;
    network_inputs in = {.x = plan_input(p, DTYPE_F32, "x", n, h, w, c->in_channels),
                         .t = plan_input(p, DTYPE_F32, "t", n, 1, 1, 1)};
    if (unet_config_classes(c) > 0) in.labels = plan_input(p, DTYPE_I64, "labels", n, 1, 1, 1);
    if (c->class_embed_type == UNET_CLASS_IDENTITY)
        in.vectors = plan_input(p, DTYPE_F32, "vectors", n, 1, 1, 4 * (int64_t)c->block[0].out_channels);
    return in;
}

network_outputs network_build(const network *net, plan *p, const network_inputs *in)
{
    const network_outputs none = {NULL, NULL};
    if (!in->x || !in->t || !plan_ok(p)) return none;
    if (in->x->c != net->unet.in_channels) {
        plan_fail(p, DDPM_EINVAL, "the network has %d input channels, but the images have %lld", net->unet.in_channels,
                  (long long)in->x->c);
        return none;
    }
    if (!check_classes(&net->unet, p, in)) return none;
    network_inputs typed = *in;
    typed.x = nn_cast(p, in->x, p->be->act);
    return net->kind == NETWORK_UNET ? unet_build(&net->unet, p, &typed) : simple_build(&net->unet, p, &typed);
}

ddpm_status network_fill(const network *net, plan *p, const network_outputs *out, err *e)
{
    if (!out->freq) return DDPM_OK;
    const int half = (int)out->freq->n;
    float *freq;
    TRY(mem_array(&freq, (size_t)half, sizeof *freq, "time embedding", e));
    time_embed_frequencies(freq, half, (float)net->unet.freq_shift);
    const ddpm_status st = plan_write(p, out->freq, freq, e);
    mem_free(freq);
    return st;
}
