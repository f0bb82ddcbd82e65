#include "io/unet_config.h"
#include "io/json_in.h"
#include "io/json_out.h"

#include <stdio.h>
#include <string.h>

static const char *const CLASSES[] = {"UNet2DModel", "UNetModel"};
static const char *const DOWN_TYPES[] = {"DownBlock2D", "AttnDownBlock2D"};
static const char *const UP_TYPES[] = {"UpBlock2D", "AttnUpBlock2D"};
static const char *const SHIFTS[] = {"default", "scale_shift"};
static const char *const ACTIVATIONS[] = {"silu", "swish"};
static const char *const TIME_EMBEDDINGS[] = {"positional"};
static const char *const MID_TYPES[] = {"UNetMidBlock2D"};
static const char *const RESAMPLERS[] = {"conv"};
static const char *const CLASS_TYPES[] = {NULL, "timestep", "identity"}; /* by unet_class_type */

unet_config unet_config_default(void)
{
    return (unet_config){
        .class_name = "UNet2DModel",
        .in_channels = 3,
        .out_channels = 3,
        .n_block = 4,
        .block = {{224, UNET_DOWN, UNET_ATTN_UP},
                  {448, UNET_ATTN_DOWN, UNET_ATTN_UP},
                  {672, UNET_ATTN_DOWN, UNET_ATTN_UP},
                  {896, UNET_ATTN_DOWN, UNET_UP}},
        .layers_per_block = 2,
        .attention_head_dim = 8,
        .norm_num_groups = 32,
        .norm_eps = 1e-5,
        .downsample_padding = 1,
        .flip_sin_to_cos = true,
        .mid_block = true,
        .add_attention = true,
    };
}

bool unet_config_conditional(const unet_config *c)
{
    return c->class_embed_type != UNET_CLASS_NULL || c->num_class_embeds > 0;
}

int unet_config_classes(const unet_config *c)
{
    if (c->class_embed_type == UNET_CLASS_IDENTITY) return 0;
    if (c->class_embed_type == UNET_CLASS_TIMESTEP && c->num_class_embeds == 0) return UNET_MAX_CLASSES;
    return c->num_class_embeds;
}

int unet_mid_attention_groups(const unet_config *c)
{
    if (c->attn_norm_num_groups) return c->attn_norm_num_groups;
    return c->time_scale_shift == UNET_SHIFT_DEFAULT ? c->norm_num_groups : 0;
}

/* ---- reading ---- */

static void read_sample_size(json_in *j, unet_config *c)
{
    int hw[2] = {0, 0};
    if (json_in_null(j, "sample_size")) return;
    if (json_is_array(json_in_get(j, "sample_size"))) {
        if (json_in_ints(j, "sample_size", hw, 2, 1, UNET_MAX_SIZE) != 2)
            json_in_fail(j, "sample_size must be null, an integer or [height, width]");
    } else {
        hw[0] = hw[1] = json_in_int(j, "sample_size", 0, 1, UNET_MAX_SIZE);
    }
    c->sample_size_h = hw[0];
    c->sample_size_w = hw[1];
}

/* Read block types as indices into names[2]; returns their number, 0 if the key is absent. */
static int read_block_types(json_in *j, const char *key, const char *const names[2], int *to)
{
    const json_t *v = json_in_get(j, key);
    if (!v) return 0;
    const size_t n = json_array_size(v);
    if (!json_is_array(v) || n == 0 || n > UNET_MAX_BLOCKS) {
        json_in_fail(j, "%s must be an array of 1 to %d block names", key, UNET_MAX_BLOCKS);
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(v, i));
        const char *plain = text && !strncmp(text, "UNetRes", 7) ? text + 7 : text; /* the old names */
        to[i] = -1;
        for (int k = 0; plain && k < 2; k++)
            if (!strcmp(plain, names[k])) to[i] = k;
        if (to[i] < 0) {
            json_in_fail(j, "%s[%zu] = %.60s is not supported; supported: %s, %s", key, i,
                         text ? text : "(not a string)", names[0], names[1]);
            return 0;
        }
    }
    return (int)n;
}

static void read_blocks(json_in *j, unet_config *c)
{
    int channels[UNET_MAX_BLOCKS], down[UNET_MAX_BLOCKS], up[UNET_MAX_BLOCKS];
    for (int i = 0; i < c->n_block; i++) { /* absent keys have defaults */
        channels[i] = c->block[i].out_channels;
        down[i] = c->block[i].down;
        up[i] = c->block[i].up;
    }
    const int nc = json_in_ints(j, "block_out_channels", channels, UNET_MAX_BLOCKS, 1, UNET_MAX_CHANNELS);
    const int nd = read_block_types(j, "down_block_types", DOWN_TYPES, down);
    const int nu = read_block_types(j, "up_block_types", UP_TYPES, up);
    const int n = nc ? nc : c->n_block;
    if (n != (nd ? nd : c->n_block) || n != (nu ? nu : c->n_block)) {
        json_in_fail(j, "%d block_out_channels, %d down_block_types, %d up_block_types: must have the same length", n,
                     nd ? nd : c->n_block, nu ? nu : c->n_block);
        return;
    }
    c->n_block = n;
    for (int i = 0; i < n; i++) c->block[i] = (unet_block){channels[i], (unet_down_type)down[i], (unet_up_type)up[i]};
}

/* null means 0; an absent key means the fallback, which may differ. */
static int read_nullable(json_in *j, const char *key, int fallback, int max)
{
    const json_t *v = json_in_get(j, key);
    return json_is_null(v) ? 0 : json_in_int(j, key, fallback, 1, max);
}

static void read_numbers(json_in *j, unet_config *c)
{
    c->in_channels = json_in_int(j, "in_channels", c->in_channels, 1, UNET_MAX_CHANNELS);
    c->out_channels = json_in_int(j, "out_channels", c->out_channels, 1, UNET_MAX_CHANNELS);
    c->layers_per_block = json_in_int(j, "layers_per_block", c->layers_per_block, 1, UNET_MAX_LAYERS);
    c->attention_head_dim = read_nullable(j, "attention_head_dim", c->attention_head_dim, UNET_MAX_CHANNELS);
    c->norm_num_groups = json_in_int(j, "norm_num_groups", c->norm_num_groups, 1, UNET_MAX_CHANNELS);
    c->attn_norm_num_groups = read_nullable(j, "attn_norm_num_groups", 0, UNET_MAX_CHANNELS);
    c->norm_eps = json_in_real(j, "norm_eps", c->norm_eps, 0.0, 1.0);
    c->downsample_padding = json_in_int(j, "downsample_padding", c->downsample_padding, 0, 1);
    c->flip_sin_to_cos = json_in_bool(j, "flip_sin_to_cos", c->flip_sin_to_cos);
    c->freq_shift = json_in_real(j, "freq_shift", c->freq_shift, -1000.0, 1000.0);
    c->dropout = json_in_real(j, "dropout", c->dropout, 0.0, 0.999);
    c->center_input_sample = json_in_bool(j, "center_input_sample", c->center_input_sample);
    c->num_train_timesteps = read_nullable(j, "num_train_timesteps", 0, 1000000);
    c->num_class_embeds = read_nullable(j, "num_class_embeds", 0, UNET_MAX_CLASSES);
    if (!json_in_null(j, "class_embed_type"))
        c->class_embed_type = (unet_class_type)(1 + json_in_choice(j, "class_embed_type", 0, CLASS_TYPES + 1, 2));
    c->add_attention = json_in_bool(j, "add_attention", c->add_attention);
    c->mid_block = !json_is_null(json_in_get(j, "mid_block_type"));
    if (c->mid_block) (void)json_in_choice(j, "mid_block_type", 0, MID_TYPES, 1);
    c->time_scale_shift = (unet_time_shift)json_in_choice(j, "resnet_time_scale_shift", 0, SHIFTS, 2);
}

/* Reject settings of UNet2DModel that are not supported, unless their value has no effect. */
static void refuse_the_rest(json_in *j, const unet_config *c)
{
    static const char *const resamplers[] = {"downsample_type", "upsample_type"};
    (void)json_in_choice(j, "act_fn", 0, ACTIVATIONS, 2);
    (void)json_in_choice(j, "time_embedding_type", 0, TIME_EMBEDDINGS, 1);
    for (int i = 0; i < 2; i++) {
        if (!json_in_null(j, resamplers[i]))
            (void)json_in_choice(j, resamplers[i], 0, RESAMPLERS, 1); /* null means conv */
    }
    if (json_in_real(j, "mid_block_scale_factor", 1.0, -1e9, 1e9) != 1.0)
        json_in_fail(j, "mid_block_scale_factor is not supported; it must be 1");
    const int usual = 4 * c->block[0].out_channels;
    if (!json_in_null(j, "time_embedding_dim") && json_in_int(j, "time_embedding_dim", usual, 0, 1 << 20) != usual)
        json_in_fail(j, "time_embedding_dim is not supported; it must be null or 4 * block_out_channels[0] = %d",
                     usual);
}

static ddpm_status read_all(json_in *j, unet_config *c, notes *n)
{
    *c = unet_config_default();
    const int class = json_in_choice(j, "_class_name", 0, CLASSES, 2);
    if (class == 1 && !json_in_get(j, "block_out_channels"))
        json_in_fail(j, "an early %s without block_out_channels is not supported; save it again with diffusers",
                     CLASSES[class]);
    (void)snprintf(c->class_name, sizeof c->class_name, "%s", CLASSES[class]);
    read_sample_size(j, c);
    read_blocks(j, c);
    read_numbers(j, c);
    refuse_the_rest(j, c);
    return json_in_close(j, n);
}

ddpm_status unet_config_parse(const char *text, size_t size, const char *where, unet_config *c, notes *n, err *e)
{
    json_in j = json_in_text(text, size, where, e);
    TRY(read_all(&j, c, n));
    return unet_config_check(c, where, e);
}

ddpm_status unet_config_read(const char *path, unet_config *c, notes *n, err *e)
{
    json_in j = json_in_file(path, e);
    TRY(read_all(&j, c, n));
    return unet_config_check(c, path, e);
}

/* ---- checking ---- */

static ddpm_status out_of_range(const char *where, const char *field, double value, err *e)
{
    return err_set(e, DDPM_EDATA, "%s: %s = %.10g is out of range", where, field, value);
}

/* Does level i have attention, in its down block or in the up block of the same resolution? */
static bool attends(const unet_config *c, int i)
{
    const bool mid = i == c->n_block - 1 && c->mid_block && c->add_attention;
    return mid || c->block[i].down == UNET_ATTN_DOWN || c->block[c->n_block - 1 - i].up == UNET_ATTN_UP;
}

static ddpm_status check_channels(const unet_config *c, const char *where, err *e)
{
    for (int i = 0; i < c->n_block; i++) {
        const int channels = c->block[i].out_channels;
        if (channels < 1 || channels > UNET_MAX_CHANNELS) return out_of_range(where, "block_out_channels", channels, e);
        if (channels % c->norm_num_groups)
            return err_set(e, DDPM_EDATA, "%s: block_out_channels[%d] = %d is not a multiple of norm_num_groups = %d",
                           where, i, channels, c->norm_num_groups);
        if (c->attention_head_dim && attends(c, i) && channels % c->attention_head_dim)
            return err_set(e, DDPM_EDATA,
                           "%s: block_out_channels[%d] = %d is not a multiple of attention_head_dim = %d", where, i,
                           channels, c->attention_head_dim);
    }
    const int last = c->block[c->n_block - 1].out_channels;
    if (c->attn_norm_num_groups && last % c->attn_norm_num_groups)
        return err_set(e, DDPM_EDATA,
                       "%s: the last block_out_channels = %d is not a multiple of attn_norm_num_groups = %d", where,
                       last, c->attn_norm_num_groups);
    return DDPM_OK;
}

ddpm_status unet_config_check(const unet_config *c, const char *where, err *e)
{
    const struct {
        const char *name;
        double value, min, max;
    } ranges[] = {
        {"sample_size height", c->sample_size_h, 0, UNET_MAX_SIZE},
        {"sample_size width", c->sample_size_w, 0, UNET_MAX_SIZE},
        {"in_channels", c->in_channels, 1, UNET_MAX_CHANNELS},
        {"out_channels", c->out_channels, 1, UNET_MAX_CHANNELS},
        {"number of blocks", c->n_block, 1, UNET_MAX_BLOCKS},
        {"layers_per_block", c->layers_per_block, 1, UNET_MAX_LAYERS},
        {"attention_head_dim", c->attention_head_dim, 0, UNET_MAX_CHANNELS},
        {"norm_num_groups", c->norm_num_groups, 1, UNET_MAX_CHANNELS},
        {"attn_norm_num_groups", c->attn_norm_num_groups, 0, UNET_MAX_CHANNELS},
        {"norm_eps", c->norm_eps, 0, 1},
        {"downsample_padding", c->downsample_padding, 0, 1},
        {"freq_shift", c->freq_shift, -1000, 1000},
        {"dropout", c->dropout, 0, 0.999},
        {"num_train_timesteps", c->num_train_timesteps, 0, 1000000},
        {"num_class_embeds", c->num_class_embeds, 0, UNET_MAX_CLASSES},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max))
            return out_of_range(where, ranges[i].name, ranges[i].value, e);
    if (c->block[0].out_channels < 2)
        return err_set(e, DDPM_EDATA, "%s: block_out_channels[0] = 1: the time embedding requires at least 2", where);
    if (c->freq_shift == c->block[0].out_channels / 2)
        return err_set(e, DDPM_EDATA, "%s: freq_shift = %g leads to a division by zero for %d channels", where,
                       c->freq_shift, c->block[0].out_channels);
    return check_channels(c, where, e);
}

/* ---- writing ---- */

static void put_null_or_int(json_out *j, const char *key, int v)
{
    if (v)
        json_out_int(j, key, v);
    else
        json_out_text(j, key, NULL);
}

static void put_freq_shift(json_out *j, double v)
{
    if (v == (double)(int)v) /* integral values are written as integers, as in all published configs */
        json_out_int(j, "freq_shift", (int)v);
    else
        json_out_real(j, "freq_shift", v);
}

static void put_sample_size(json_out *j, const unet_config *c)
{
    if (c->sample_size_h == c->sample_size_w) {
        put_null_or_int(j, "sample_size", c->sample_size_h);
        return;
    }
    json_out_open(j, "sample_size", '[');
    json_out_int(j, NULL, c->sample_size_h);
    json_out_int(j, NULL, c->sample_size_w);
    json_out_close(j, ']');
}

static void put_a_to_d(json_out *j, const unet_config *c)
{
    json_out_text(j, "_class_name", "UNet2DModel");
    json_out_text(j, "_diffusers_version", DIFFUSERS_VERSION);
    json_out_text(j, "act_fn", "silu");
    json_out_bool(j, "add_attention", c->add_attention);
    put_null_or_int(j, "attention_head_dim", c->attention_head_dim);
    put_null_or_int(j, "attn_norm_num_groups", c->attn_norm_num_groups);
    json_out_open(j, "block_out_channels", '[');
    for (int i = 0; i < c->n_block; i++) json_out_int(j, NULL, c->block[i].out_channels);
    json_out_close(j, ']');
    json_out_bool(j, "center_input_sample", c->center_input_sample);
    json_out_text(j, "class_embed_type", CLASS_TYPES[c->class_embed_type]);
    json_out_open(j, "down_block_types", '[');
    for (int i = 0; i < c->n_block; i++) json_out_text(j, NULL, DOWN_TYPES[c->block[i].down]);
    json_out_close(j, ']');
    json_out_int(j, "downsample_padding", c->downsample_padding);
    json_out_text(j, "downsample_type", "conv");
    json_out_real(j, "dropout", c->dropout);
}

static void put_f_to_u(json_out *j, const unet_config *c)
{
    json_out_bool(j, "flip_sin_to_cos", c->flip_sin_to_cos);
    put_freq_shift(j, c->freq_shift);
    json_out_int(j, "in_channels", c->in_channels);
    json_out_int(j, "layers_per_block", c->layers_per_block);
    json_out_int(j, "mid_block_scale_factor", 1);
    json_out_text(j, "mid_block_type", c->mid_block ? MID_TYPES[0] : NULL);
    json_out_real(j, "norm_eps", c->norm_eps);
    json_out_int(j, "norm_num_groups", c->norm_num_groups);
    put_null_or_int(j, "num_class_embeds", c->num_class_embeds);
    put_null_or_int(j, "num_train_timesteps", c->num_train_timesteps);
    json_out_int(j, "out_channels", c->out_channels);
    json_out_text(j, "resnet_time_scale_shift", SHIFTS[c->time_scale_shift]);
    put_sample_size(j, c);
    json_out_text(j, "time_embedding_dim", NULL);
    json_out_text(j, "time_embedding_type", "positional");
    json_out_open(j, "up_block_types", '[');
    for (int i = 0; i < c->n_block; i++) json_out_text(j, NULL, UP_TYPES[c->block[i].up]);
    json_out_close(j, ']');
    json_out_text(j, "upsample_type", "conv");
}

ddpm_status unet_config_write(const unet_config *c, const char *path, err *e)
{
    TRY(unet_config_check(c, path, e));
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    put_a_to_d(&j, c);
    put_f_to_u(&j, c);
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}
