/* ddpm noise without t=: the default timesteps, which are of 1000, go along with T (faults F19d). */
#include "base/file.h"
#include "data/image.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
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
    (void)snprintf(command, sizeof command, "'%s' noise '%s' out='%s' %s 2>&1", DDPM_PROGRAM, in, out, options);
    int n = 0;
    char line[512] = "";
    FILE *said = popen(command, "r");
    cr_assert_not_null(said);
    while (fgets(line, sizeof line, said)) (void)sscanf(line, "%*[^:]: %d pictures", &n);
    return pclose(said) == 0 ? n : 0;
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
