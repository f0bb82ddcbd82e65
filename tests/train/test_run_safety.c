/* Whole runs that lose nothing: checkpoints, metrics and somebody's files, whatever goes wrong on the way. */
#include "train/run_rig.h"

#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>

TestSuite(run_safety, .init = make_root, .fini = remove_root);

static const char *inside(const ddpm_config *c, const char *name)
{
    static char path[4][PATH_CAP];
    static int turn;
    char *out = path[turn++ % 4];
    (void)snprintf(out, PATH_CAP, "%.3000s/%s", c->out, name);
    return out;
}

static void put_text(const char *path, const char *text) { OK(file_write(path, text, strlen(text), false, &why)); }

static void set(ddpm_config *c, const char *setting) { OK(config_assign(c, NULL, setting, &why)); }

static void resume_at_folder(ddpm_config *c, const char *folder)
{
    char setting[PATH_CAP + 8];
    (void)snprintf(setting, sizeof setting, "resume=%s", folder);
    set(c, setting);
}

/* The steps of the checkpoints in a folder, newest first, as a number: 9 and 6 are 96. */
static int64_t steps_in(const ddpm_config *c, const char *folder)
{
    int64_t *steps, all = 0;
    int n;
    OK(checkpoint_list(inside(c, folder), &steps, &n, &why));
    for (int i = 0; i < n; i++) all = 10 * all + steps[i];
    mem_free(steps);
    return all;
}

static void flip_byte(const char *path)
{
    FILE *f = fopen(path, "r+b");
    cr_assert_not_null(f, "%s", path);
    cr_assert_eq(fseek(f, -1, SEEK_END), 0);
    const int c = fgetc(f);
    cr_assert_eq(fseek(f, -1, SEEK_END), 0);
    (void)fputc(c ^ 1, f);
    cr_assert_eq(fclose(f), 0);
}

/* faults A1 a: the good checkpoint and all new ones were pruned, and the damaged one was kept. */
Test(run_safety, a_damaged_checkpoint_does_not_displace_good_ones)
{
    tiny(&whole, "flipped");
    set(&whole, "ckpt.every=3");
    OK(train(&whole, 0, NULL));
    flip_byte(inside(&whole, "ckpt/step_00000009/training/exp_avg.safetensors"));
    OK(dir_make(inside(&whole, "ckpt/step_123456789"), &why));
    set(&whole, "resume=auto");
    set(&whole, "train.steps=8");
    set(&whole, "ckpt.every=1");
    set(&whole, "ckpt.keep=1");
    OK(train(&whole, 0, NULL));
    cr_expect_eq(steps_in(&whole, "ckpt"), 8);
    cr_expect(path_exists(inside(&whole, "ckpt/superseded_001/step_00000009")), "what was damaged is not thrown away");
    cr_expect(path_exists(inside(&whole, "ckpt/superseded_001/step_123456789")));
    set(&whole, "train.steps=9");
    OK(train(&whole, 0, NULL));
}

/* faults A1 b, c: what was saved after a step back was pruned at once, or passed over by resume=auto. */
Test(run_safety, goes_back_only_when_told_and_moves_the_later_steps_aside)
{
    double loss[32];
    tiny(&whole, "back");
    set(&whole, "ckpt.every=2");
    set(&whole, "ckpt.keep=3");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(steps_in(&whole, "ckpt"), 986);
    resume_at_folder(&whole, inside(&whole, "ckpt/step_00000006"));
    cr_expect_eq(train(&whole, 0, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "rewind=true"), "%s", why.text);
    cr_expect_eq(steps_in(&whole, "ckpt"), 986);
    cr_expect_eq(read_losses(whole.out, loss, 32), 9);
    set(&whole, "rewind=true");
    set(&whole, "train.steps=7");
    OK(train(&whole, 0, NULL));
    cr_expect_eq(steps_in(&whole, "ckpt"), 76);
    cr_expect_eq(steps_in(&whole, "ckpt/superseded_001"), 98);
    cr_expect_eq(read_losses(whole.out, loss, 32), 7);
    cr_expect_eq(read_losses(inside(&whole, "ckpt/superseded_001"), loss, 32), 9, "nothing of the past is cut");
}

/* A checkpoint that lies elsewhere, behind a link, is the run's own. */
Test(run_safety, a_checkpoint_behind_a_link_is_gone_on_from)
{
    double loss[32];
    tiny(&whole, "linked");
    set(&whole, "train.steps=6");
    OK(train(&whole, 0, NULL));
    char elsewhere[PATH_CAP];
    OK(path_join(elsewhere, root, "elsewhere", &why));
    cr_assert_eq(rename(inside(&whole, "ckpt/step_00000006"), elsewhere), 0);
    cr_assert_eq(symlink(elsewhere, inside(&whole, "ckpt/step_00000006")), 0);
    set(&whole, "resume=auto");
    set(&whole, "train.steps=9");
    OK(train(&whole, 0, NULL));
    cr_expect_eq(steps_in(&whole, "ckpt"), 96);
    cr_expect_not(path_exists(inside(&whole, "ckpt/superseded_001")));
    cr_expect_eq(read_losses(whole.out, loss, 32), 9);
}

/* faults A4: what lies in a checkpoint is removed with it. */
Test(run_safety, no_run_is_put_into_a_checkpoint)
{
    tiny(&whole, "outer");
    OK(train(&whole, 0, NULL));
    tiny(&parts, "outer/ckpt/step_00000009/inner");
    cr_expect_eq(train(&parts, 0, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "is inside a checkpoint"), "%s", why.text);
}

/* Batches that do not end where epochs do: nothing was resumed, and that it was is not said. */
Test(run_safety, epochs_of_a_run_that_was_not_resumed_are_whole)
{
    run_record s = {0};
    tiny(&whole, "epochs");
    set(&whole, "data.count=70");
    set(&whole, "train.steps=40");
    OK(train(&whole, 0, &s));
    cr_expect_not_null(strstr(s.notes, "Epoch 2: mean loss"), "%s", s.notes);
    cr_expect_null(strstr(s.notes, "after the resume"), "%s", s.notes);
}

/* faults A1 b: another run's checkpoint into a folder that holds a run. */
Test(run_safety, another_runs_checkpoint_does_not_mix_with_what_is_there)
{
    tiny(&whole, "theirs");
    tiny(&parts, "mine");
    OK(train(&whole, 0, NULL));
    set(&parts, "train.steps=5");
    OK(train(&parts, 0, NULL));
    resume_at_folder(&parts, inside(&whole, "ckpt/step_00000009"));
    set(&parts, "train.steps=9");
    cr_expect_eq(train(&parts, 0, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "another run"), "%s", why.text);
    set(&parts, "rewind=true");
    OK(train(&parts, 0, NULL));
    cr_expect_eq(steps_in(&parts, "ckpt"), 9, "faults B11: it said 'done', and the folder held no checkpoint");
    cr_expect_eq(steps_in(&parts, "ckpt/superseded_001"), 5);
}

typedef struct disturber {
    uint64_t at; /* the step after which it acts */
    void (*act)(void);
    int asked, stop_after; /* how often it was asked; the wish to stop comes after so many; 0: never */
    char notes[8192];
} disturber;

static void disturb(void *context, const run_status *status)
{
    const disturber *d = context;
    if (status->state->step == d->at && d->act) d->act();
}

static void collect_disturbed(void *context, const char *text)
{
    disturber *d = context;
    const size_t used = strlen(d->notes);
    (void)snprintf(d->notes + used, sizeof d->notes - used, "%s\n", text);
}

static run_request stop_when_asked_often(void *context)
{
    disturber *d = context;
    return ++d->asked > d->stop_after && d->stop_after ? RUN_STOP : RUN_CONTINUE;
}

static ddpm_status train_disturbed(const ddpm_config *c, disturber *d)
{
    backend *be;
    const run_hooks hooks = {
        .context = d, .note = collect_disturbed, .step = disturb, .request = stop_when_asked_often};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 2}, &be, &why));
    const ddpm_status st = run_train(be, c, &hooks, &why);
    backend_destroy(be);
    return st;
}

static void expect_kept(void)
{
    cr_expect_eq(steps_in(&whole, "ckpt"), 76, "older ones go when a finite step followed");
}

Test(run_safety, older_checkpoints_go_while_the_run_goes_on)
{
    disturber d = {.at = 8, .act = expect_kept};
    tiny(&whole, "pruned");
    set(&whole, "ckpt.every=1");
    set(&whole, "ckpt.keep=2");
    cr_assert_eq(train_disturbed(&whole, &d), DDPM_OK, "%s", why.text);
    cr_expect_eq(steps_in(&whole, "ckpt"), 98);
}

/* A mount point cannot be removed.  False: no right to mount. */
static bool make_busy(const char *path)
{
    OK(dir_make(path, &why));
    return !mount("none", path, "tmpfs", 0, "size=64k");
}

/* faults B14: what could not be removed blocked every start, and a prune that failed was called a save that failed. */
Test(run_safety, what_cannot_be_removed_stays_and_is_said)
{
    run_record s = {0};
    tiny(&whole, "busy");
    set(&whole, "ckpt.keep=1");
    set(&whole, "resume=auto");
    cr_assert_eq(train(&whole, 4, NULL), DDPM_ESAVED);
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        !make_busy(inside(&whole, "ckpt/.tmp-step_00000002-abcdef/busy")) ||
        !make_busy(inside(&whole, "ckpt/step_00000004/busy")))
        cr_skip_test("nothing can be mounted here (not root?)");
    OK(train(&whole, 0, &s));
    cr_expect_not_null(strstr(s.notes, "the files of an interrupted save cannot be removed"), "%s", s.notes);
    cr_expect_not_null(strstr(s.notes, "WARNING: older checkpoints were not removed"), "%s", s.notes);
    cr_expect_null(strstr(s.notes, "not saved"), "%s", s.notes);
    cr_expect_eq(steps_in(&whole, "ckpt"), 9);
    DIR *d = opendir(inside(&whole, "ckpt"));
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        char path[PATH_CAP];
        (void)snprintf(path, sizeof path, "%s/%s/busy", inside(&whole, "ckpt"), entry->d_name);
        if (entry->d_name[0] == '.' && path_exists(path)) cr_expect_eq(umount(path), 0);
    }
    closedir(d);
}

static void block_preview(void) { OK(dir_make(inside(&whole, "samples/step_00000004.png"), &why)); }

/* faults A8, F4: a preview that failed ended the run, and nothing was saved. */
Test(run_safety, a_preview_that_fails_is_a_warning_and_comes_after_the_save)
{
    disturber d = {.at = 1, .act = block_preview};
    tiny(&whole, "blocked");
    set(&whole, "sample.every=4");
    set(&whole, "ckpt.every=4");
    set(&whole, "sample.num_inference_steps=2");
    cr_assert_eq(train_disturbed(&whole, &d), DDPM_OK, "%s", why.text);
    cr_expect_not_null(strstr(d.notes, "WARNING: the preview of step 4 failed: "), "%s", d.notes);
    cr_expect(path_exists(inside(&whole, "samples/step_00000008.png")));
    cr_expect_eq(steps_in(&whole, "ckpt"), 98);
}

/* faults A8: a preview could not be stopped. */
Test(run_safety, a_preview_gives_way_to_the_wish_to_stop)
{
    disturber d = {.stop_after = 4 + 3}; /* asked after each of four steps, and then at each step of the preview */
    tiny(&whole, "given-up");
    set(&whole, "sample.every=4");
    set(&whole, "sample.num_inference_steps=20");
    cr_assert_eq(train_disturbed(&whole, &d), DDPM_ESAVED, "%s", why.text);
    cr_expect_not_null(strstr(d.notes, "preview of step 4 was cancelled"), "%s", d.notes);
    cr_expect_eq(d.asked, 4 + 4);
    cr_expect_eq(steps_in(&whole, "ckpt"), 4);
}

static void make_pictures(const char *folder)
{
    uint8_t pixel[8 * 8] = {0};
    image picture = {.h = 8, .w = 8, .c = 1, .pixel = pixel};
    OK(dir_make(folder, &why));
    for (int i = 0; i < 20; i++) {
        char name[16], path[PATH_CAP];
        pixel[i] = 255;
        (void)snprintf(name, sizeof name, "%02d.png", i);
        OK(path_join(path, folder, name, &why));
        OK(image_write_png(path, &picture, &why));
    }
}

static char pictures[PATH_CAP];
static void lose_pictures(void) { OK(dir_remove(pictures, &why)); }

/* faults A7, F4: an input that vanished ended the run, and nothing was saved. */
Test(run_safety, an_input_that_vanishes_does_not_cost_the_steps_before)
{
    disturber d = {.at = 3, .act = lose_pictures};
    tiny(&whole, "vanished");
    OK(path_join(pictures, root, "pictures", &why));
    make_pictures(pictures);
    char setting[PATH_CAP + 16];
    (void)snprintf(setting, sizeof setting, "data.path=%s", pictures);
    set(&whole, setting);
    set(&whole, "data.kind=folder");
    set(&whole, "data.count=0");
    set(&whole, "data.cache_mb=0");
    set(&whole, "data.prefetch=1");
    set(&whole, "train.steps=1000");
    set(&whole, "log.every=1000");
    cr_assert_eq(train_disturbed(&whole, &d), DDPM_ENOINPUT, "%s", why.text);
    cr_expect_not_null(strstr(why.text, "is saved"), "%s", why.text);
    int64_t *steps;
    int n;
    OK(checkpoint_list(inside(&whole, "ckpt"), &steps, &n, &why));
    cr_expect(n == 1 && steps[0] >= 3);
    mem_free(steps);
}

/* faults A9: somebody's own folder was written to, and files in it were replaced. */
Test(run_safety, a_folder_that_is_no_runs_is_refused_and_stays_as_it_is)
{
    static const char *const names[] = {"config.yaml", "metrics.jsonl", "loss.svg",  "LOCK",         "log.txt",
                                        "notes.md",    "ckpt/x",        "plans.txt", "samples/a.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[32], *text;
        size_t size;
        (void)snprintf(name, sizeof name, "foreign-%zu", i);
        tiny(&whole, name);
        OK(dir_make(inside(&whole, strchr(names[i], '/') ? names[i][0] == 'c' ? "ckpt" : "samples" : ""), &why));
        put_text(inside(&whole, names[i]), "mine");
        cr_expect_eq(train(&whole, 0, NULL), DDPM_EINVAL, "%s", names[i]);
        cr_expect_not_null(strstr(why.text, "contains '"), "%s", why.text);
        OK(file_read(inside(&whole, names[i]), 100, &text, &size, &why));
        cr_expect_str_eq(text, "mine");
        mem_free(text);
    }
}

/* A log that only begins with a time, as many programs' do, makes no run. */
Test(run_safety, somebodys_log_is_no_runs)
{
    tiny(&whole, "logged");
    OK(dir_make(whole.out, &why));
    put_text(inside(&whole, "log.txt"), "2026-01-02T03:04:05Z server started\n");
    put_text(inside(&whole, "notes.md"), "mine");
    cr_expect_eq(train(&whole, 0, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "contains '"), "%s", why.text);
}

/* faults A9: a commented config.yaml was replaced by the run's own. */
Test(run_safety, a_configuration_that_was_read_is_not_rewritten)
{
    char *text;
    size_t size;
    run_record s = {0};
    tiny(&whole, "own");
    OK(dir_make(whole.out, &why));
    put_text(inside(&whole, "config.yaml"), "# mine\ntrain.steps: 9\n");
    OK(config_read_file(&whole, inside(&whole, "config.yaml"), &why));
    OK(train(&whole, 0, &s));
    OK(file_read(inside(&whole, "config.yaml"), 100, &text, &size, &why));
    cr_expect_str_eq(text, "# mine\ntrain.steps: 9\n");
    cr_expect_not_null(strstr(s.notes, "not overwritten"), "%s", s.notes);
    mem_free(text);
}

/* faults A9: after ckpt/ was deleted for its space, resume=auto emptied the metrics. */
Test(run_safety, metrics_of_a_run_without_checkpoints_are_kept)
{
    double loss[32];
    tiny(&whole, "spaceless");
    OK(train(&whole, 0, NULL));
    OK(dir_remove(inside(&whole, "ckpt"), &why));
    set(&whole, "resume=auto");
    cr_assert_eq(train(&whole, 2, NULL), DDPM_ESAVED);
    cr_expect_eq(read_losses(whole.out, loss, 32), 2);
    cr_expect_eq(read_losses(inside(&whole, "ckpt/superseded_001"), loss, 32), 9);
}

/* faults A12: everything behind the first line that could not be read was cut. */
Test(run_safety, one_bad_line_of_the_metrics_costs_one_line)
{
    double loss[32];
    char *text;
    size_t size;
    run_record s = {0};
    tiny(&whole, "lines");
    set(&whole, "resume=auto");
    cr_assert_eq(train(&whole, 5, NULL), DDPM_ESAVED);
    OK(file_read(inside(&whole, "metrics.jsonl"), 1 << 20, &text, &size, &why));
    char *second = strstr(text, "\"step\":2");
    memcpy(second + 7, "n", 1); /* no number, and no JSON */
    FILE *f = fopen(inside(&whole, "metrics.jsonl"), "w");
    fprintf(f, "not ours\n%s{\"t\":1,\"st", text);
    cr_assert_eq(fclose(f), 0);
    mem_free(text);
    OK(train(&whole, 0, &s));
    cr_expect_eq(read_losses(whole.out, loss, 32), 8, "1, 3, 4, 5, and the four that followed");
    cr_expect_not_null(strstr(s.notes, "2 unreadable"), "%s", s.notes);
    OK(file_read(inside(&whole, "ckpt/superseded_001/metrics.jsonl"), 1 << 20, &text, &size, &why));
    cr_expect_eq(strncmp(text, "not ours\n", 9), 0);
    mem_free(text);
}

/* faults B6: checkpoints of ruined weights replaced good ones, and "the last checkpoint is good" was not looked at. */
Test(run_safety, nothing_is_saved_while_steps_are_skipped_and_the_way_back_is_named)
{
    tiny(&whole, "ruined");
    set(&whole, "ckpt.every=1");
    set(&whole, "ckpt.keep=1");
    set(&whole, "resume=auto");
    cr_assert_eq(train(&whole, 4, NULL), DDPM_ESAVED);
    whole.train.lr = 1e38;
    whole.train.steps = 100;
    whole.train.max_grad_norm = 0;
    cr_assert_eq(train(&whole, 0, NULL), DDPM_EDIVERGED, "%s", why.text);
    cr_expect_not_null(strstr(why.text, "finite steps is step_00000004"), "%s", why.text);
    const int64_t left = steps_in(&whole, "ckpt");
    cr_expect(left == 4 || left == 54, "the one before and at most the one after the ruinous step, not %lld",
              (long long)left);
    tiny(&whole, "ruined-at-once");
    whole.train.lr = 1e38;
    whole.train.max_grad_norm = 0;
    whole.train.lr_warmup_steps = 0;
    whole.train.max_skipped = 100;
    cr_assert_eq(train(&whole, 0, NULL), DDPM_EDIVERGED, "%s", why.text);
    cr_expect_eq(steps_in(&whole, "ckpt"), 0);
    whole.train.max_skipped = 3;
    cr_assert_eq(train(&whole, 0, NULL), DDPM_EDIVERGED, "%s", why.text);
    cr_expect_not_null(strstr(why.text, "the run has no checkpoint, and its last finite step was "), "%s", why.text);
}

/* A stop waits a few steps for one that can be saved, and no longer. */
Test(run_safety, a_stop_while_steps_are_skipped_is_heard, .timeout = 60)
{
    tiny(&whole, "deaf");
    whole.train.lr = 1e38;
    whole.train.max_grad_norm = 0;
    whole.train.lr_warmup_steps = 0;
    whole.train.max_skipped = 1000000;
    whole.train.steps = 1000000000;
    disturber d = {.stop_after = 4};
    cr_assert_eq(train_disturbed(&whole, &d), DDPM_EDIVERGED, "%s", why.text);
    cr_expect_leq(d.asked, 20);
    cr_expect_eq(steps_in(&whole, "ckpt"), 0);
}

/* faults B10: the noise kept the old seed, the order of the images took the new one. */
Test(run_safety, another_seed_has_no_effect_on_a_run_that_goes_on_and_it_is_said)
{
    run_record s = {0};
    tiny(&whole, "seed");
    tiny(&parts, "seed-parts");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 4, NULL), DDPM_ESAVED);
    set(&parts, "resume=auto");
    set(&parts, "seed=5");
    OK(train(&parts, 0, &s));
    cr_expect_not_null(strstr(s.notes, "seed=5 has no effect"), "%s", s.notes);
    expect_same_end(&whole, &parts, 9);
}

/* faults D, F19b: a folder that is not there was called a model; a run's folder was refused. */
Test(run_safety, resume_takes_a_runs_folder_and_names_what_is_not_there)
{
    static const struct {
        const char *resume, *words;
        ddpm_status expected;
    } known[] = {{"latest", "no such folder", DDPM_ENOINPUT},
                 {"true", "no such folder", DDPM_ENOINPUT},
                 {"", "empty", DDPM_EINVAL},
                 {"/tmp", "neither a checkpoint", DDPM_EDATA}};
    tiny(&parts, "resumed");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        resume_at_folder(&parts, known[i].resume);
        cr_expect_eq(train(&parts, 0, NULL), known[i].expected, "%s: %s", known[i].resume, why.text);
        cr_expect_not_null(strstr(why.text, known[i].words), "%s", why.text);
    }
    tiny(&whole, "to-resume");
    OK(train(&whole, 0, NULL));
    resume_at_folder(&parts, whole.out);
    set(&parts, "train.steps=10");
    OK(train(&parts, 0, NULL));
    cr_expect_eq(steps_in(&parts, "ckpt"), 10);
}

/* faults C9: the first save found out that the path was too long; C5: a FIFO hung. */
Test(run_safety, what_can_be_known_before_the_first_step_is_refused_before_it, .timeout = 60)
{
    tiny(&whole, "x");
    memset(whole.out, 'a', 4033);
    for (int i = 100; i < 4033; i += 100) whole.out[i] = '/';
    whole.out[4033] = '\0';
    cr_expect_eq(train(&whole, 0, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "path too long"), "%s", why.text);
    tiny(&whole, "pipe");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(unlink(inside(&whole, "log.txt")), 0);
    cr_assert_eq(mkfifo(inside(&whole, "log.txt"), 0666), 0);
    set(&whole, "resume=auto");
    cr_expect_eq(train(&whole, 0, NULL), DDPM_EIO);
    cr_expect_not_null(strstr(why.text, "log.txt: not a regular file"), "%s", why.text);
}

/* faults D: a data set smaller than a batch gave an "Epoch" line at every step. */
Test(run_safety, short_epochs_are_said_together)
{
    run_record s = {0};
    int lines = 0;
    tiny(&whole, "short");
    set(&whole, "data.count=1");
    set(&whole, "train.steps=25");
    OK(train(&whole, 0, &s));
    for (const char *at = s.notes; (at = strstr(at, "Epoch ")); at++) lines++;
    cr_expect_eq(lines, 3);
}
