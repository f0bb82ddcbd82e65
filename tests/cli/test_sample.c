/* ddpm sample as a user meets it: what is in its folder is what was asked for, and what it did not make it does not touch. */
#include "base/file.h"
#include "base/folder_lock.h"
#include "base/mem.h"
#include "data/image.h"
#include "support/program_shell.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TINY                                                                                                           \
    "data.kind=digits data.resolution=8 data.channels=1 data.count=40 model.block_out_channels=8,8"                    \
    " model.down_block_types=DownBlock2D,DownBlock2D model.up_block_types=UpBlock2D,UpBlock2D"                         \
    " model.layers_per_block=1 model.norm_num_groups=4 diffusion.num_train_timesteps=20 train.batch=4 train.lr=2e-3"   \
    " train.lr_warmup_steps=0 ema.decay=0.9 threads=1 cpu.conv=direct" /* nothing is chosen by timing */

static char root[PATH_CAP];
static err why;

__attribute__((format(printf, 1, 2))) static const char *in_root(const char *fmt, ...)
{
    static char path[8][PATH_CAP];
    static int next;
    va_list ap;
    next = (next + 1) % 8;
    const int n = snprintf(path[next], PATH_CAP, "%s/", root);
    va_start(ap, fmt);
    (void)vsnprintf(path[next] + n, (size_t)(PATH_CAP - n), fmt, ap);
    va_end(ap);
    return path[next];
}

static char *text_of(const char *name)
{
    char *text;
    size_t size;
    cr_assert_eq(file_read(in_root("%s", name), 1 << 24, &text, &size, &why), DDPM_OK, "%s", why.text);
    return text;
}

static void make_root(void)
{
    shell_begin(root, "");
    works("ddpm train out=run train.steps=20 ckpt.every=10 " TINY);
}

TestSuite(sample, .init = make_root, .fini = shell_end, .timeout = 300);

/* The same pictures, to the byte, in both folders. */
static void expect_same(const char *a, const char *b, int count)
{
    for (int i = 0; i < count; i++)
        cr_expect(same_bytes(in_root("%s/%06d.png", a, i), in_root("%s/%06d.png", b, i)), "%s and %s: picture %d", a, b,
                  i);
}

static void expect_said(const char *words)
{
    char *text = text_of("stdout");
    cr_expect_not_null(strstr(text, words), "%s", text);
    mem_free(text);
}

/* ---- whose pictures are there ---- */

/* faults A2: they were deleted. */
Test(sample, pictures_that_it_did_not_make_are_refused_by_name)
{
    static const char *const names[] = {"000001.png", "000007.png", "1000000.png", "grid.png"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        works("rm -rf mine && mkdir mine");
        put_file(in_root("mine/%s", names[i]), "a photo");
        fails("ddpm sample run count=4 out=mine", DDPM_EINVAL, in_root("mine/%s: ", names[i]) + strlen(root) + 1);
        char *text = text_of(in_root("mine/%s", names[i]) + strlen(root) + 1);
        cr_expect_str_eq(text, "a photo");
        mem_free(text);
        works("test $(ls -A mine | wc -l) = 1"); /* and nothing is left there */
    }
    works("ddpm sample run count=4 out=mine overwrite=true && test ! -e mine/1000000.png");
    /* names of other kinds are in nobody's way */
    works("mkdir other && touch other/00001.png other/0000001.png other/000000.jpg other/notes.txt");
    works("ddpm sample run count=2 out=other && test -e other/00001.png -a -e other/0000001.png -a -e other/notes.txt");
    works("mkdir locked && echo 'of mine' > locked/LOCK");
    fails("ddpm sample run count=1 out=locked overwrite=true", DDPM_EINVAL,
          "locked/LOCK: was not written by this program");
    works("test \"$(cat locked/LOCK)\" = 'of mine'");
    works("mkdir -p folder/000001.png");
    fails("ddpm sample run count=1 out=folder overwrite=true", DDPM_EIO, "folder/000001.png: is not a file");
}

/* faults B1, F1: those of another seed counted as done once enough commands had passed. */
Test(sample, pictures_of_another_description_never_count)
{
    works("ddpm sample run count=12 seed=1 out=fresh");
    works("ddpm sample run count=12 seed=0 out=s");
    fails("ddpm sample run count=4 seed=1 out=s", DDPM_EINVAL, "s/sampling.json: seed 0, not 1; give another out=");
    works("ddpm sample run count=12 seed=0 out=s");
    expect_said("(0 new)");
    works("ddpm sample run count=4 seed=1 out=s overwrite=true && test ! -e s/000004.png");
    expect_said("(4 new)");
    works("ddpm sample run count=12 seed=1 out=s");
    expect_said("(8 new)");
    expect_same("fresh", "s", 12);
    works("ddpm sample run count=12 seed=1 out=s overwrite=true"); /* nothing is in the way */
    expect_said("(0 new)");
}

/* ... nor those of the run before it was trained further. */
Test(sample, more_training_is_another_description)
{
    works("ddpm sample run count=4");
    works("ddpm train out=run train.steps=30 resume=auto ckpt.every=10 " TINY);
    fails("ddpm sample run count=4", DDPM_EINVAL, "run/samples/sampling.json: weights \"");
    works("ddpm sample run count=4 overwrite=true");
    expect_said("(4 new)");
}

/* faults B3: what else decides the pixels. */
Test(sample, everything_that_decides_the_pixels_is_described)
{
    static const struct {
        const char *option, *said;
    } options[] = {
        {"num_inference_steps=10", "num_inference_steps 20, not 10"},
        {"num_inference_steps=20 timestep_spacing=trailing", "timestep_spacing \"leading\", not \"trailing\""},
        {"variance_type=fixed_large", "variance_type \"fixed_small\", not \"fixed_large\""},
        {"clip=false", "clip_sample true, not false"},
    };
    static const struct {
        const char *file, *key, *value;
    } edits[] = {
        {"scheduler/scheduler_config.json", "num_train_timesteps", "19"},
        {"scheduler/scheduler_config.json", "beta_end", "0.03"},
        {"scheduler/scheduler_config.json", "beta_start", "0.002"},
        {"scheduler/scheduler_config.json", "beta_schedule", "\"sigmoid\""},
        {"scheduler/scheduler_config.json", "prediction_type", "\"v_prediction\""},
        {"scheduler/scheduler_config.json", "clip_sample_range", "0.5"},
        {"unet/config.json", "norm_num_groups", "2"},
        {"unet/config.json", "norm_eps", "0.001"},
        {"unet/config.json", "freq_shift", "0"},
        {"unet/config.json", "flip_sin_to_cos", "true"},
        {"unet/config.json", "sample_size", "16"},
    };
    char line[1024];
    works("mkdir pl && cp -r run/ckpt/step_00000020/unet run/ckpt/step_00000020/scheduler pl");
    works("ddpm sample pl count=2 out=s");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        (void)snprintf(line, sizeof line, "ddpm sample pl count=2 out=s %s", options[i].option);
        fails(line, DDPM_EINVAL, options[i].said);
    }
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        works("rm -rf other && cp -r pl other");
        works("sed -i 's/\"%s\": [^,]*/\"%s\": %s/' other/%s && ! cmp -s pl/%s other/%s", edits[i].key, edits[i].key,
              edits[i].value, edits[i].file, edits[i].file, edits[i].file);
        fails("ddpm sample other count=2 out=s", DDPM_EINVAL, "s/sampling.json: ");
        if (strcmp(edits[i].key, "sample_size") != 0)
            fails("ddpm sample other count=2 out=s", DDPM_EINVAL, edits[i].key);
    }
    works("ddpm sample pl count=2 batch=1 out=s threads=2"); /* what does not */
    expect_said("(0 new)");
    works("tr -d ' \n' < s/sampling.json > t && mv t s/sampling.json && ddpm sample pl count=2 out=s"); /* nor blanks */
    expect_said("(0 new)");
    works("sed -i 's/}$/,\"eta\":0}/' s/sampling.json");
    fails("ddpm sample pl count=2 out=s", DDPM_EINVAL, "contains entries unknown to this version");
}

Test(sample, a_description_that_is_not_ours_or_older_is_refused)
{
    static const struct {
        const char *text, *said;
    } known[] = {
        {"", "was not written by ddpm sample"},
        {"{\"mine\": 1}", "was not written by ddpm sample"},
        {"{\"clip_sample\": true, \"seed\": 0, \"weights\": \"00\"}", "written by another version"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        works("rm -rf s && mkdir s");
        put_file(in_root("s/sampling.json"), known[i].text);
        fails("ddpm sample run count=2 out=s", DDPM_EINVAL, known[i].said);
        char *text = text_of("s/sampling.json");
        cr_expect_str_eq(text, known[i].text);
        mem_free(text);
        works("ddpm sample run count=2 out=s overwrite=true");
    }
}

/* overwrite=true of a file that was kept is not what somebody typed now. */
Test(sample, overwrite_counts_on_the_command_line_alone)
{
    works("ddpm sample run count=2 && echo 'overwrite: true' >> run/config.yaml");
    works("grep -v '^overwrite: false' run/config.yaml > c && cp c run/config.yaml");
    fails("ddpm sample run count=2 seed=1", DDPM_EINVAL, "seed 0, not 1");
}

/* faults A3: the old pictures were gone before the memory was found to be too small. */
Test(sample, what_cannot_be_done_is_found_before_anything_is_removed)
{
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("the sanitizer maps more memory than the limit");
#endif
    works("ddpm sample run count=6 seed=0 out=s && cp -r s before");
    fails("ulimit -d 400000; ddpm sample run threads=1 count=100000 batch=60000 seed=1 out=s overwrite=true",
          DDPM_ENOMEM, "");
    works("diff -r -x LOCK s before");
    works(
        "ulimit -d 400000; ddpm sample run threads=1 count=6 seed=1 out=s overwrite=true"); /* or it was another limit */
    if (geteuid() != 0) {
        works("chmod 555 before");
        fails("ddpm sample run count=6 seed=1 out=before overwrite=true", DDPM_EIO, "before");
        works("chmod 755 before"); /* to be removed */
    }
    char line[PATH_CAP + 100];
    const int n = snprintf(line, sizeof line, "ddpm sample run count=1 out=");
    memset(line + n, 'd', PATH_CAP - 20);
    line[n + PATH_CAP - 20] = '\0';
    cr_expect_eq(shell("%s", line), DDPM_EINVAL);
}

/* faults B2, F2. */
Test(sample, one_sampler_a_folder)
{
    folder_lock lock;
    works("ddpm sample run count=2 out=s");
    cr_assert_eq(folder_lock_take(&lock, in_root("s"), "sampling", &why), DDPM_OK, "%s", why.text);
    fails("ddpm sample run count=4 out=s", DDPM_ELOCKED, "s: another sampling is writing to this folder (process ");
    fails("ddpm sample run count=4 seed=5 out=s overwrite=true", DDPM_ELOCKED, "another sampling");
    folder_lock_release(&lock);
    works("ddpm sample run count=4 out=s");
    expect_said("(2 new)");
}

/* ---- which of them are done ---- */

/* faults B13: a file of 0 bytes, which a power loss leaves, counted as done or failed the overview for ever. */
Test(sample, damaged_pictures_are_drawn_again)
{
    static const int ids[] = {3, 258}; /* on the overview and beyond it */
    works("ddpm sample run count=260 num_inference_steps=2 out=whole && cp -r whole s");
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        char picture[32];
        (void)snprintf(picture, sizeof picture, "s/%06d.png", ids[i]);
        const char *damages[] = {": > %s",
                                 "truncate -s -1 %s",
                                 "truncate -s 100 %s",
                                 "echo >> %s",
                                 "printf '\\1\\2' | dd of=%s conv=notrunc bs=1 seek=60 2>/dev/null",
                                 "rm %s && ddpm noise whole/000000.png t=0 out=%s",
                                 "rm %s && ln -s ../away$$ %s"};
        for (size_t k = 0; k < sizeof damages / sizeof *damages; k++) {
            char line[256];
            (void)snprintf(line, sizeof line, damages[k], picture, picture);
            works("%s", line);
            works("ddpm sample run count=260 num_inference_steps=2 out=s");
            expect_said("(1 new)");
            works("cmp %s whole/%06d.png && cmp s/grid.png whole/grid.png", picture, ids[i]);
        }
    }
    works("touch -d '2 hours ago' s/.ddpm-999999999-1.tmp && ddpm sample run count=260 num_inference_steps=2 out=s");
    works("test ! -e s/.ddpm-999999999-1.tmp"); /* what a kill left */
}

/* ---- where they go ---- */

/* faults A4: they went into the checkpoint, and with it. */
Test(sample, a_checkpoints_pictures_go_to_its_run)
{
    works("ddpm sample run/ckpt/step_00000010 count=3 && test -e run/samples/000002.png");
    works("rm -r run/samples && ddpm sample run/ckpt/step_00000020/ count=3 && test -e run/samples/000002.png");
    works("rm -r run/samples && ddpm sample run/ckpt count=3 && test -e run/samples/000002.png");
    works(
        "rm -r run/samples && cd run/ckpt/step_00000020 && ddpm sample . count=3 && test -e ../../samples/000002.png");
    works("ln -s run/ckpt/step_00000020 newest && rm -r run/samples && ddpm sample newest count=3 && test -e "
          "run/samples");
    works("mkdir run/ckpt/superseded_001 && cp -r run/ckpt/step_00000020 run/ckpt/superseded_001 && rm -r run/samples");
    works("ddpm sample run/ckpt/superseded_001/step_00000020 count=1 && test -e run/samples/000000.png");
    works("cp -r run/ckpt/superseded_001 run/ckpt/aside_001 && rm -r run/samples"); /* the name in earlier versions */
    works("ddpm sample run/ckpt/aside_001/step_00000020 count=1 && test -e run/samples/000000.png");
    static const char *const within[] = {"run/ckpt/step_00000020",
                                         "run/ckpt/aside_001/step_00000020/a",
                                         "run/ckpt/superseded_001/step_00000020/a",
                                         "run/ckpt/step_00000020/a/b",
                                         "newest/x",
                                         "run/ckpt/step_00000700/x",
                                         "run/ckpt/../ckpt/step_00000010/x"};
    for (size_t i = 0; i < sizeof within / sizeof *within; i++) {
        char line[256];
        (void)snprintf(line, sizeof line, "ddpm sample run count=1 out=%s", within[i]);
        fails(line, DDPM_EINVAL, "is inside a checkpoint");
    }
    fails("ddpm noise run/noising.png out=run/ckpt/step_00000020/x.png", DDPM_EINVAL, "is inside a checkpoint");
    fails("ddpm bench weights run save=run/ckpt/step_00000020/x", DDPM_EINVAL, "is inside a checkpoint");
    fails("ddpm noise run/noising.png out=", DDPM_EINVAL, "out: empty");
    works("ddpm sample run count=1 out=ckpt_of_mine/step_5 && ddpm sample run count=1 out=step_00000020");
    works("rm -r run/ckpt/aside_001 run/ckpt/superseded_001 && test $(ls -A run/ckpt | wc -l) = 2 && ! ls "
          "run/ckpt/*/samples run/ckpt/*/LOCK");
    works(
        "mkdir alone && cp -r run/ckpt/step_00000020 alone/pl && ddpm sample alone/pl count=1 && ls alone/pl/samples");
    works("cp -r run ckpt && rm -r ckpt/samples && ddpm sample ckpt count=1 && ls ckpt/samples"); /* a run called so */
}

/* A checkpoint that was named itself, and had been damaged, was used without a word. */
Test(sample, what_was_changed_in_a_checkpoint_is_said)
{
    works("cp -r run/ckpt/step_00000020 changed && ddpm sample changed count=1 out=a > said && ! grep WARNING said");
    works("printf x | dd of=changed/unet/diffusion_pytorch_model.safetensors bs=1 seek=20000 conv=notrunc");
    works("ddpm sample changed count=1 out=b > said; grep 'WARNING.*have changed since it was saved' said");
}

/* ---- the overview ---- */

/* faults F11: it was over the limit of an image after all pictures had been drawn. */
Test(sample, the_overview_has_as_many_as_fit)
{
    image grid;
    works("ddpm train out=large train.steps=1 " TINY " data.resolution=64");
    works("ddpm sample large count=256 num_inference_steps=1 grid=256 out=s");
    expect_said("256 pictures (256 new) and grid.png");
    cr_assert_eq(image_load(in_root("s/grid.png"), &grid, &why), DDPM_OK, "%s", why.text);
    cr_expect(grid.w == 248 * 66 + 2 && grid.h == 2 * 66 + 2, "%dx%d", grid.w, grid.h);
    image_free(&grid);
}

/* They were mixed with those of the other setting: diffusers' class of the sampler has no such key. */
Test(sample, settings_beyond_the_samplers_class_are_described)
{
    static const struct {
        const char *sampler, *option, *said;
    } cases[] = {{"euler", "clip=false", "clip_sample true, not false"},
                 {"euler", "sigmas=lu", "sigmas \"none\", not \"lu\""},
                 {"heun", "thresholding=true sample_max_value=2", "thresholding false, not true"},
                 {"euler_a", "sigmas=karras", "sigmas \"none\", not \"karras\""},
                 {"dpm_3s", "timestep_spacing=logsnr", "timestep_spacing \"linspace\", not \"logsnr\""}};
    char line[1024];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        works("rm -rf s && ddpm sample run count=2 num_inference_steps=4 out=s sampler=%s", cases[i].sampler);
        (void)snprintf(line, sizeof line, "ddpm sample run count=2 num_inference_steps=4 out=s sampler=%s %s",
                       cases[i].sampler, cases[i].option);
        fails(line, DDPM_EINVAL, cases[i].said);
    }
    works("cp -r run/ckpt/step_00000020 pl && sed -i 's/\"epsilon\"/\"v_prediction\"/' pl/scheduler/*.json");
    works("rm -rf s && ddpm sample pl count=2 num_inference_steps=4 out=s sampler=heun");
    works("sed -i 's/\"rescale_betas_zero_snr\": false/\"rescale_betas_zero_snr\": true/' pl/scheduler/*.json");
    fails("ddpm sample pl count=2 num_inference_steps=4 out=s sampler=heun", DDPM_EINVAL,
          "rescale_betas_zero_snr false, not true");
}

/* They were removed before they were read. */
Test(sample, overwrite_spares_what_sampling_begins_with)
{
    works("ddpm sample run count=2 out=mine && rm mine/sampling.json && cp -r mine kept");
    fails("ddpm sample run count=2 out=mine from=mine overwrite=true", DDPM_EINVAL, "from=mine: is the folder");
    fails("ddpm sample run count=2 out=mine/ from=./mine/000000.png overwrite=true", DDPM_EINVAL,
          "./mine/000000.png: is in the folder whose pictures overwrite=true removes");
    fails("cd mine && ddpm sample ../run count=2 out=. between=000000.png,000001.png overwrite=true sampler=ddim",
          DDPM_EINVAL, "000000.png: is in the folder");
    works("diff -r kept mine");
    works("ddpm sample run count=2 out=other from=mine overwrite=true && cmp kept/000000.png mine/000000.png");
}

/* The program was killed by a signal while it drew the strip of pictures that were there. */
Test(sample, a_film_strip_of_pictures_that_are_there)
{
    works("ddpm sample run count=12 batch=4 out=at_once trajectory=3");
    works("ddpm sample run count=12 batch=4 out=later");
    works("ddpm sample run count=12 batch=4 out=later trajectory=3");
    expect_said("12 pictures (0 new)");
    works("cmp at_once/trajectory.png later/trajectory.png");
    works("rm later/trajectory.png later/000011.png && ddpm sample run count=12 batch=4 out=later trajectory=3");
    expect_said("12 pictures (1 new)");
    works("cmp at_once/trajectory.png later/trajectory.png");
}

/* ---- which weights ---- */

/* faults F18: the average may not have left its start. */
Test(sample, the_raw_weights_can_be_had)
{
    works("ddpm sample run count=2 out=ema && ddpm sample run count=2 weights=raw out=raw");
    works("! cmp -s ema/000000.png raw/000000.png");
    works("cp -r run/ckpt/step_00000020 pl && cp pl/training/weights.safetensors "
          "pl/unet/diffusion_pytorch_model.safetensors");
    works("ddpm sample pl count=2 out=as_ema cpu.conv=direct");
    expect_same("raw", "as_ema", 2);
    fails("ddpm sample run count=2 weights=raw out=ema", DDPM_EINVAL, "ema/sampling.json: weights");
    works("ddpm train out=plain train.steps=5 " TINY " ema.decay=0");
    works("ddpm sample plain count=2 out=a && ddpm sample plain count=2 weights=raw out=b");
    expect_same("a", "b", 2);
    works("ddpm train out=more train.steps=5 " TINY " ema.more=0.3,0.1");
    works("ddpm sample more count=2 weights=ema_2 out=c && ddpm sample more count=2 weights=decay=0.1 out=d");
    expect_same("c", "d", 2);
    works("cp more/ckpt/step_00000005/training/ema_2.safetensors "
          "more/ckpt/step_00000005/unet/diffusion_pytorch_model.safetensors");
    works("ddpm sample more/ckpt/step_00000005 count=2 out=e cpu.conv=direct");
    expect_same("c", "e", 2);
    fails("ddpm sample run count=1 weights=ema_1 out=x", DDPM_EINVAL, "there are ema (decay=0.9) and raw");
    fails("ddpm sample run count=1 weights=average out=x", DDPM_EINVAL, "must be ema, raw, ema_1 to ema_3");
    works("rm -r pl/training");
    fails("ddpm sample pl weights=raw count=1 out=x", DDPM_EINVAL,
          "pl: not a checkpoint of a training run: use weights=ema");
    works("test ! -e x");
}
