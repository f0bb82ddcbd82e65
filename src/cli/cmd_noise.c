/* cmd_noise.c - ddpm noise: an image at several timesteps of the forward process. */
#include "cli/cli.h"
#include "cli/output.h"
#include "diffusion/noising.h"
#include "train/idle_options.h"
#include "train/recipe.h"

#define SOFTWARE "ddpm noise" /* identifies our strips when overwriting */

static bool is_strip(const char *path) { return image_png_is_by(path, SOFTWARE); }

static ddpm_status check_output(const cli_args *args, err *e)
{
    const char *out = args->config.noise.out;
    const bool overwrite = cli_may_overwrite(args);
    TRY(output_check(out, "out", is_strip, overwrite, e));
    if (overwrite || !path_same(args->argument[0], out)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "%s: is the input image; give another out=, or overwrite=true", out);
}

/* The requested timesteps; if none are set, the default ones, scaled from T = 1000 to the actual T. */
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

static void print_idle(const ddpm_config *c)
{
    const network any = {.kind = NETWORK_UNET};
    notes remarks = {.text = ""};
    note_idle_options(c, &any, &remarks);
    if (remarks.text[0]) fprintf(stderr, "ddpm: note: %s\n", remarks.text);
}

ddpm_status cmd_noise(const cli_args *args, err *e)
{
    const ddpm_config *c = &args->config;
    const scheduler_config scheduler = recipe_scheduler(c);
    const config_ints t = timesteps(c);
    image x0 = {0}, strip = {0};
    ddpm_status st = DDPM_OK;
    const bool quiet = output_is_stdout(c->noise.out);
    print_idle(c);
    TRY_GOTO(check_output(args, e));
    TRY_GOTO(image_load(args->argument[0], &x0, e));
    TRY_GOTO(noising_strip(&x0, &scheduler, t.item, t.count, (uint64_t)c->noise.seed, &strip, e));
    TRY_GOTO(image_write_png_by(c->noise.out, &strip, SOFTWARE, e));
    if (!quiet) printf("%s: %d pictures of %dx%d\n", c->noise.out, t.count, x0.w, x0.h);
done:
    image_free(&x0);
    image_free(&strip);
    return st;
}
