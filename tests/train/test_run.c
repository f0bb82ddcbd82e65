/* Whole runs: a run that was stopped and resumed is the run that was not, bit for bit; what changes
 * it is said. */
#include "train/run_rig.h"

TestSuite(run, .init = make_root, .fini = remove_root);

static void resume_at(const int *stops, int n, int micro_batches)
{
    char setting[64];
    tiny(&whole, "whole");
    tiny(&parts, "parts");
    (void)snprintf(setting, sizeof setting, "train.gradient_accumulation_steps=%d", micro_batches);
    OK(config_assign(&whole, NULL, setting, &why));
    OK(config_assign(&parts, NULL, setting, &why));
    OK(config_assign(&parts, NULL, "resume=auto", &why));
    OK(train(&whole, 0, NULL));
    for (int i = 0; i < n; i++) cr_assert_eq(train(&parts, (uint64_t)stops[i], NULL), DDPM_ESAVED, "%s", why.text);
    OK(train(&parts, 0, NULL));
    expect_same_end(&whole, &parts, 9);
}

Test(run, resumed_equals_uninterrupted_to_the_bit) { resume_at((const int[]){1, 5, 8}, 3, 1); }
Test(run, resumed_with_accumulation_equals_uninterrupted) { resume_at((const int[]){2}, 1, 3); }

Test(run, twice_the_same_run_gives_the_same_bits)
{
    tiny(&whole, "first");
    tiny(&parts, "second");
    OK(train(&whole, 0, NULL));
    OK(train(&parts, 0, NULL));
    expect_same_end(&whole, &parts, 9);
    OK(config_assign(&parts, NULL, "seed=1", &why));
    OK(path_join(parts.out, root, "third", &why));
    OK(train(&parts, 0, NULL));
    const char *const weights = "ckpt/step_00000009/training/weights.safetensors";
    cr_assert_not(same_bytes(in_dir(whole.out, weights), in_dir(parts.out, weights)), "another seed is another run");
}

Test(run, a_resumed_run_has_each_step_once_in_its_metrics)
{
    double loss[32], before[32];
    tiny(&parts, "parts");
    OK(config_assign(&parts, NULL, "resume=auto", &why));
    OK(config_assign(&parts, NULL, "ckpt.every=4", &why));
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED);
    cr_assert_eq(read_losses(parts.out, before, 32), 4);
    /* as if the power had failed after step 4's checkpoint: two more lines, the last cut short */
    char path[PATH_CAP];
    OK(path_join(path, parts.out, "metrics.jsonl", &why));
    FILE *f = fopen(path, "a");
    fprintf(f, "{\"t\":1,\"step\":5,\"loss\":77}\n{\"t\":1,\"step\":6,\"lo");
    fclose(f);
    OK(train(&parts, 0, NULL));
    cr_assert_eq(read_losses(parts.out, loss, 32), 9);
    for (int i = 0; i < 4; i++) cr_assert_eq(loss[i], before[i]);
    cr_assert_neq(loss[4], 77);
}

Test(run, keeps_the_newest_checkpoints_and_leaves_the_pictures)
{
    int64_t *steps;
    int n;
    char path[PATH_CAP];
    static const char *const left[] = {"config.yaml", "log.txt",     "metrics.jsonl",
                                       "loss.svg",    "noising.png", "samples/step_00000008.png"};
    tiny(&whole, "kept");
    OK(config_assign(&whole, NULL, "ckpt.every=2", &why));
    OK(config_assign(&whole, NULL, "ckpt.keep=3", &why));
    OK(config_assign(&whole, NULL, "sample.every=8", &why));
    OK(config_assign(&whole, NULL, "sample.num_inference_steps=5", &why));
    OK(train(&whole, 0, NULL));
    OK(path_join(path, whole.out, "ckpt", &why));
    OK(checkpoint_list(path, &steps, &n, &why));
    cr_assert_eq(n, 3);
    cr_assert(steps[0] == 9 && steps[1] == 8 && steps[2] == 6);
    mem_free(steps);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        OK(path_join(path, whole.out, left[i], &why));
        cr_assert(path_exists(path), "%s", left[i]);
    }
}

Test(run, falls_back_to_the_checkpoint_before_a_damaged_one)
{
    run_record s = {0};
    char path[PATH_CAP];
    tiny(&whole, "damaged");
    OK(config_assign(&whole, NULL, "ckpt.every=3", &why));
    OK(config_assign(&whole, NULL, "resume=auto", &why));
    OK(train(&whole, 0, NULL));
    OK(path_join(path, whole.out, "ckpt/step_00000009/training/exp_avg.safetensors", &why));
    cr_assert_eq(truncate(path, 1000), 0);
    OK(train(&whole, 0, &s));
    cr_assert_not_null(strstr(s.notes, "exp_avg.safetensors"), "the damaged file is named: %s", s.notes);
    cr_assert_not_null(strstr(s.notes, "step_00000006, step 6"), "%s", s.notes);
}

Test(run, refuses_what_would_lose_or_mix_something)
{
    tiny(&whole, "refused");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&whole, 0, NULL), DDPM_EINVAL);
    cr_assert_not_null(strstr(why.text, "resume=auto"), "%s", why.text);
    OK(config_assign(&whole, NULL, "resume=auto", &why));
    OK(config_assign(&whole, NULL, "model.block_out_channels=8,24", &why));
    cr_assert_eq(train(&whole, 0, NULL), DDPM_EINVAL); /* faults D, F19c: tensors' shapes were listed */
    cr_assert_not_null(strstr(why.text, "model.block_out_channels differs from the value at the start"), "%s",
                       why.text);
    OK(config_assign(&whole, NULL, "model.block_out_channels=8,16", &why));
    OK(config_assign(&whole, NULL, "model.norm_num_groups=2", &why)); /* every shape is as before */
    cr_assert_eq(train(&whole, 0, NULL), DDPM_EINVAL, "%s", why.text);
    cr_assert_not_null(strstr(why.text, "model.norm_num_groups differs from the value at the start"), "%s", why.text);
    OK(config_assign(&whole, NULL, "model.norm_num_groups=4", &why));
    OK(config_assign(&whole, NULL, "model.block_out_channels=10,24", &why));
    const ddpm_status st = train(&whole, 0, NULL);
    cr_assert_eq(st, DDPM_EINVAL, "10 channels in 4 groups: %s %s", err_name(st), why.text);
}

Test(run, says_what_keeps_a_resumed_run_from_being_the_same)
{
    run_record s = {0};
    tiny(&whole, "changed");
    cr_assert_eq(train(&whole, 4, NULL), DDPM_ESAVED);
    OK(config_assign(&whole, NULL, "resume=auto", &why));
    OK(config_assign(&whole, NULL, "train.lr=1e-3", &why));
    OK(config_assign(&whole, NULL, "data.count=21", &why));
    OK(config_assign(&whole, NULL, "model.dropout=0.2", &why));
    OK(config_assign(&whole, NULL, "train.steps=10", &why)); /* with a constant rate only longer */
    OK(train(&whole, 0, &s));
    cr_assert_not_null(strstr(s.notes, "train.lr differs"), "%s", s.notes);
    cr_assert_not_null(strstr(s.notes, "the data set differs"), "%s", s.notes);
    cr_assert_not_null(strstr(s.notes, "model.dropout differs"), "%s", s.notes);
    cr_assert_null(strstr(s.notes, "train.batch differs"));
    cr_assert_null(strstr(s.notes, "train.steps differs"));
}

/* A learning rate that blows the weights up: the steps are skipped, counted, and at last the run ends. */
Test(run, ends_as_diverged_and_keeps_the_good_checkpoint)
{
    int64_t *steps;
    int n;
    char path[PATH_CAP];
    run_record s = {0};
    tiny(&whole, "diverged");
    OK(config_assign(&whole, NULL, "resume=auto", &why));
    cr_assert_eq(train(&whole, 4, NULL), DDPM_ESAVED);
    whole.train.lr = 1e38;
    whole.train.steps = 100;
    whole.train.max_grad_norm = 0;
    whole.train.max_skipped = 5;
    cr_assert_eq(train(&whole, 0, &s), DDPM_EDIVERGED, "%s", why.text);
    cr_assert_not_null(strstr(s.notes, "was skipped"), "%s", s.notes);
    OK(path_join(path, whole.out, "ckpt", &why));
    OK(checkpoint_list(path, &steps, &n, &why));
    cr_assert(n == 1 && steps[0] == 4, "the checkpoint from before is still there");
    mem_free(steps);
}

Test(run, is_locked_while_it_goes_on)
{
    run_folder mine, other;
    tiny(&whole, "locked");
    OK(run_folder_open(&mine, &whole, &why));
    cr_assert_eq(run_folder_open(&other, &whole, &why), DDPM_ELOCKED);
    cr_assert_not_null(strstr(why.text, "process"), "%s", why.text);
    run_folder_close(&other);
    run_folder_close(&mine);
    OK(run_folder_open(&mine, &whole, &why));
    run_folder_close(&mine);
}
