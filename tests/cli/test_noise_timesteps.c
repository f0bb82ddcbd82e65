/* ddpm noise without t=: the default timesteps, which are of 1000, go along with T (faults F19d). */
#include "base/file.h"
#include "data/image.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static err why;

/* Pictures on the strip of a 4x4 image; 0 where the program refuses. */
static int pictures(const char *dir, const char *options)
{
    char command[3 * PATH_CAP];
    image x = {0};
    const char *in = in_dir(dir, "x.png"), *out = in_dir(dir, "strip.png");
    cr_assert_eq(image_create(&x, 4, 4, 1, "x", &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(image_write_png(in, &x, &why), DDPM_OK, "%s", why.text);
    image_free(&x);
    (void)snprintf(command, sizeof command, "'%s' noise '%s' out='%s' seed=3 %s 2>&1", DDPM_PROGRAM, in, out, options);
    int n = 0;
    char line[512] = "";
    FILE *said = popen(command, "r");
    cr_assert_not_null(said);
    while (fgets(line, sizeof line, said)) (void)sscanf(line, "%*[^:]: %d pictures", &n);
    return pclose(said) == 0 ? n : 0;
}

/* The bytes of the strip of a grey 4x4 image at two timesteps; they depend on one pixel, the same in each. */
static void strip_of(const char *dir, const char *options, int pixel[2])
{
    image strip;
    cr_assert_eq(pictures(dir, options), 2, "%s", options);
    cr_assert_eq(image_load(in_dir(dir, "strip.png"), &strip, &why), DDPM_OK, "%s", why.text);
    pixel[0] = strip.pixel[2 * strip.w + 2]; /* behind a margin of 2 */
    pixel[1] = strip.pixel[3 * strip.w - 6];
    image_free(&strip);
}

static int byte_of(double x) { return (int)rint(255 * fmin(fmax(x / 2 + 0.5, 0), 1)); }

/* The formulas of the papers at T = 10: x_0 is -1 everywhere, and the noise of the first pixel is that of beta = 0.5,
 * abar = 0.25 at t = 1, which is the same in every process. */
Test(noise_timesteps, every_process_has_its_own)
{
    char dir[PATH_CAP];
    int of_betas[2], pixel[2];
    scratch_make(dir);
    strip_of(dir, "diffusion.num_train_timesteps=2 diffusion.beta_start=0.5 diffusion.beta_end=0.5 t=0,1", of_betas);
    const double eps = (2 * of_betas[1] / 255.0 - 1 + sqrt(0.25)) / sqrt(0.75);
    cr_assert(of_betas[1] > 0 && of_betas[1] < 255);
    strip_of(dir, "diffusion.parameterization=flow diffusion.num_train_timesteps=10 t=1,3", pixel);
    for (int i = 0; i < 2; i++) { /* (1 - u) x_0 + u eps, u = (t + 1) / T */
        const double u = i ? 0.4 : 0.2;
        cr_expect(abs(pixel[i] - byte_of(u - 1 + u * eps)) <= 1, "flow %d: %d", i, pixel[i]);
    }
    strip_of(dir, "diffusion.parameterization=flow diffusion.num_train_timesteps=10 diffusion.shift=3 t=1,3", pixel);
    for (int i = 0; i < 2; i++) {
        const double u = i ? 0.4 : 0.2, v = 3 * u / (1 + 2 * u);
        cr_expect(abs(pixel[i] - byte_of(v - 1 + v * eps)) <= 1, "shifted flow %d: %d", i, pixel[i]);
    }
    strip_of(dir, "diffusion.parameterization=edm diffusion.sigma_min=0.01 diffusion.sigma_max=1 t=500,750", pixel);
    for (int i = 0; i < 2; i++) { /* sigma_data (x_0 + sigma eps) / hypot(sigma, sigma_data) */
        const double sigma = 0.01 * pow(100, i ? 0.75 : 0.5), data = 0.5;
        cr_expect(abs(pixel[i] - byte_of(data * (sigma * eps - 1) / hypot(sigma, data))) <= 1, "EDM %d: %d", i,
                  pixel[i]);
    }
    scratch_remove(dir);
}

Test(noise_timesteps, default_ones_are_scaled_with_the_chain)
{
    char dir[PATH_CAP];
    scratch_make(dir);
    cr_expect_eq(pictures(dir, ""), 8);
    cr_expect_eq(pictures(dir, "diffusion.num_train_timesteps=200"), 8);
    cr_expect_eq(pictures(dir, "diffusion.num_train_timesteps=10"), 7, "0 of 50 thousandths is not shown twice");
    cr_expect_eq(pictures(dir, "diffusion.num_train_timesteps=1"), 1);
    cr_expect_eq(pictures(dir, "diffusion.num_train_timesteps=2000"), 8);
    cr_expect_eq(pictures(dir, "diffusion.num_train_timesteps=200 t=0,199"), 2);
    cr_expect_eq(pictures(dir, "diffusion.num_train_timesteps=200 t=0,200"), 0, "what is asked for is not scaled");
    scratch_remove(dir);
}
