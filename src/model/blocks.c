#include "model/blocks.h"

static tensor *norm(unet_context *u, tensor *x, tensor *x2, bool silu, const char *name)
{
    return nn_norm_act(u->p, &(nn_norm_args){.x = x,
                                             .x2 = x2,
                                             .groups = u->config->norm_num_groups,
                                             .eps = u->config->norm_eps,
                                             .silu = silu,
                                             .name = name});
}

/* The time embedding's projection for the next resnet. */
static tensor *project_time(unet_context *u, int64_t channels)
{
    if (!u->p->be->projections)
        return nn_linear(u->p, &(nn_linear_args){.x = u->temb, .cout = channels, .name = "time_emb_proj"});
    tensor *columns = plan_columns(u->p, u->temb, u->column, channels);
    u->column += channels;
    return columns;
}

/* norm2 with SiLU and dropout.  The time embedding is added to its input, or is its scale and shift. */
static tensor *timed_norm(unet_context *u, tensor *x)
{
    if (!x) return NULL;
    const unet_config *c = u->config;
    nn_norm_args a = {.x = x,
                      .cond = project_time(u, resnet_time_channels(c, x->c)),
                      .kind = c->time_scale_shift == UNET_SHIFT_SCALE ? COND_SCALE_SHIFT : COND_ADD,
                      .groups = c->norm_num_groups,
                      .eps = c->norm_eps,
                      .silu = true,
                      .name = "norm2"};
    if (u->p->training && c->dropout > 0) {
        a.state = u->state;
        a.dropout = (float)c->dropout;
        a.dropout_layer = u->dropout_layer++;
    }
    return nn_norm_act(u->p, &a);
}

static tensor *shortcut(unet_context *u, tensor *x, tensor *skip, int64_t cout)
{
    if (!skip && x->c == cout) return x;
    return nn_conv2d(u->p, &(nn_conv_args){.x = x, .x2 = skip, .cout = cout, .kernel = 1, .name = "conv_shortcut"});
}

tensor *unet_resnet(unet_context *u, tensor *x, tensor *skip, int64_t cout)
{
    plan *p = u->p;
    if (!x || !plan_ok(p)) return NULL;
    if (skip && !p->be->two_sources) {
        x = nn_concat(p, x, skip);
        if (!x) return NULL;
        skip = NULL;
    }
    tensor *h = norm(u, x, skip, true, "norm1");
    h = nn_conv2d(p, &(nn_conv_args){.x = h, .cout = cout, .name = "conv1"});
    h = timed_norm(u, h);
    return nn_conv2d(
        p,
        &(nn_conv_args){
            .x = h, .residual = shortcut(u, x, skip, cout), .cout = cout, .init = INIT_FAN_AVG_TINY, .name = "conv2"});
}

tensor *unet_attention(unet_context *u, tensor *x, int groups)
{
    plan *p = u->p;
    if (!x || !plan_ok(p)) return NULL;
    const int64_t c = x->c;
    const layer_rows qkv_rows[] = {{"to_q", c}, {"to_k", c}, {"to_v", c}};
    const int heads = u->config->attention_head_dim ? (int)c / u->config->attention_head_dim : 1;
    tensor *h = x;
    if (groups > 0)
        h = nn_norm_act(p, &(nn_norm_args){.x = x, .groups = groups, .eps = u->config->norm_eps, .name = "group_norm"});
    h = nn_conv2d(p,
                  &(nn_conv_args){.x = h, .kernel = 1, .matrix = true, .name = "to_q", .rows = qkv_rows, .n_rows = 3});
    h = nn_attention(p, h, heads);
    return nn_conv2d(p, &(nn_conv_args){.x = h,
                                        .residual = x,
                                        .cout = c,
                                        .kernel = 1,
                                        .matrix = true,
                                        .init = INIT_FAN_AVG_TINY,
                                        .name = "to_out.0"});
}

tensor *unet_downsample(unet_context *u, tensor *x)
{
    if (!x) return NULL;
    return nn_conv2d(
        u->p, &(nn_conv_args){
                  .x = x, .cout = x->c, .stride = 2, .pad_end = u->config->downsample_padding == 0, .name = "conv"});
}

tensor *unet_upsample(unet_context *u, tensor *x) { return x ? nn_upconv(u->p, x, x->c, INIT_FAN_AVG, "conv") : NULL; }
