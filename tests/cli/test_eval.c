/* ddpm eval as a user meets it: its table, its JSON, what it refuses, and how it ends when it is interrupted. */
#include "base/file.h"
#include "base/mem.h"
#include "support/program_shell.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[PATH_CAP];

#define SMALL                                                                                                          \
    "data.kind=digits data.resolution=8 data.channels=1 data.count=20 model.block_out_channels=8,16 "                  \
    "model.down_block_types=DownBlock2D,AttnDownBlock2D model.up_block_types=AttnUpBlock2D,UpBlock2D "                 \
    "model.layers_per_block=1 model.norm_num_groups=4 train.batch=4 train.steps=3 threads=1 ckpt.every=0 "             \
    "diffusion.num_train_timesteps=40 ema.decay=0.5 ema.more=0.9 ema.warmup=false"

/* `bits` evaluates RUN. */
static void make_root(void) { shell_begin(root, "bits() { ddpm eval \"$@\" threads=1 cpu.conv=direct; }; "); }
TestSuite(eval_program, .init = make_root, .fini = shell_end, .timeout = 300);

static json_t *json_of(const char *name)
{
    json_error_t error;
    json_t *all = json_load_file(in_dir(root, name), 0, &error);
    cr_assert_not_null(all, "%s: %s", name, error.text);
    return all;
}

static double number(const json_t *all, const char *key) { return json_number_value(json_object_get(all, key)); }

Test(eval_program, tells_the_bits_and_where_they_are)
{
    works("ddpm train out=r diffusion.variance_type=learned_range " SMALL);
    works("bits r count=3 batch=16 --json all.json");
    char *text = get_text(in_dir(root, "stdout"));
    cr_expect(strstr(text, "r/ckpt/step_00000003: 3 images of 8x8x1, 40 timesteps, variance_type learned_range, "
                           "clip_denoised true"),
              "%s", text);
    json_t *all = json_of("all.json");
    const json_t *vb = json_object_get(all, "vb");
    double sum = number(all, "prior"), shown = 0;
    cr_assert_eq(json_array_size(vb), 40);
    cr_expect_eq(json_integer_value(json_array_get(json_object_get(all, "timestep"), 39)), 39);
    for (size_t k = 0; k < 40; k++) sum += json_number_value(json_array_get(vb, k));
    cr_expect_float_eq(number(all, "bits_per_dim"), sum, 1e-12 * sum);
    cr_expect_float_eq(number(all, "decoder"), json_number_value(json_array_get(vb, 0)), 1e-15);
    cr_expect(number(all, "standard_error") > 0 && number(all, "images") == 3);
    cr_assert_eq(sscanf(strstr(text, "bits/dim"), "bits/dim %lf", &shown), 1);
    cr_expect_float_eq(shown, sum, 1e-4);
    json_decref(all);
    mem_free(text);
}

/* Other weights, another chain and another variance are other results; JSON on standard output stands there alone. */
Test(eval_program, options_reach_the_result)
{
    static const char *const lines[] = {"bits r --json -",
                                        "bits r weights=raw --json -",
                                        "bits r weights=ema_1 json=-",
                                        "bits r num_inference_steps=10 --json -",
                                        "bits r variance_type=fixed_large --json -",
                                        "bits r clip_denoised=false json=-",
                                        "bits r seed=1 json=-"};
    enum { LINES = sizeof lines / sizeof *lines };
    double bits[LINES];
    works("ddpm train out=r " SMALL);
    for (int k = 0; k < LINES; k++) {
        works("%s", lines[k]);
        json_t *all = json_of("stdout");
        bits[k] = number(all, "bits_per_dim");
        cr_expect_eq(number(all, "images"), 20, "the run's own images");
        json_decref(all);
        for (int before = 0; before < k; before++)
            cr_expect(bits[k] != bits[before], "%s and %s", lines[k], lines[before]);
    }
}

Test(eval_program, a_network_with_classes_needs_labels)
{
    works("ddpm train out=r model.num_class_embeds=-1 " SMALL);
    works("bits r count=1 num_inference_steps=2");
    works("ddpm sample r count=2 num_inference_steps=2 out=pictures threads=1");
    fails("bits r data.labels=none data.kind=folder data.path=pictures", 2,
          "the network has 10 classes, but the images have no labels");
}

Test(eval_program, refuses_in_one_line)
{
    works("ddpm train out=r " SMALL " && ddpm train out=flow diffusion.parameterization=flow " SMALL);
    fails("bits r variance_type=learned_range", 2,
          "the network has 1 output channels; with variance_type learned_range it must have 2");
    fails("bits r variance_type=learned", 2, "learned");
    fails("bits flow", 2,
          "FlowMatchEulerDiscreteScheduler: bits per dimension are defined for processes with betas alone");
    fails("bits r num_inference_steps=41", 2, "41");
    fails("bits r data.resolution=16", 2, "the images are 16x16x1, but the network is for 8x8x1");
    fails("bits r data.path=missing data.kind=idx", 66, "missing");
    fails("bits r weights=ema_4", 2, "eval.weights=ema_4: must be ema, raw");
    fails("bits r weights=ema_3", 2, "ema_3");
    fails("bits missing", 66, "missing");
    fails("bits r data.path=missing", 66, "missing"); /* in place of the drawn digits of the training */
    fails("bits r/ckpt/step_00000003 count=1", 2, "no config.yaml there names the images of its training");
    works("bits r/ckpt/step_00000003 count=1 data.kind=digits num_inference_steps=2");
    fails("echo mine >mine.json && bits r --json mine.json", 2, "mine.json");
    fails("bits r --json no/such/folder.json", 74, "no/such");
    works("bits r count=1 num_inference_steps=2 --json -");
    json_t *one = json_of("stdout");
    cr_expect(json_is_null(json_object_get(one, "standard_error")), "of one image");
    json_decref(one);
    works("bits r count=1 num_inference_steps=2 --json b.json && bits r count=1 num_inference_steps=2 --json b.json");
}

/* A signal ends it by itself, and no file is left. */
Test(eval_program, an_interrupted_evaluation_leaves_nothing)
{
    char command[3 * PATH_CAP];
    works("ddpm train out=r " SMALL " diffusion.num_train_timesteps=1000");
    (void)snprintf(command, sizeof command,
                   "cd %s && exec '%s' eval r data.count=20000 batch=8 threads=1 log.seconds=0.1 --json left.json",
                   root, DDPM_PROGRAM);
    int out[2];
    char first;
    cr_assert_eq(pipe(out), 0);
    const pid_t child = fork();
    if (child == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)close(out[0]);
        (void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(99);
    }
    (void)close(out[1]);
    cr_assert_eq(read(out[0], &first, 1), 1); /* a line of progress */
    int status;
    cr_assert_eq(kill(child, SIGINT), 0);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "status %x", status);
    cr_expect(!path_exists(in_dir(root, "left.json")));
    (void)close(out[0]);
}
