/* unet_config.h - the architecture of a U-Net, as in unet/config.json of diffusers' UNet2DModel.
 *
 * Field names and meanings are those of diffusers (models/unets/unet_2d.py).  Supported keys:
 *   sample_size in_channels out_channels center_input_sample freq_shift flip_sin_to_cos
 *   down_block_types mid_block_type up_block_types block_out_channels layers_per_block
 *   downsample_padding dropout attention_head_dim norm_num_groups attn_norm_num_groups norm_eps
 *   resnet_time_scale_shift add_attention num_train_timesteps num_class_embeds class_embed_type, and _class_name.
 * Keys accepted only with these values: act_fn silu or swish, time_embedding_type positional,
 * time_embedding_dim null or 4 block_out_channels[0], downsample_type and upsample_type conv,
 * mid_block_scale_factor 1.  Any other value is an error that names the key.  Unknown keys are noted and ignored; absent keys have UNet2DModel's defaults,
 * which differ from the DDPM paper. */
#ifndef DDPM_UNET_CONFIG_H
#define DDPM_UNET_CONFIG_H
#include "base/err.h"
#include "base/notes.h"
#include <stdbool.h>
#include <stddef.h>

enum {
    UNET_MAX_BLOCKS = 8,
    UNET_MAX_CHANNELS = 8192,
    UNET_MAX_LAYERS = 16,
    UNET_MAX_SIZE = 4096,
    UNET_MAX_CLASSES = 1000000
};

typedef enum unet_down_type { UNET_DOWN, UNET_ATTN_DOWN } unet_down_type; /* DownBlock2D, AttnDownBlock2D */
typedef enum unet_up_type { UNET_UP, UNET_ATTN_UP } unet_up_type;         /* UpBlock2D, AttnUpBlock2D     */
typedef enum unet_time_shift { UNET_SHIFT_DEFAULT, UNET_SHIFT_SCALE } unet_time_shift; /* default, scale_shift */

/* What is added to the time embedding for the class of an image: null with num_class_embeds, timestep, identity. */
typedef enum unet_class_type {
    UNET_CLASS_NULL,     /* a row of class_embedding.weight [num_class_embeds, 4 block_out_channels[0]], if any */
    UNET_CLASS_TIMESTEP, /* the label, embedded like a timestep and passed through class_embedding.linear_1 and _2 */
    UNET_CLASS_IDENTITY  /* a vector of 4 block_out_channels[0] numbers that is given for each image */
} unet_class_type;

/* Level i of n_block, from the full resolution down.  As in the file, the two types have opposite orders:
 * the up path runs from up[0] (lowest resolution) to up[n_block - 1]. */
typedef struct unet_block {
    int out_channels;
    unet_down_type down;
    unet_up_type up;
} unet_block;

typedef struct unet_config {
    char class_name[40];              /* as read; "UNet2DModel" is written */
    int sample_size_h, sample_size_w; /* pixels; 0 = not in the file (null) */
    int in_channels, out_channels;
    int n_block;
    unet_block block[UNET_MAX_BLOCKS];
    int layers_per_block;     /* resnets of a down block; an up block has one more */
    int attention_head_dim;   /* channels per head; 0 = null = one head of all channels */
    int norm_num_groups;      /* divides every out_channels */
    int attn_norm_num_groups; /* of the mid block's attention; 0 = null, see unet_mid_attention_groups() */
    double norm_eps;
    int downsample_padding; /* 1: symmetric; 0: one zero row below and one zero column to the right */
    bool flip_sin_to_cos;   /* the time embedding is [cos, sin] rather than [sin, cos] */
    double freq_shift;
    double dropout;     /* of each resnet, in training, [0, 1) */
    bool mid_block;     /* false = null: the down path is connected to the up path directly */
    bool add_attention; /* in the mid block */
    unet_time_shift time_scale_shift;
    bool center_input_sample; /* the network's input is 2 x - 1 */
    int num_class_embeds;     /* rows of the class embedding, or labels of another type; 0 = null */
    unet_class_type class_embed_type;
    int num_train_timesteps; /* 0 = null; UNet2DModel ignores it with a positional embedding */
} unet_config;

/* The constructor defaults of diffusers' UNet2DModel(). */
unet_config unet_config_default(void);

/* Does the network depend on a class, by a label or a vector? */
bool unet_config_conditional(const unet_config *c);

/* Labels that the network takes are in [0, this); 0: it takes none.  UNET_MAX_CLASSES with class_embed_type timestep,
 * which takes any number, and num_class_embeds null. */
int unet_config_classes(const unet_config *c);

/* Groups of the norm in the mid block's attention.  0: no norm, if attn_norm_num_groups is null and
 * time_scale_shift is not default (diffusers' UNetMidBlock2D). */
int unet_mid_attention_groups(const unet_config *c);

/* Check that all fields are in range and consistent (groups and heads divide the channels).  DDPM_EDATA names the
 * field. */
DDPM_MUST_CHECK ddpm_status unet_config_check(const unet_config *c, const char *where, err *e);

/* Read config.json.  Accepts the class UNet2DModel and its old name UNetModel, with the old block names
 * (UNetResDownBlock2D).  DDPM_EDATA names the key, the value and the supported values. */
DDPM_MUST_CHECK ddpm_status unet_config_read(const char *path, unet_config *c, notes *n, err *e);
DDPM_MUST_CHECK ddpm_status unet_config_parse(const char *text, size_t size, const char *where, unet_config *c,
                                              notes *n, err *e);

/* Write config.json, byte for byte as UNet2DModel.save_config() does. */
DDPM_MUST_CHECK ddpm_status unet_config_write(const unet_config *c, const char *path, err *e);

/* The version of diffusers whose format we write, "_diffusers_version". */
#define DIFFUSERS_VERSION "0.42.1"

#endif
