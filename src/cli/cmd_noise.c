/* cmd_noise.c - ddpm noise: what the forward process does to a picture. */
#include "cli/cli.h"
#include "diffusion/noising.h"
#include "train/recipe.h"

ddpm_status cmd_noise(const cli_args *args, err *e)
{
    const ddpm_config *c = &args->config;
    const scheduler_config scheduler = recipe_scheduler(c);
    image x0 = {0}, strip = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(image_load(args->argument[0], &x0, e));
    TRY_GOTO(noising_strip(&x0, &scheduler, c->noise.t.item, c->noise.t.count, (uint64_t)c->noise.seed, &strip, e));
    TRY_GOTO(image_write_png(c->noise.out, &strip, e));
    printf("%s: %d pictures of %dx%d\n", c->noise.out, c->noise.t.count, x0.w, x0.h);
done:
    image_free(&x0);
    image_free(&strip);
    return st;
}
