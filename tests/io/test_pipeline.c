#include "io/atomic_dir.h"
#include "io/checkpoint_dir.h"
#include "io/pipeline.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The fixture's net, configs and all, into a folder. */
static void write_fixture(const char *dir)
{
    unet_config net;
    scheduler_config scheduler;
    pipeline p;
    err e = {0};
    test_net tensors = net_load(FIXTURES "/tensors.txt");
    net_fill(&tensors);
    cr_assert_eq(pipeline_find(FIXTURES "/pipeline", &p, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(pipeline_read_configs(&p, &net, &scheduler, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(pipeline_write(dir, &net, &scheduler, tensors.tensors, tensors.n, &e), DDPM_OK, "%s", e.text);
    net_free(&tensors);
}

Test(pipeline, what_diffusers_writes_is_written_again_to_the_byte)
{
    static const char *const files[] = {"model_index.json", "unet/config.json",
                                        "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"};
    char dir[PATH_CAP];
    write_fixture(scratch_make(dir));
    for (int i = 0; i < 4; i++) cr_assert(same_bytes(in_dir(FIXTURES "/pipeline", files[i]), in_dir(dir, files[i])));
    scratch_remove(dir);
}

static void check_read(const char *path, int timesteps, const char *class_name)
{
    pipeline p;
    unet_config net;
    scheduler_config scheduler;
    notes n = {""};
    err e = {0};
    test_net tensors = net_load(FIXTURES "/tensors.txt");
    cr_assert_eq(pipeline_find(path, &p, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(pipeline_read_configs(&p, &net, &scheduler, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(pipeline_read_weights(&p, tensors.tensors, tensors.n, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(net_differences(&tensors), 0);
    cr_assert_eq(scheduler.num_train_timesteps, timesteps);
    cr_assert_eq(net.block[1].out_channels, 6);
    cr_assert_str_eq(net.class_name, class_name);
    net_free(&tensors);
}

Test(pipeline, reads_the_usual_layout) { check_read(FIXTURES "/pipeline", 1000, "UNet2DModel"); }
Test(pipeline, reads_the_flat_layout_of_the_first_releases) { check_read(FIXTURES "/first", 300, "UNetModel"); }

static void save_checkpoint(const char *ckpt, int64_t step)
{
    atomic_dir t;
    char name[CHECKPOINT_NAME_CAP];
    err e = {0};
    cr_assert_eq(atomic_dir_begin(&t, ckpt, checkpoint_name(name, step), &e), DDPM_OK, "%s", e.text);
    write_fixture(t.path);
    cr_assert_eq(checkpoint_seal(t.path, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(atomic_dir_commit(&t, &e), DDPM_OK, "%s", e.text);
}

Test(pipeline, a_run_stands_for_its_newest_whole_checkpoint)
{
    char run[PATH_CAP], ckpt[PATH_CAP];
    pipeline p;
    notes n = {""};
    err e = {0};
    (void)snprintf(ckpt, sizeof ckpt, "%s/ckpt", scratch_make(run));
    save_checkpoint(ckpt, 100);
    save_checkpoint(ckpt, 2000);
    const char *const starts[] = {run, ckpt, in_dir(ckpt, "step_00002000")};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(pipeline_find(starts[i], &p, &n, &e), DDPM_OK, "%s", e.text);
        cr_assert_str_eq(p.root, in_dir(ckpt, "step_00002000"));
        cr_assert_str_eq(n.text, "");
    }
    cr_assert_eq(truncate(in_dir(ckpt, "step_00002000/unet/config.json"), 5), 0);
    cr_assert_eq(pipeline_find(run, &p, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(p.root, in_dir(ckpt, "step_00000100"));
    cr_assert_not_null(strstr(n.text, "skipped step_00002000"), "%s", n.text);
    cr_assert_not_null(strstr(n.text, "unet/config.json"), "%s", n.text);
    cr_assert_not_null(strstr(n.text, "fell back to step_00000100"), "%s", n.text);
    cr_assert_eq(unlink(in_dir(ckpt, "step_00000100/training/integrity.json")), 0);
    cr_assert_eq(pipeline_find(run, &p, &n, &e), DDPM_EDATA);
    scratch_remove(run);
}

Test(pipeline, what_was_looked_for_is_said)
{
    char dir[PATH_CAP];
    pipeline p;
    err e = {0};
    scratch_make(dir);
    cr_assert_eq(pipeline_find(dir, &p, NULL, &e), DDPM_ENOINPUT);
    cr_assert_not_null(strstr(e.text, "unet/config.json"), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "ckpt/step_"), "%s", e.text);
    cr_assert_eq(pipeline_find(in_dir(dir, "none"), &p, NULL, &e), DDPM_ENOINPUT);
    cr_assert_not_null(strstr(e.text, "no such folder"), "%s", e.text);
    put_file(in_dir(dir, "config.json"), "{}");
    cr_assert_eq(pipeline_find(in_dir(dir, "config.json"), &p, NULL, &e), DDPM_ENOINPUT);
    cr_assert_eq(pipeline_find(dir, &p, NULL, &e), DDPM_ENOINPUT);
    cr_assert_not_null(strstr(e.text, "scheduler_config.json"), "%s", e.text);
    put_file(in_dir(dir, "scheduler_config.json"), "{}");
    cr_assert_eq(pipeline_find(dir, &p, NULL, &e), DDPM_OK, "%s", e.text);
    put_file(in_dir(dir, "model_index.json"), "{\"_class_name\": \"LDMPipeline\"}");
    cr_assert_eq(pipeline_find(dir, &p, NULL, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "LDMPipeline"), "%s", e.text);
    scratch_remove(dir);
}

static void refuse_index(const char *dir, const char *index, const char *words)
{
    pipeline p;
    err e = {0};
    put_file(in_dir(dir, "model_index.json"), index);
    cr_expect_eq(pipeline_find(dir, &p, NULL, &e), DDPM_EDATA, "taken: %s", index);
    cr_expect_not_null(strstr(e.text, words), "%s: '%s'", index, e.text);
}

static void expect_class(const char *dir, const char *index, scheduler_class want)
{
    pipeline p;
    unet_config net;
    scheduler_config s;
    err e = {0};
    put_file(in_dir(dir, "model_index.json"), index);
    cr_assert_eq(pipeline_find(dir, &p, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(pipeline_read_configs(&p, &net, &s, NULL, &e), DDPM_OK, "%s", e.text);
    cr_expect_eq(s.type, want, "%s: %s", index, scheduler_class_name(s.type));
}

/* faults F16: DDIMPipeline makes a DDIMScheduler of any, and the index names the class, not the scheduler's own config */
Test(pipeline, classes_that_sample_otherwise_are_refused_by_name)
{
    char dir[PATH_CAP];
    pipeline p;
    err e = {0};
    put_file(in_dir(scratch_make(dir), "config.json"), "{}");
    put_file(in_dir(dir, "scheduler_config.json"), "{\"_class_name\": \"DDPMScheduler\"}");
    expect_class(dir, "{\"_class_name\": \"DDIMPipeline\"}", SCHEDULER_CLASS_DDIM);
    expect_class(dir, "{\"_class_name\": \"PNDMPipeline\", \"scheduler\": [\"diffusers\", \"DDPMScheduler\"]}",
                 SCHEDULER_CLASS_PNDM);
    expect_class(dir, "{\"scheduler\": [\"diffusers\", \"UniPCMultistepScheduler\"]}", SCHEDULER_CLASS_UNIPC);
    expect_class(dir, "{}", SCHEDULER_CLASS_DDPM);
    refuse_index(dir, "{\"scheduler\": [\"diffusers\", \"RePaintScheduler\"]}",
                 "scheduler = RePaintScheduler is not supported; supported: DDPMScheduler");
    refuse_index(dir, "{\"scheduler\": \"DDPMScheduler\"}", "scheduler = (no class)");
    refuse_index(dir, "{\"unet\": [\"diffusers\", \"UNet2DConditionModel\"]}", "unet = UNet2DConditionModel");
    put_file(in_dir(dir, "model_index.json"),
             "{\"unet\": [\"diffusers\", \"UNetModel\"], \"scheduler\": [\"diffusers\", \"GaussianDDPMScheduler\"]}");
    cr_expect_eq(pipeline_find(dir, &p, NULL, &e), DDPM_OK, "%s", e.text);
    scratch_remove(dir);
}

/* Every folder and config that diffusers wrote for the tests of other rooms is read, and written again to the byte. */
Test(pipeline, all_golden_configs_go_round)
{
    static const char *const names[] = {
        "unet_cifar",        "unet_defaults", "unet_scale_shift", "unet_scale_shift_norm", "unet_non_square",
        "unet_no_mid_out_6", "unet_centred",  "unet_odd_widths",  "unet_single_block"};
    char dir[PATH_CAP], path[PATH_CAP];
    scratch_make(dir);
    int read = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unet_config c;
        err e = {0};
        (void)snprintf(path, sizeof path, DDPM_TESTS "/golden/%s/config.json", names[i]);
        if (!path_exists(path)) continue;
        const char *out = in_dir(dir, "config.json");
        cr_assert_eq(unet_config_read(path, &c, NULL, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(unet_config_write(&c, out, &e), DDPM_OK, "%s", e.text);
        cr_assert(same_bytes(path, out), "%s", path);
        read++;
    }
    scratch_remove(dir);
    if (read == 0) cr_skip_test("tests/golden is not there");
}

/* diffusers itself loads what we write, tensor by tensor the same; see tests/io/check_pipeline.py. */
Test(pipeline, diffusers_loads_what_is_written)
{
    char dir[PATH_CAP], command[2 * PATH_CAP];
    const char *python = getenv("DDPM_PYTHON");
    if (!python) cr_skip_test("set DDPM_PYTHON to a Python with diffusers to check against it");
    write_fixture(scratch_make(dir));
    (void)snprintf(command, sizeof command, "'%s' '%s/io/check_pipeline.py' '%s' '%s/pipeline'", python, DDPM_TESTS,
                   dir, FIXTURES);
    cr_assert_eq(system(command), 0);
    scratch_remove(dir);
}
