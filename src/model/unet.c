/* unet.c - the U-Net of Ho, Jain & Abbeel 2020 (arXiv:2006.11239, appendix B) in the general form of
 * diffusers' UNet2DModel: conv_in; down blocks, whose outputs are the skip connections; mid block; up
 * blocks; norm, SiLU, conv_out. */
#include "model/blocks.h"
#include "model/network.h"

#include <string.h>

enum {
    MAX_RESNETS = UNET_MAX_BLOCKS * (2 * UNET_MAX_LAYERS + 1) + 2,
    MAX_SKIPS = UNET_MAX_BLOCKS * (UNET_MAX_LAYERS + 1) + 1
};

typedef struct projections {
    char name[MAX_RESNETS][NAME_CAP];
    layer_rows rows[MAX_RESNETS];
    int n;
} projections;

static void add_projection(projections *all, const unet_config *c, const char *block, int resnet, int cout)
{
    (void)snprintf(all->name[all->n], NAME_CAP, "%s.resnets.%d.time_emb_proj", block, resnet);
    all->rows[all->n] = (layer_rows){all->name[all->n], resnet_time_channels(c, cout)};
    all->n++;
}

/* List every resnet's time projection, in the order in which the resnets are built. */
static void list_projections(const unet_config *c, projections *all)
{
    char block[32];
    all->n = 0;
    for (int b = 0; b < c->n_block; b++)
        for (int l = 0; l < c->layers_per_block; l++) {
            (void)snprintf(block, sizeof block, "down_blocks.%d", b);
            add_projection(all, c, block, l, c->block[b].out_channels);
        }
    for (int l = 0; l < 2 && c->mid_block; l++)
        add_projection(all, c, "mid_block", l, c->block[c->n_block - 1].out_channels);
    for (int b = 0; b < c->n_block; b++)
        for (int l = 0; l < c->layers_per_block + 1; l++) {
            (void)snprintf(block, sizeof block, "up_blocks.%d", b);
            add_projection(all, c, block, l, c->block[c->n_block - 1 - b].out_channels);
        }
}

/* class_embedding of UNet2DModel, h = the time embedding before its last SiLU: a row of a table, the label embedded as
 * a timestep by layers of its own, or the vector itself. */
static tensor *embed_classes(plan *p, const unet_config *c, const network_inputs *in, tensor *freq, tensor *h)
{
    const int64_t width = 4 * (int64_t)c->block[0].out_channels;
    const param_spec spec = {
        .rank = 2, .h = 1, .w = 1, .c = width, .fan_in = 1, .fan_out_per_row = 1, .init = INIT_NORMAL};
    const layer_rows rows = {"class_embedding", c->num_class_embeds};
    switch (c->class_embed_type) {
    case UNET_CLASS_NULL: return nn_class_embed(p, h, plan_param(p, &rows, 1, "weight", &spec), in->labels);
    case UNET_CLASS_IDENTITY: return nn_class_embed(p, h, in->vectors, NULL);
    case UNET_CLASS_TIMESTEP: break;
    }
    tensor *y = nn_time_mlp(p, &(nn_time_mlp_args){.t = in->labels,
                                                   .freq = freq,
                                                   .dim = c->block[0].out_channels,
                                                   .width = width,
                                                   .flip_sin_to_cos = c->flip_sin_to_cos,
                                                   .linear = true,
                                                   .name = "class_embedding"});
    return nn_class_embed(p, h, y, NULL);
}

/* The time projections of all resnets are computed by one matrix product. */
static tensor *embed_time(plan *p, const unet_config *c, const network_inputs *in, tensor *freq)
{
    const int64_t width = 4 * (int64_t)c->block[0].out_channels;
    const bool classes = unet_config_conditional(c);
    projections all;
    list_projections(c, &all);
    tensor *h = nn_time_mlp(p, &(nn_time_mlp_args){.t = in->t,
                                                   .freq = freq,
                                                   .dim = c->block[0].out_channels,
                                                   .width = width,
                                                   .flip_sin_to_cos = c->flip_sin_to_cos,
                                                   .linear = classes,
                                                   .name = "time_embedding"});
    if (classes) h = embed_classes(p, c, in, freq, h);
    if (!p->be->projections) return h; /* each resnet computes its own projection */
    return nn_linear(p, &(nn_linear_args){.x = h, .name = "time_emb_proj", .rows = all.rows, .n_rows = all.n});
}

static tensor *resnet(unet_context *u, tensor *x, tensor *skip, int64_t cout, int index)
{
    plan_push(u->p, "resnets.%d", index);
    tensor *y = unet_resnet(u, x, skip, cout);
    plan_pop(u->p);
    return y;
}

static tensor *attention(unet_context *u, tensor *x, int groups, int index)
{
    plan_push(u->p, "attentions.%d", index);
    tensor *y = unet_attention(u, x, groups);
    plan_pop(u->p);
    return y;
}

typedef struct skips {
    tensor *of[MAX_SKIPS];
    int n;
} skips;

static tensor *down_block(unet_context *u, tensor *h, int b, skips *kept)
{
    const unet_config *c = u->config;
    plan_push(u->p, "down_blocks.%d", b);
    for (int l = 0; l < c->layers_per_block; l++) {
        h = resnet(u, h, NULL, c->block[b].out_channels, l);
        if (c->block[b].down == UNET_ATTN_DOWN) h = attention(u, h, c->norm_num_groups, l);
        kept->of[kept->n++] = h;
    }
    if (b + 1 < c->n_block) {
        plan_push(u->p, "downsamplers.0");
        h = kept->of[kept->n++] = unet_downsample(u, h);
        plan_pop(u->p);
    }
    plan_pop(u->p);
    return h;
}

/* Without a mid block, h is also the skip of the first resnet above: in training a copy, because no step may have one tensor
 * as two operands, both of whose gradients it writes. */
static tensor *mid_block(unet_context *u, tensor *h)
{
    const unet_config *c = u->config;
    if (!c->mid_block) return u->p->training ? nn_copy(u->p, h) : h;
    const int channels = c->block[c->n_block - 1].out_channels;
    plan_push(u->p, "mid_block");
    h = resnet(u, h, NULL, channels, 0);
    if (c->add_attention) h = attention(u, h, unet_mid_attention_groups(c), 0);
    h = resnet(u, h, NULL, channels, 1);
    plan_pop(u->p);
    return h;
}

static tensor *up_block(unet_context *u, tensor *h, int b, skips *kept)
{
    const unet_config *c = u->config;
    plan_push(u->p, "up_blocks.%d", b);
    for (int l = 0; l < c->layers_per_block + 1; l++) {
        h = resnet(u, h, kept->of[--kept->n], c->block[c->n_block - 1 - b].out_channels, l);
        if (c->block[b].up == UNET_ATTN_UP) h = attention(u, h, c->norm_num_groups, l);
    }
    if (b + 1 < c->n_block) {
        plan_push(u->p, "upsamplers.0");
        h = unet_upsample(u, h);
        plan_pop(u->p);
    }
    plan_pop(u->p);
    return h;
}

/* Every level must halve the image exactly, or upsampled tensors and skips would differ in size. */
static bool check_sides(plan *p, const unet_config *c, const tensor *x)
{
    const int64_t unit = INT64_C(1) << (c->n_block - 1), bad = x->h % unit ? x->h : x->w, below = bad / unit * unit;
    char nearest[64];
    if (bad % unit == 0) return true;
    (void)snprintf(nearest, sizeof nearest, "%lld and %lld", (long long)below, (long long)(below + unit));
    plan_fail(p, DDPM_EINVAL,
              "%lldx%lld images: with %d levels the sides must be multiples of %lld, nearest %s (data.resolution)",
              (long long)x->h, (long long)x->w, c->n_block, (long long)unit,
              below ? nearest : strstr(nearest, "and ") + strlen("and "));
    return false;
}

network_outputs unet_build(const unet_config *c, plan *p, const network_inputs *in)
{
    skips kept = {.n = 0};
    if (!check_sides(p, c, in->x)) return (network_outputs){NULL, NULL};
    tensor *freq = plan_input(p, DTYPE_F32, "frequencies", c->block[0].out_channels / 2, 1, 1, 1);
    unet_context u = {.p = p, .config = c, .state = in->state, .temb = embed_time(p, c, in, freq)};
    tensor *x = c->center_input_sample ? nn_affine(p, in->x, 2, -1) : in->x;
    tensor *h = nn_conv2d(p, &(nn_conv_args){.x = x, .cout = c->block[0].out_channels, .name = "conv_in"});
    kept.of[kept.n++] = h;
    for (int b = 0; b < c->n_block; b++) h = down_block(&u, h, b, &kept);
    h = mid_block(&u, h);
    for (int b = 0; b < c->n_block; b++) h = up_block(&u, h, b, &kept);
    h = nn_norm_act(
        p, &(nn_norm_args){
               .x = h, .groups = c->norm_num_groups, .eps = c->norm_eps, .silu = true, .name = "conv_norm_out"});
    h = nn_conv2d(p, &(nn_conv_args){.x = h, .cout = c->out_channels, .init = INIT_FAN_AVG_TINY, .name = "conv_out"});
    return (network_outputs){.y = h, .freq = freq};
}
