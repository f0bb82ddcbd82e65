/* Previews during training: with any sampler, a film strip beside each, and from noise whatever the options say. */
#include "base/file.h"
#include "data/image.h"
#include "support/device.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <string.h>

static err why;
static char root[PATH_CAP];
static ddpm_config c;
static run_record said;

static void make_root(void) { scratch_make(root); }
static void remove_root(void) { scratch_remove(root); }
TestSuite(preview, .init = make_root, .fini = remove_root, .timeout = 120);

static ddpm_status train(const char *name, const char *const *more)
{
    static const char *const settings[] = {"data.count=8",
                                           "model.block_out_channels=4,8",
                                           "model.norm_num_groups=2",
                                           "train.batch=2",
                                           "train.steps=4",
                                           "sample.every=2",
                                           "sample.count=3",
                                           "sample.num_inference_steps=5",
                                           NULL};
    backend *be = test_backend(1);
    said = (run_record){0};
    const run_hooks hooks = run_record_hooks(&said);
    small_run(&c, root, name, settings);
    config_put_all(&c, more);
    why.text[0] = '\0';
    const ddpm_status st = run_train(be, &c, &hooks, &why);
    backend_destroy(be);
    return st;
}

static void expect_file(const char *name, bool is_there)
{
    cr_expect_eq(path_exists(in_dir(c.out, name)), is_there, "%s%s: %s", name, is_there ? "" : " is there", said.notes);
}

static void expect_size(const char *name, int w, int h)
{
    image img;
    OK(image_load(in_dir(c.out, name), &img, &why));
    cr_expect(img.w == w && img.h == h, "%s has %d x %d pixels", name, img.w, img.h);
    image_free(&img);
}

Test(preview, has_a_film_strip_if_one_is_asked_for)
{
    OK(train("plain", (const char *const[]){NULL}));
    expect_file("samples/step_00000002.png", true);
    expect_file("samples/trajectory_00000002.png", false);
    OK(train("filmed", (const char *const[]){"sample.trajectory=4", "sample.sampler=unipc", NULL}));
    expect_size("samples/step_00000004.png", 2 * 10 + 2, 2 * 10 + 2);
    expect_size("samples/trajectory_00000002.png", 4 * 10 + 2, 6 * 10 + 2); /* two rows for each of the 3 pictures */
    expect_size("samples/trajectory_00000004.png", 4 * 10 + 2, 6 * 10 + 2);
    cr_expect_not(
        same_bytes(in_dir(c.out, "samples/trajectory_00000002.png"), in_dir(c.out, "samples/trajectory_00000004.png")));
}

/* Options of a file that are those of `ddpm sample` alone. */
Test(preview, starts_from_noise)
{
    OK(train("plain", (const char *const[]){NULL}));
    char plain[PATH_CAP];
    strcpy(plain, in_dir(c.out, "samples/step_00000004.png"));
    OK(train("edited", (const char *const[]){"sample.from=/nowhere.png", "sample.strength=0.4",
                                             "sample.mask=/nowhere.png", NULL}));
    expect_file("samples/step_00000002.png", true);
    expect_file("samples/step_00000004.png", true);
    cr_expect(same_bytes(plain, in_dir(c.out, "samples/step_00000004.png")));
    OK(train("between", (const char *const[]){"sample.between=a.png,b.png", NULL}));
    expect_file("samples/step_00000004.png", true);
}

Test(preview, what_the_network_cannot_is_said_before_the_run)
{
    cr_expect_eq(train("guided", (const char *const[]){"sample.guidance=2", NULL}), DDPM_EINVAL, "%s", why.text);
    cr_expect_not_null(strstr(why.text, "guidance 2 needs a network with classes"), "%s", why.text);
    cr_expect_eq(said.steps, 0);
    cr_expect_eq(train("edm", (const char *const[]){"sample.sampler=edm", NULL}), DDPM_EINVAL, "%s", why.text);
    cr_expect_eq(said.steps, 0);
}
