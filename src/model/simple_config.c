#include "model/simple_config.h"
#include "io/json_in.h"
#include "io/json_out.h"
#include "model/network.h"

#include <string.h>

enum { MAX_CHANNELS = 3 };

static bool class_is_simple(json_in *j)
{
    const json_t *class = json_in_get(j, "_class_name");
    const char *text = class ? json_string_value(class) : NULL;
    return text && !strcmp(text, SIMPLE_CLASS);
}

ddpm_status simple_config_read(const char *path, unet_config *c, bool *is_simple, notes *n, err *e)
{
    json_in j = json_in_file(path, e);
    int size[2] = {0, 0};
    *is_simple = class_is_simple(&j);
    if (!*is_simple) return json_in_close(&j, NULL);
    *c = unet_config_default();
    c->in_channels = json_in_int(&j, "in_channels", 1, 1, MAX_CHANNELS);
    c->out_channels = json_in_int(&j, "out_channels", 1, 1, MAX_CHANNELS);
    if (json_in_int(&j, "channels", SIMPLE_WIDTH, 1, UNET_MAX_CHANNELS) != SIMPLE_WIDTH)
        json_in_fail(&j, "channels must be %d", SIMPLE_WIDTH);
    (void)json_in_ints(&j, "sample_size", size, 2, 1, UNET_MAX_SIZE);
    c->sample_size_h = size[0], c->sample_size_w = size[1];
    return json_in_close(&j, n);
}

ddpm_status simple_config_write(const unet_config *c, const char *path, err *e)
{
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, "_class_name", SIMPLE_CLASS);
    json_out_int(&j, "channels", SIMPLE_WIDTH);
    json_out_int(&j, "in_channels", c->in_channels);
    json_out_int(&j, "out_channels", c->out_channels);
    json_out_open(&j, "sample_size", '[');
    json_out_int(&j, NULL, c->sample_size_h);
    json_out_int(&j, NULL, c->sample_size_w);
    json_out_close(&j, ']');
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}
