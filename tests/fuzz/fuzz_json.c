/* fuzz_json.c - any bytes as unet/config.json and as scheduler_config.json.
 *
 *   tools/fuzz 60 json
 *
 * The seeds are tests/io/fixtures/configs.  What is accepted must be written as a text that reads back
 * to the same values. */
#include "base/file.h"
#include "base/mem.h"
#include "fuzz/fuzz_check.h"
#include "io/scheduler_config.h"
#include "io/unet_config.h"

#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file of this process's own, for the writers. */
static const char *own_file(void)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "/dev/shm/fuzz-json-%d", (int)getpid());
    return path;
}

static void check_unet(const char *text, size_t size)
{
    unet_config c, back;
    notes n = {""};
    err e = {0};
    const ddpm_status st = unet_config_parse(text, size, "fuzz", &c, &n, &e);
    FUZZ_CHECK(fuzz_message_is_fine(st, &e) && strlen(n.text) < sizeof n.text);
    if (st != DDPM_OK) return;
    FUZZ_CHECK(unet_config_write(&c, own_file(), &e) == DDPM_OK);
    FUZZ_CHECK(unet_config_read(own_file(), &back, NULL, &e) == DDPM_OK);
    memset(c.class_name, 0, sizeof c.class_name);
    memset(back.class_name, 0, sizeof back.class_name);
    for (int i = c.n_block; i < UNET_MAX_BLOCKS; i++) c.block[i] = back.block[i]; /* not in the file */
    FUZZ_CHECK(c.n_block == back.n_block && !memcmp(c.block, back.block, sizeof c.block));
    FUZZ_CHECK(c.sample_size_h == back.sample_size_h && c.sample_size_w == back.sample_size_w);
    FUZZ_CHECK(c.in_channels == back.in_channels && c.out_channels == back.out_channels);
    FUZZ_CHECK(c.layers_per_block == back.layers_per_block && c.attention_head_dim == back.attention_head_dim);
    FUZZ_CHECK(c.norm_num_groups == back.norm_num_groups && c.attn_norm_num_groups == back.attn_norm_num_groups);
    FUZZ_CHECK(c.norm_eps == back.norm_eps && c.dropout == back.dropout && c.freq_shift == back.freq_shift);
    FUZZ_CHECK(c.downsample_padding == back.downsample_padding && c.flip_sin_to_cos == back.flip_sin_to_cos);
    FUZZ_CHECK(c.mid_block == back.mid_block && c.add_attention == back.add_attention);
    FUZZ_CHECK(c.time_scale_shift == back.time_scale_shift && c.center_input_sample == back.center_input_sample);
    FUZZ_CHECK(c.num_train_timesteps == back.num_train_timesteps && c.num_class_embeds == back.num_class_embeds);
    FUZZ_CHECK(c.class_embed_type == back.class_embed_type);
}

static void check_scheduler(const char *text, size_t size)
{
    scheduler_config c, back;
    notes n = {""};
    err e = {0};
    const ddpm_status st = scheduler_config_parse(text, size, "fuzz", &c, &n, &e);
    FUZZ_CHECK(fuzz_message_is_fine(st, &e) && strlen(n.text) < sizeof n.text);
    if (st != DDPM_OK) return;
    FUZZ_CHECK(scheduler_config_write(&c, own_file(), &e) == DDPM_OK);
    FUZZ_CHECK(scheduler_config_read(own_file(), NULL, &back, NULL, &e) == DDPM_OK);
    FUZZ_CHECK(c.type == back.type && c.n_trained_betas == back.n_trained_betas && c.sigmas == back.sigmas);
    FUZZ_CHECK(c.solver_order == back.solver_order && c.algorithm_type == back.algorithm_type);
    FUZZ_CHECK(c.num_train_timesteps == back.num_train_timesteps && c.steps_offset == back.steps_offset);
    FUZZ_CHECK(c.beta_start == back.beta_start && c.beta_end == back.beta_end);
    FUZZ_CHECK(c.beta_schedule == back.beta_schedule && c.variance_type == back.variance_type);
    FUZZ_CHECK(c.clip_sample == back.clip_sample && c.clip_sample_range == back.clip_sample_range);
    FUZZ_CHECK(c.prediction_type == back.prediction_type && c.timestep_spacing == back.timestep_spacing);
}

/* The first byte chooses the kind. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] == 's')
        check_scheduler((const char *)data + 1, size - 1);
    else
        check_unet((const char *)data + 1, size - 1);
    return 0;
}
