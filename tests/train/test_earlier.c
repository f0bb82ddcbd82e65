/* A checkpoint that an earlier version of the program wrote: resumed, it draws the same noise, timesteps, flips, dropout and
 * images, and takes the same steps.
 *
 * tests/train/earlier was written by commit 207b19f on an AVX2 processor, the files of `after` from the run that was not
 * interrupted:
 *   ddpm train tests/train/earlier/run.yaml out=DIR
 * Sums are ordered differently on other processors, so values are compared, not bits: a changed draw moves a weight by 1e-2,
 * another order of summation by 1e-6. */
#include "train/run_rig.h"
#include "io/safetensors.h"

TestSuite(earlier, .init = make_root, .fini = remove_root);

static void expect_near(const char *ours, const char *theirs)
{
    safetensors *a, *b;
    double most = 0;
    OK(safetensors_open(ours, &a, &why));
    OK(safetensors_open(theirs, &b, &why));
    cr_assert_eq(safetensors_count(a), safetensors_count(b));
    for (int i = 0; i < safetensors_count(b); i++) {
        const safetensors_tensor *want = safetensors_entry(b, i), *got = safetensors_entry(a, i);
        cr_assert(!strcmp(got->name, want->name) && got->bytes == want->bytes, "%s", want->name);
        for (size_t k = 0; k < want->bytes; k += sizeof(float)) {
            float w, g;
            memcpy(&w, (const char *)want->data + k, sizeof w);
            memcpy(&g, (const char *)got->data + k, sizeof g);
            most = fmax(most, fabs((double)g - (double)w));
        }
    }
    cr_expect_leq(most, 2e-5, "%s: a weight is off by %.2e", ours, most);
    safetensors_close(a);
    safetensors_close(b);
}

Test(earlier, a_checkpoint_of_an_earlier_version_goes_on_as_it_would_have)
{
    double loss[16], want[16];
    char from[PATH_CAP], settings[3][PATH_CAP + 32];
    ddpm_config c;
    config_defaults(&c);
    OK(config_read_file(&c, "tests/train/earlier/run.yaml", &why));
    OK(path_join(from, "tests/train/earlier", "step_00000004", &why));
    (void)snprintf(settings[0], sizeof *settings, "out=%.3000s/run", root);
    (void)snprintf(settings[1], sizeof *settings, "resume=%.3000s", from);
    for (int i = 0; i < 2; i++) OK(config_assign(&c, NULL, settings[i], &why));
    OK(train(&c, 0, NULL));
    cr_assert_eq(read_losses(c.out, loss, 16), 4);
    cr_assert_eq(read_losses("tests/train/earlier/after", want, 16), 8);
    for (int i = 0; i < 4; i++) cr_expect_float_eq(loss[i], want[4 + i], 2e-5 * want[4 + i], "step %d", 5 + i);
    static const char *const last = "ckpt/step_00000008";
    char folder[PATH_CAP], ours[PATH_CAP];
    OK(path_join(folder, c.out, last, &why));
    OK(path_join(ours, folder, "training/weights.safetensors", &why));
    expect_near(ours, "tests/train/earlier/after/weights.safetensors");
    OK(path_join(ours, folder, "unet/diffusion_pytorch_model.safetensors", &why));
    expect_near(ours, "tests/train/earlier/after/ema.safetensors");
}
