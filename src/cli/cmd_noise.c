/* cmd_noise.c - ddpm noise: what the forward process does to a picture. */
#include "cli/cli.h"
#include "diffusion/noising.h"
#include "train/recipe.h"

/* The timesteps asked for; where none are, the default ones, which are of 1000, as shares of another T. */
static config_ints timesteps(const ddpm_config *c)
{
    config_ints t = c->noise.t;
    if (c->origin[OPTION_noise_t].source != CONFIG_DEFAULT) return t;
    t.count = 0;
    for (int i = 0; i < c->noise.t.count; i++) {
        const int scaled = (int)((int64_t)c->noise.t.item[i] * c->diffusion.num_train_timesteps / 1000);
        if (t.count == 0 || scaled != t.item[t.count - 1]) t.item[t.count++] = scaled;
    }
    return t;
}

ddpm_status cmd_noise(const cli_args *args, err *e)
{
    const ddpm_config *c = &args->config;
    const scheduler_config scheduler = recipe_scheduler(c);
    const config_ints t = timesteps(c);
    image x0 = {0}, strip = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(image_load(args->argument[0], &x0, e));
    TRY_GOTO(noising_strip(&x0, &scheduler, t.item, t.count, (uint64_t)c->noise.seed, &strip, e));
    TRY_GOTO(image_write_png(c->noise.out, &strip, e));
    printf("%s: %d pictures of %dx%d\n", c->noise.out, t.count, x0.w, x0.h);
done:
    image_free(&x0);
    image_free(&strip);
    return st;
}
