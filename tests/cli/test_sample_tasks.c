/* ddpm sample with samplers, labels, guidance, images to start from, masks and film strips, as a user meets it. */
#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"
#include "support/golden.h"
#include "support/program_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 8, C = 3, D = SIDE * SIDE * C };

static char root[PATH_CAP];
static err why;

static void expect_said(const char *words, bool is_there)
{
    char *text = get_text(in_dir(root, "stdout"));
    cr_expect_eq(strstr(text, words) != NULL, is_there, "'%s' in: %s", words, text);
    mem_free(text);
}

static void put_image(const char *name, int h, int w, int c, uint8_t (*value)(int i))
{
    image img;
    cr_assert_eq(image_create(&img, h, w, c, name, &why), DDPM_OK, "%s", why.text);
    for (int i = 0; i < h * w * c; i++) img.pixel[i] = value(i);
    cr_assert_eq(image_write_png(in_dir(root, name), &img, &why), DDPM_OK, "%s", why.text);
    image_free(&img);
}

static uint8_t ascending(int i) { return (uint8_t)i; }
static uint8_t descending(int i) { return (uint8_t)(255 - i); }
static uint8_t white(int i) { return (uint8_t)(255 + 0 * i); }
static uint8_t left(int i) { return i % SIDE < 4 ? 255 : 0; }
static uint8_t top(int i) { return i < SIDE * SIDE / 2 ? 255 : 0; }

/* Images with which the network in `trained` was trained. */
static const uint8_t *trained;
static uint8_t third(int i) { return trained[3 * 144 + i]; }
static uint8_t eighth(int i) { return trained[8 * 144 + i]; }

/* `draw` samples from the network with 5 classes in `net`, of 8x8 pixels and 3 channels, and `grey` from that without
 * classes, of 4x4 pixels and one channel. */
static void make_root(void)
{
    shell_begin(root, "draw() { ddpm sample net threads=1 cpu.conv=direct \"$@\"; }; "
                      "grey() { ddpm sample grey threads=1 cpu.conv=direct \"$@\"; }; ");
    works("cp -r '%s/sample/loops/classes' net && cp -r '%s/golden/pipeline/current' grey", DDPM_TESTS, DDPM_TESTS);
    put_image("a.png", SIDE, SIDE, C, ascending);
    put_image("b.png", SIDE, SIDE, C, descending);
    put_image("wide.png", SIDE, SIDE + 1, C, ascending);
    put_image("white.png", SIDE, SIDE, 1, white);
    put_image("left.png", SIDE, SIDE, 1, left);
    put_image("top.png", SIDE, SIDE, 1, top);
    put_file(in_dir(root, "text.png"), "no image");
    works("mkdir both empty && cp a.png both/0.png && cp b.png both/1.png && head -c 100 a.png > cut.png");
}

TestSuite(sample_tasks, .init = make_root, .fini = shell_end, .timeout = 300);

static image picture(const char *name)
{
    image img;
    cr_assert_eq(image_load(in_dir(root, name), &img, &why), DDPM_OK, "%s", why.text);
    return img;
}

/* The mean distance of the pixels of two images. */
static double distance(const char *a, const char *b)
{
    image x = picture(a), y = picture(b);
    double sum = 0;
    cr_assert(x.h == y.h && x.w == y.w && x.c == y.c);
    for (int i = 0; i < x.h * x.w * x.c; i++) sum += abs(x.pixel[i] - y.pixel[i]);
    sum /= x.h * x.w * x.c;
    image_free(&x);
    image_free(&y);
    return sum;
}

/* ---- film ---- */

Test(sample_tasks, the_strip_is_the_same_with_the_pictures_and_afterwards)
{
    works("draw num_inference_steps=5 count=3 trajectory=4 out=s");
    expect_said("3 pictures (3 new) and grid.png", true);
    image strip = picture("s/trajectory.png");
    cr_expect(strip.w == 4 * (SIDE + 2) + 2 && strip.h == 6 * (SIDE + 2) + 2, "%d x %d", strip.w, strip.h);
    image_free(&strip);
    works("draw num_inference_steps=5 count=3 out=t && test ! -e t/trajectory.png");
    works("draw num_inference_steps=5 count=3 trajectory=4 out=t");
    expect_said("(0 new)", true);
    works("cmp s/trajectory.png t/trajectory.png && cmp s/000002.png t/000002.png && cmp s/grid.png t/grid.png");
    works("draw num_inference_steps=5 count=3 trajectory=4 batch=3 out=t && test $(ls -A t | wc -l) = $(ls -A s | wc "
          "-l)");
    works("draw num_inference_steps=5 count=7 batch=3 trajectory=4 out=u && cmp s/trajectory.png u/trajectory.png");
    works(
        "rm u/trajectory.png u/000000.png u/000004.png u/000006.png"); /* the batch begins with picture 0, but then... */
    works("draw num_inference_steps=5 count=7 batch=3 trajectory=4 out=u && cmp s/trajectory.png u/trajectory.png");
    works("draw num_inference_steps=5 count=3 trajectory=64 out=t && ! cmp -s s/trajectory.png t/trajectory.png");
    works("draw num_inference_steps=5 ids=7,9 trajectory=2 format=npz out=n && test -s n/trajectory.png");
    works("draw out=t verify=true");
}

/* The batch was at most `count`, whose default is 16, also where ids= or a folder of images says how many there are. */
Test(sample_tasks, the_batch_is_that_of_the_option)
{
#ifdef __SANITIZE_ADDRESS__
    cr_skip_test("the sanitizer maps more memory than the limit");
#endif
    fails("ulimit -d 400000; draw num_inference_steps=1 ids=0-99999 batch=60000 out=s", 71, "sample.batch=60000: ");
    works("ulimit -d 400000; draw num_inference_steps=1 ids=0-9 batch=60000 out=s");
}

/* ---- from images, masks, between ---- */

Test(sample_tasks, pictures_start_from_an_image_or_a_folder)
{
    works("draw sampler=ddim num_inference_steps=20 from=a.png strength=0.1 count=2 out=near");
    works("draw sampler=ddim num_inference_steps=20 from=a.png strength=0.9 count=2 out=far");
    cr_expect(distance("near/000000.png", "a.png") > 0);
    cr_expect(distance("near/000000.png", "a.png") < 0.7 * distance("far/000000.png", "a.png"), "%g and %g",
              distance("near/000000.png", "a.png"), distance("far/000000.png", "a.png"));
    works("! cmp -s near/000000.png near/000001.png"); /* each has noise of its own */
    works("draw sampler=ddim num_inference_steps=20 from=both strength=0.1 out=all");
    expect_said("2 pictures (2 new)", true); /* as many as images, unless a count is given */
    works("cmp all/000000.png near/000000.png");
    cr_expect(distance("all/000001.png", "b.png") < distance("all/000001.png", "a.png"));
    works("draw sampler=ddim num_inference_steps=2 from=both count=16 out=more");
    expect_said("16 pictures (16 new)", true);
}

Test(sample_tasks, what_the_mask_keeps_is_the_image)
{
    static const char *const samplers[] = {"ddpm jump_n_sample=2 jump_length=2", "ddim jump_n_sample=1",
                                           "unipc jump_n_sample=1", "dpmpp_2m jump_n_sample=1"};
    image a = picture("a.png");
    for (size_t k = 0; k < sizeof samplers / sizeof *samplers; k++) {
        works("draw sampler=%s num_inference_steps=6 from=a.png mask=left.png count=2 out=s overwrite=true",
              samplers[k]);
        image got = picture("s/000001.png");
        int changed = 0;
        for (int i = 0; i < D; i++)
            if (left(i / C))
                changed += got.pixel[i] != a.pixel[i];
            else
                cr_assert_eq(got.pixel[i], a.pixel[i], "%s at %d", samplers[k], i);
        cr_expect_gt(changed, D / 4);
        image_free(&got);
    }
    image_free(&a);
}

Test(sample_tasks, the_way_between_two_images_begins_and_ends_with_them)
{
    safetensors *io = golden_open("trajectory/images.safetensors");
    trained = golden_u8(io, "images", NULL);
    put_image("p.png", 12, 12, 1, third);
    put_image("q.png", 12, 12, 1, eighth);
    mem_free((void *)(uintptr_t)trained);
    safetensors_close(io);
    works("cp -r '%s/golden/trajectory/epsilon_ema' trained", DDPM_TESTS);
    works("ddpm sample trained threads=1 between=p.png,q.png num_inference_steps=100 count=3 out=s");
    const double first = distance("s/000000.png", "p.png"), last = distance("s/000002.png", "q.png");
    cr_expect(first < 16 && last < 16, "%g and %g of 255", first, last); /* bounds of test_inversion.c */
    cr_expect(distance("s/000001.png", "p.png") > 2 * first && distance("s/000001.png", "q.png") > 2 * last);
    works("ddpm sample trained threads=1 'between=[p.png, q.png]' num_inference_steps=100 count=3 batch=1 out=s");
    expect_said("(0 new)", true);
}

/* ---- labels and guidance ---- */

Test(sample_tasks, labels_and_guidance_decide_the_pictures)
{
    works("draw num_inference_steps=5 sampler=ddim count=6 labels=1,3-4 out=s");
    works("draw num_inference_steps=5 sampler=ddim ids=0-5 labels=[1,3-4] batch=1 out=t && cmp s/000004.png "
          "t/000004.png");
    works("draw num_inference_steps=5 sampler=ddim count=6 labels=1,3 out=u");
    works("cmp s/000000.png u/000000.png && cmp s/000001.png u/000001.png && ! cmp -s s/000002.png u/000002.png");
    works("draw num_inference_steps=5 sampler=ddim count=6 labels=1,3-4 guidance=1 out=s");
    expect_said("(0 new)", true);
    works("draw num_inference_steps=5 sampler=ddim count=6 labels=1,3 guidance=3 out=g && ! cmp -s g/000000.png "
          "s/000000.png");
    works("draw num_inference_steps=2 ids=5-10 labels=1,3 format=npz out=n && draw out=n verify=true");
    static const int64_t labels[6] = {3, 1, 3, 1, 3, 1}; /* of ids 5 to 10, as the file has them */
    char *npz;
    size_t size;
    cr_assert_eq(file_read(in_dir(root, "n/samples_6x8x8x3.npz"), 1 << 20, &npz, &size, &why), DDPM_OK, "%s", why.text);
    cr_expect_not_null(memmem(npz, size, labels, sizeof labels));
    mem_free(npz);
    works(
        "draw num_inference_steps=2 count=9 guidance=2 format=npz out=m && draw out=m verify=true"); /* of 4 classes */
    works("draw num_inference_steps=2 count=9 guidance=2 null_class=0 format=npz out=o && draw out=o verify=true");
    works("draw num_inference_steps=2 count=9 labels=4 format=tar out=p && draw out=p verify=true");
    works("cp -r n q && printf 9 | dd of=$(ls q/*.npz) conv=notrunc bs=1 seek=$(($(stat -c %%s q/*.npz) - 300))");
    fails("draw out=q verify=true", 65, "damaged"); /* behind the pictures */
    works("draw num_inference_steps=5 count=12 out=b && draw num_inference_steps=5 count=12 labels=0-4 out=l"
          " && cmp b/000011.png l/000011.png"); /* balanced */
}

/* ---- whose pictures are there ---- */

#define EDIT "draw sampler=ddim num_inference_steps=8 count=2 out=s from=%s mask=%s %s"

static void other_description(const char *from, const char *mask, const char *more, const char *said)
{
    char line[1024];
    (void)snprintf(line, sizeof line, EDIT, from, mask, more);
    fails(line, DDPM_EINVAL, said);
    char *text = get_text(in_dir(root, "stderr"));
    cr_expect_not_null(strstr(text, "s/sampling.json: "), "%s", text);
    mem_free(text);
}

Test(sample_tasks, another_sampler_image_or_mask_is_another_description)
{
#define SAME "strength=0.5 jump_n_sample=2 jump_length=2 guidance=2 labels=1"
    works(EDIT, "a.png", "left.png", SAME);
    works("mkdir else && cp a.png else/x.png && cp left.png else/y.png");
    works(EDIT, "else/x.png", "else/y.png", SAME " batch=1 grid=1"); /* the same contents by other names */
    expect_said("(0 new)", true);
    works("cp -r s before");
    works("cp a.png kept.png && cp b.png a.png");
    other_description("a.png", "left.png", SAME, "from \""); /* the same name of another content */
    works("cp kept.png a.png");
    other_description("b.png", "left.png", SAME, "from \"");
    other_description("both", "left.png", SAME, "from \"");
    other_description("a.png", "top.png", SAME, "mask \"");
    other_description("a.png", "left.png", SAME " sampler=euler", "sampler \"ddim\", not \"euler\"");
    other_description("a.png", "left.png", SAME " eta=0.5", "eta 0.0, not 0.5");
    other_description("a.png", "left.png", SAME " strength=0.75", "skipped_steps 4, not 2");
    other_description("a.png", "left.png", SAME " jump_n_sample=3", "jump_n_sample 2, not 3");
    other_description("a.png", "left.png", SAME " jump_length=3", "jump_length 2, not 3");
    other_description("a.png", "left.png", SAME " guidance=3", "guidance 2.0, not 3.0");
    other_description("a.png", "left.png", SAME " guidance_rescale=0.5", "guidance_rescale 0.0, not 0.5");
    other_description("a.png", "left.png", SAME " guidance_interval=[1,5]", "guidance_low 0.0, not 1.0");
    other_description("a.png", "left.png", SAME " null_class=0", "null_class 4, not 0");
    other_description("a.png", "left.png", SAME " labels=2", "labels \"1\", not \"2\"");
    other_description("a.png", "left.png", SAME " thresholding=true", "thresholding false, not true");
    other_description("a.png", "left.png", SAME " timestep_spacing=trailing", "not \"trailing\"");
    fails("draw sampler=ddim num_inference_steps=8 count=2 out=s from=a.png " SAME, DDPM_EINVAL, "s/sampling.json: ");
    fails("draw sampler=ddim num_inference_steps=8 count=2 out=s labels=1 guidance=2", DDPM_EINVAL,
          "s/sampling.json: ");
    fails("draw between=a.png,b.png num_inference_steps=8 count=2 out=s", DDPM_EINVAL, "s/sampling.json: ");
    works("diff -r -x LOCK s before");
#undef SAME
}

Test(sample_tasks, samplers_of_one_class_are_told_apart)
{
    static const struct {
        const char *drawn, *other, *said;
    } pairs[] = {
        {"unipc", "unipc order=2", "solver_order 3, not 2"},
        {"dpmpp_2m", "dpmpp_3m", "sampler \"dpmpp_2m\", not \"dpmpp_3m\""},
        {"dpmpp_2m", "dpmpp_2m sigmas=karras", "sigmas"},
        {"dpmpp_2m", "dpmpp_2m final=sigma_min", "final_sigmas_type"},
        {"euler", "euler churn=5", ""},
        {"tcd", "tcd eta=0.5", "eta 0.3"},
        {"ddpm", "ddpm variance_type=fixed_large", "variance_type"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char line[200];
        works("draw sampler=%s num_inference_steps=6 count=1 out=s%zu", pairs[i].drawn, i);
        (void)snprintf(line, sizeof line, "draw sampler=%s num_inference_steps=6 count=1 out=s%zu", pairs[i].other, i);
        fails(line, DDPM_EINVAL, pairs[i].said);
    }
}

/* ---- notes ---- */

Test(sample_tasks, options_without_effect_are_noted)
{
    works("draw sampler=ddim num_inference_steps=4 count=1 churn=3 sigmas=karras strength=0.5 out=s");
    expect_said("note: options that have no effect with sampler=ddim on this model: sample.sigmas, sample.churn, "
                "sample.strength\n",
                true);
    works("grey sampler=unipc num_inference_steps=4 count=1 eta=0.5 order=2 guidance_rescale=0.5 out=g");
    expect_said("on this model: sample.eta, sample.guidance_rescale\n", true);
    works("draw sampler=euler num_inference_steps=4 count=1 churn=3 out=t");
    expect_said("note:", false);
    works("draw variance_type=fixed_large num_inference_steps=4 count=1 out=u");
    expect_said("note: ddpm with variance_type fixed_large leaves noise in the images with so few steps", true);
}

/* ---- what is refused ---- */

Test(sample_tasks, bad_input_is_one_line_and_nothing_is_written)
{
    static const struct {
        const char *options;
        int code;
        const char *said;
    } bad[] = {
        {"sampler=nosuch", 2, "nosuch"},
        {"sampler=edm", 2, "edm samples EDM, but the model's DDPMScheduler says"},
        {"sampler=pndm num_inference_steps=3", 2, "pndm"},
        {"sampler=unipc order=9", 2, "order: 9 is out of range"},
        {"num_inference_steps=2000", 2, "num_inference_steps 2000 is not in [1, 1000]"},
        {"thresholding=true sample_max_value=0.5", 2, "sample_max_value 0.5 is below 1"},
        {"from=nowhere.png", 66, "from=nowhere.png: no such file or folder"},
        {"from=empty", 66, "from=empty: no PNG or JPEG image in this folder"},
        {"from=text.png", 65, "text.png"},
        {"from=cut.png", 65, "cut.png"},
        {"from=wide.png", 65, "wide.png: the image has 9 x 8 pixels, but the model makes pictures of 8 x 8"},
        {"from=a.png strength=0.1", 2, "strength: so small that none of the 4 steps is left"},
        {"from=a.png strength=0", 2, "strength: 0 is out of range"},
        {"from=a.png strength=1.5", 2, "strength: 1.5 is out of range"},
        {"mask=left.png", 2, "mask=left.png: needs from=IMAGE"},
        {"from=a.png mask=nowhere.png", 66, "nowhere.png"},
        {"from=a.png mask=wide.png", 65, "wide.png: the image has 9 x 8 pixels"},
        {"from=a.png mask=white.png", 2, "mask=white.png: hides everything"},
        {"from=a.png mask=text.png", 65, "text.png"},
        {"from=a.png mask=left.png sampler=unipc", 2, "resampling needs a sampler without memory"},
        {"from=a.png mask=left.png jump_length=0", 2, "jump_length: 0 is out of range"},
        {"between=a.png", 66, "between=a.png: must name two images that exist, as between=A.png,B.png"},
        {"between=a.png,nowhere.png", 66, "must name two images that exist"},
        {"between=a.png,wide.png", 65, "wide.png: the image has 9 x 8 pixels"},
        {"between=a.png,both", 65, "both"},
        {"between=a.png,b.png sampler=euler", 2, "between: needs sampler=ddim with eta=0, which can be inverted"},
        {"between=a.png,b.png eta=0.5", 2, "between: needs sampler=ddim with eta=0"},
        {"between=a.png,b.png from=a.png", 2, "between: cannot be combined with from or mask"},
        {"between=a.png,b.png ids=0", 2, "between: needs a count of 2 or more"},
        {"between=a.png,b.png ids=3-5", 2, "between: its pictures are 0 to count - 1; give count=, not ids="},
        {"labels=5", 2, "labels=5: label 5 is not in [0, 5), the classes of the network"},
        {"labels=a", 2, "labels=a: must be balanced, or labels and ranges such as 3,7,10-19"},
        {"labels=5 guidance=2", 2, "label 5 is not in [0, 5)"},
        {"guidance=2 null_class=7", 2, "null_class 7 is not below num_class_embeds = 5"},
        {"guidance=0", 2, "guidance: 0 is out of range"},
        {"guidance=2 guidance_interval=[5,1]", 2, "guidance_interval"},
        {"guidance=2 guidance_interval=[5]", 2, "guidance_interval"},
        {"guidance=2 guidance_interval=[1,2,3]", 2, "guidance_interval"},
        {"trajectory=65", 2, "trajectory: 65 is out of range"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[300];
        (void)snprintf(line, sizeof line, "draw num_inference_steps=4 out=x %s", bad[i].options);
        fails(line, bad[i].code, bad[i].said);
        cr_expect_not(path_exists(in_dir(root, "x")), "%s: a folder was made", bad[i].options);
        if (path_exists(in_dir(root, "x"))) works("rm -r x");
    }
    fails("grey num_inference_steps=4 out=x guidance=2", 2, "guidance 2 needs a network with classes");
    fails("grey num_inference_steps=4 out=x labels=0", 2, "labels=0: the network has no classes");
    works("cp -r '%s/golden/unet_classes_timestep' times && cp -r '%s/golden/unet_classes_identity' vectors",
          DDPM_TESTS, DDPM_TESTS);
    fails("ddpm sample times num_inference_steps=4 sampler=ddim out=x labels=3 guidance=2", 2, "set null_class");
    fails("ddpm sample vectors num_inference_steps=4 sampler=ddim out=x", 2, "class_embed_type is identity");
    fails("grey num_inference_steps=4 out=x from=a.png", 65, "the model makes pictures of 4 x 4");
    cr_expect_not(path_exists(in_dir(root, "x")));
}

/* A later image of a folder that cannot be used ends the run; the pictures before it are there. */
Test(sample_tasks, a_damaged_image_of_a_folder_is_named)
{
    works("cp cut.png both/3.png && cp a.png both/2.png");
    fails("draw num_inference_steps=2 from=both batch=1 out=s", 65, "both/3.png");
    works("test -s s/000000.png && test ! -e s/000003.png");
    works("cp b.png both/3.png");
    fails("draw num_inference_steps=2 from=both batch=1 out=s", 2, "from \"");
    works("draw num_inference_steps=2 from=both batch=1 out=s overwrite=true && test -s s/000003.png");
}
