#include "base/file.h"
#include "io/unet_config.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static unet_config parse(const char *text, notes *n)
{
    unet_config c;
    err e = {0};
    cr_assert_eq(unet_config_parse(text, strlen(text), "config.json", &c, n, &e), DDPM_OK, "%s", e.text);
    return c;
}

static void refuse(const char *text, const char *words)
{
    unet_config c;
    err e = {0};
    cr_expect_eq(unet_config_parse(text, strlen(text), "config.json", &c, NULL, &e), DDPM_EDATA, "accepted: %s", text);
    cr_expect_not_null(strstr(e.text, words), "%s: expected '%s', got '%s'", text, words, e.text);
    cr_expect_not_null(strstr(e.text, "config.json"), "%s", e.text);
}

static ddpm_status rewrite(const char *from, const char *to, notes *n, err *e)
{
    unet_config c;
    TRY(unet_config_read(from, &c, n, e));
    return unet_config_write(&c, to, e);
}

Test(unet_config, what_diffusers_writes_is_written_again_to_the_byte)
{
    static const char *const names[] = {"unet_defaults", "unet_tiny",    "unet_cifar",    "unet_odd",
                                        "unet_no_mid",   "unet_classes", "unet_timestep", "unet_identity"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_CAP];
        (void)snprintf(path, sizeof path, "%s/configs/%s.json", FIXTURES, names[i]);
        expect_rewritten(rewrite, path, path);
    }
}

Test(unet_config, an_empty_object_is_diffusers_default)
{
    char dir[PATH_CAP];
    const char *empty = in_dir(scratch_make(dir), "empty.json");
    put_file(empty, "{}");
    expect_rewritten(rewrite, empty, FIXTURES "/configs/unet_defaults.json");
    scratch_remove(dir);
}

Test(unet_config, every_field_is_read)
{
    unet_config c;
    err e = {0};
    cr_assert_eq(unet_config_read(FIXTURES "/configs/unet_odd.json", &c, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(c.sample_size_h, 28);
    cr_assert_eq(c.sample_size_w, 28);
    cr_assert_eq(c.in_channels, 1);
    cr_assert_eq(c.out_channels, 2);
    cr_assert_eq(c.n_block, 1);
    cr_assert_eq(c.block[0].out_channels, 12);
    cr_assert_eq(c.block[0].down, UNET_DOWN);
    cr_assert_eq(c.block[0].up, UNET_ATTN_UP);
    cr_assert_eq(c.layers_per_block, 3);
    cr_assert_eq(c.attention_head_dim, 4);
    cr_assert_eq(c.norm_num_groups, 3);
    cr_assert_eq(c.attn_norm_num_groups, 6);
    cr_assert_eq(c.norm_eps, 1.25e-5);
    cr_assert_eq(c.downsample_padding, 1);
    cr_assert(c.flip_sin_to_cos && c.center_input_sample && c.mid_block && !c.add_attention);
    cr_assert_eq(c.dropout, 0.3);
    cr_assert_eq(c.time_scale_shift, UNET_SHIFT_SCALE);
    cr_assert_eq(c.num_train_timesteps, 1000);
    cr_assert_eq(unet_config_read(FIXTURES "/configs/unet_tiny.json", &c, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(c.sample_size_h, 4);
    cr_assert_eq(c.sample_size_w, 6);
    cr_assert_eq(c.freq_shift, 1.0);
    cr_assert_eq(c.downsample_padding, 0);
    cr_assert_not(c.flip_sin_to_cos);
    cr_assert_eq(c.block[1].down, UNET_ATTN_DOWN);
    cr_assert_eq(c.block[0].up, UNET_ATTN_UP);
    cr_assert_eq(c.block[1].up, UNET_UP);
    cr_assert_eq(unet_config_read(FIXTURES "/configs/unet_no_mid.json", &c, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_not(c.mid_block);
    cr_assert_eq(c.sample_size_h, 0);
    cr_assert_eq(unet_config_read(FIXTURES "/configs/unet_cifar.json", &c, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(c.attention_head_dim, 0);
}

/* The table of UNet2DModel's constructor: what the network is told of the class of an image. */
Test(unet_config, classes_are_those_of_diffusers)
{
    static const struct {
        const char *text;
        unet_class_type type;
        int embeds, classes;
        bool conditional;
    } cases[] = {{"{}", UNET_CLASS_NULL, 0, 0, false},
                 {"{\"num_class_embeds\": 7}", UNET_CLASS_NULL, 7, 7, true},
                 {"{\"class_embed_type\": null, \"num_class_embeds\": 7}", UNET_CLASS_NULL, 7, 7, true},
                 {"{\"class_embed_type\": \"timestep\"}", UNET_CLASS_TIMESTEP, 0, UNET_MAX_CLASSES, true},
                 {"{\"class_embed_type\": \"timestep\", \"num_class_embeds\": 7}", UNET_CLASS_TIMESTEP, 7, 7, true},
                 {"{\"class_embed_type\": \"identity\"}", UNET_CLASS_IDENTITY, 0, 0, true},
                 {"{\"class_embed_type\": \"identity\", \"num_class_embeds\": 7}", UNET_CLASS_IDENTITY, 7, 0, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const unet_config c = parse(cases[i].text, NULL);
        cr_expect_eq(c.class_embed_type, cases[i].type, "%s", cases[i].text);
        cr_expect_eq(c.num_class_embeds, cases[i].embeds, "%s", cases[i].text);
        cr_expect_eq(unet_config_classes(&c), cases[i].classes, "%s", cases[i].text);
        cr_expect_eq(unet_config_conditional(&c), cases[i].conditional, "%s", cases[i].text);
    }
}

Test(unet_config, the_first_releases_names_are_taken)
{
    unet_config c;
    notes n = {""};
    err e = {0};
    cr_assert_eq(unet_config_read(FIXTURES "/first/config.json", &c, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(c.class_name, "UNetModel");
    cr_assert_eq(c.block[1].down, UNET_ATTN_DOWN);
    cr_assert_eq(c.dropout, 0.0); /* no such key: the library's default, not the paper's */
    cr_assert_str_eq(n.text, "");
    refuse("{\"_class_name\": \"UNetModel\", \"ch\": 128}", "without block_out_channels");
}

Test(unet_config, what_changes_nothing_is_accepted)
{
    (void)parse("{\"act_fn\": \"swish\", \"time_embedding_type\": \"positional\", \"time_embedding_dim\": 896,"
                "\"downsample_type\": null, \"upsample_type\": \"conv\", \"mid_block_scale_factor\": 1.0,"
                "\"class_embed_type\": null, \"num_class_embeds\": null}",
                NULL);
}

Test(unet_config, what_changes_the_function_is_refused_by_name)
{
    refuse("{\"_class_name\": \"UNet2DConditionModel\"}",
           "\"UNet2DConditionModel\" is not supported; supported: UNet2DModel");
    refuse("{\"class_embed_type\": \"projection\"}",
           "class_embed_type = \"projection\" is not supported; supported: timestep, identity");
    refuse("{\"num_class_embeds\": 0}", "num_class_embeds");
    refuse("{\"act_fn\": \"gelu\"}", "act_fn = \"gelu\" is not supported; supported: silu, swish");
    refuse("{\"time_embedding_type\": \"fourier\"}", "time_embedding_type = \"fourier\"");
    refuse("{\"time_embedding_type\": \"learned\"}", "time_embedding_type = \"learned\"");
    refuse("{\"downsample_type\": \"resnet\"}", "downsample_type = \"resnet\"");
    refuse("{\"upsample_type\": \"resnet\"}", "upsample_type = \"resnet\"");
    refuse("{\"mid_block_scale_factor\": 2}", "mid_block_scale_factor");
    refuse("{\"mid_block_type\": \"UNetMidBlock2DCrossAttn\"}", "mid_block_type");
    refuse("{\"time_embedding_dim\": 128}", "time_embedding_dim");
    refuse("{\"resnet_time_scale_shift\": \"spatial\"}", "resnet_time_scale_shift = \"spatial\"");
    refuse("{\"down_block_types\": [\"DownBlock2D\", \"SkipDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]}",
           "down_block_types[1] = SkipDownBlock2D is not supported; supported: DownBlock2D, AttnDownBlock2D");
    refuse("{\"up_block_types\": [\"DownBlock2D\", \"UpBlock2D\", \"UpBlock2D\", \"UpBlock2D\"]}", "up_block_types[0]");
    refuse("{\"downsample_padding\": 2}", "downsample_padding = 2");
}

Test(unet_config, what_does_not_fit_together_is_refused)
{
    refuse("{\"block_out_channels\": [32, 64]}", "2 block_out_channels, 4 down_block_types, 4 up_block_types");
    refuse("{\"norm_num_groups\": 30}", "block_out_channels[0] = 224 is not a multiple of norm_num_groups = 30");
    refuse("{\"attention_head_dim\": 9}", "not a multiple of attention_head_dim = 9");
    refuse("{\"attn_norm_num_groups\": 5}", "attn_norm_num_groups = 5");
    refuse("{\"freq_shift\": 112}", "division by zero");
    refuse("{\"block_out_channels\": [1,1,1,1,1,1,1,1,1]}", "array of 1 to 8");
    refuse("{\"block_out_channels\": []}", "array of 1 to 8");
    refuse("{\"block_out_channels\": [32, 64, 64, 1e9]}", "must be an integer");
    refuse("{\"block_out_channels\": [32, 64, 64, 100000000]}", "outside 1 to 8192");
    refuse("{\"sample_size\": [32]}", "sample_size");
    refuse("{\"sample_size\": 0}", "sample_size");
    refuse("{\"dropout\": 1.0}", "dropout");
    refuse("{\"dropout\": null}", "dropout");
    refuse("{\"norm_eps\": -1e-5}", "norm_eps");
    refuse("[]", "object");
    /* a head size that divides no block but those without attention */
    const unet_config c =
        parse("{\"block_out_channels\": [32, 96], \"down_block_types\": [\"DownBlock2D\", \"AttnDownBlock2D\"],"
              "\"up_block_types\": [\"AttnUpBlock2D\", \"UpBlock2D\"], \"attention_head_dim\": 48}",
              NULL);
    cr_assert_eq(c.attention_head_dim, 48);
}

Test(unet_config, unknown_keys_are_noted)
{
    notes n = {""};
    (void)parse("{\"encoder_hid_dim\": null, \"_name_or_path\": \"x\"}", &n);
    cr_assert_str_eq(n.text, "config.json: ignored unknown keys: encoder_hid_dim");
}

/* diffusers' UNetMidBlock2D: no norm in the attention of a scale_shift net unless the groups are given. */
Test(unet_config, groups_of_the_mid_attention)
{
    unet_config c = unet_config_default();
    cr_assert_eq(unet_mid_attention_groups(&c), 32);
    c.time_scale_shift = UNET_SHIFT_SCALE;
    cr_assert_eq(unet_mid_attention_groups(&c), 0);
    c.attn_norm_num_groups = 16;
    cr_assert_eq(unet_mid_attention_groups(&c), 16);
}

Test(unet_config, a_bad_struct_is_not_written)
{
    char dir[PATH_CAP];
    err e = {0};
    unet_config c = unet_config_default();
    const char *out = in_dir(scratch_make(dir), "config.json");
    c.n_block = 9;
    cr_assert_eq(unet_config_write(&c, out, &e), DDPM_EDATA);
    c = unet_config_default();
    c.norm_num_groups = 0;
    cr_assert_eq(unet_config_write(&c, out, &e), DDPM_EDATA);
    cr_assert_not(path_exists(out));
    scratch_remove(dir);
}
