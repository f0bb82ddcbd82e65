/* What pictures are made from: images, masks and labels, and what is refused. */
#include "sample/picture_source.h"
#include "base/mem.h"
#include "data/image.h"
#include "support/device.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 8, C = 3, D = SIDE * SIDE * C, BATCH = 4 };
#define CLASSES DDPM_TESTS "/sample/loops/classes" /* a network of 8x8 pixels, 3 channels and 5 classes */

static err why;
static char root[PATH_CAP];
static backend *be;
static model *m;
static picture_source s;

static void open_model(void)
{
    scratch_make(root);
    be = test_backend(1);
    OK(model_load(be, CLASSES, &m, NULL, &why));
}

static void close_model(void)
{
    picture_source_close(&s);
    model_destroy(m);
    backend_destroy(be);
    scratch_remove(root);
}

TestSuite(picture_source, .init = open_model, .fini = close_model);

/* An image of h x w pixels with the bytes value(i). */
static const char *put_image(const char *name, int h, int w, int c, uint8_t (*value)(int i))
{
    const char *path = in_dir(root, name);
    image img;
    OK(image_create(&img, h, w, c, name, &why));
    for (int i = 0; i < h * w * c; i++) img.pixel[i] = value(i);
    OK(image_write_png(path, &img, &why));
    image_free(&img);
    return path;
}

static uint8_t ascending(int i) { return (uint8_t)i; }
static uint8_t descending(int i) { return (uint8_t)(255 - i); }
static uint8_t black(int i) { return (uint8_t)(i - i); }
static uint8_t white(int i) { return (uint8_t)(255 - black(i)); }
static uint8_t halves(int i) { return i < SIDE * SIDE / 2 ? 127 : 128; }

static picture_source_spec spec_with(const char *from, const char *mask, const char *between)
{
    return (picture_source_spec){.labels = "", .from = from, .mask = mask, .between = between, .count = 5};
}

static generator_spec to_spec(void)
{
    return (generator_spec){.batch = BATCH,
                            .h = SIDE,
                            .w = SIDE,
                            .scheduler = m->scheduler,
                            .sampler = sampler_spec_default(SAMPLER_DDIM, 10)};
}

static void open_ok(picture_source_spec spec)
{
    const generator_spec to = to_spec();
    picture_source_close(&s);
    OK(picture_source_open(&s, &spec, m, &to, &why));
}

static void refused_by(picture_source_spec spec, const generator_spec *to, ddpm_status st, const char *said)
{
    why.text[0] = '\0';
    const ddpm_status got = picture_source_open(&s, &spec, m, to, &why);
    cr_expect_eq(got, st, "%s instead of '%s': %s", err_name(got), said, why.text);
    cr_expect(strstr(why.text, said) && !strchr(why.text, '\n'), "'%s' instead of '%s'", why.text, said);
    picture_source_close(&s);
}

static void refused(picture_source_spec spec, ddpm_status st, const char *said)
{
    const generator_spec to = to_spec();
    refused_by(spec, &to, st, said);
}

static generator_batch batch_of(const int64_t *ids, int n)
{
    generator_batch b;
    OK(picture_source_batch(&s, ids, n, &b, &why));
    cr_assert_eq(b.n, n);
    cr_assert_eq(b.ids, ids);
    return b;
}

/* ---- images ---- */

Test(picture_source, every_byte_survives_the_way_to_floats_and_back)
{
    uint8_t bytes[D];
    const char *paths[2] = {put_image("a.png", SIDE, SIDE, C, ascending),
                            put_image("b.png", SIDE, SIDE, C, descending)};
    bool seen[256] = {false};
    for (int k = 0; k < 2; k++) {
        open_ok(spec_with(paths[k], "", ""));
        const generator_batch b = batch_of((const int64_t[]){0}, 1);
        generator_to_bytes(b.images, D, bytes);
        for (int i = 0; i < D; i++) {
            const uint8_t byte = k ? descending(i) : ascending(i);
            cr_assert_eq(bytes[i], byte, "%d became %d", byte, bytes[i]);
            cr_assert_eq(b.images[i], (float)byte / 127.5f - 1.0f);
            cr_assert(b.images[i] >= -1 && b.images[i] <= 1);
            seen[byte] = true;
        }
    }
    for (int i = 0; i < 256; i++) cr_assert(seen[i], "no pixel of %d", i);
}

Test(picture_source, a_grey_image_serves_a_colour_model)
{
    open_ok(spec_with(put_image("grey.png", SIDE, SIDE, 1, ascending), "", ""));
    const generator_batch b = batch_of((const int64_t[]){0}, 1);
    for (int i = 0; i < D; i++) cr_assert_eq(b.images[i], (float)(i / C) / 127.5f - 1.0f, "at %d", i);
}

Test(picture_source, images_of_a_folder_belong_to_ids_in_turn)
{
    static const int64_t ids[BATCH] = {0, 1, 5, 4294967294};
    OK(dir_make(in_dir(root, "images"), &why));
    put_image("images/0.png", SIDE, SIDE, C, ascending);
    put_image("images/1.png", SIDE, SIDE, C, descending);
    put_image("images/2.png", SIDE, SIDE, C, white);
    put_file(in_dir(root, "images/notes.txt"), "no image");
    open_ok(spec_with(in_dir(root, "images"), "", ""));
    const generator_batch b = batch_of(ids, BATCH);
    for (int k = 0; k < BATCH; k++) {
        const int which = (int)(ids[k] % 3);
        const uint8_t byte = which == 0 ? ascending(7) : which == 1 ? descending(7) : 255;
        cr_expect_eq(b.images[k * D + 7], (float)byte / 127.5f - 1.0f, "id %lld", (long long)ids[k]);
    }
    int n;
    OK(picture_source_count(in_dir(root, "images"), &n, &why));
    cr_expect_eq(n, 3);
    OK(picture_source_count(in_dir(root, "images/2.png"), &n, &why));
    cr_expect_eq(n, 1);
}

Test(picture_source, without_images_there_are_labels_alone)
{
    picture_source_spec spec = spec_with("", "", "");
    spec.labels = "4,0-1";
    open_ok(spec);
    const generator_batch b = batch_of((const int64_t[]){0, 2, 3, 7}, BATCH);
    cr_expect_null(b.images);
    cr_expect_arr_eq(b.labels, ((const int[]){4, 1, 4, 0}), BATCH * sizeof(int));
}

/* With guidance the last class stands for none, unless another does.  It has no pictures unless it is named. */
Test(picture_source, balanced_labels_leave_out_the_null_class)
{
    generator_spec to = to_spec();
    picture_source_spec spec = spec_with("", "", "");
    to.guidance = (generator_guidance){.scale = 2, .null_class = 4};
    OK(picture_source_open(&s, &spec, m, &to, &why));
    cr_expect_eq(s.labels.classes, 4);
    picture_source_close(&s);
    spec.labels = "4";
    OK(picture_source_open(&s, &spec, m, &to, &why));
    const generator_batch b = batch_of((const int64_t[]){0, 1, 2, 3}, BATCH);
    cr_expect_arr_eq(b.labels, ((const int[]){4, 4, 4, 4}), BATCH * sizeof(int));
    picture_source_close(&s);
    spec.labels = "5";
    refused_by(spec, &to, DDPM_EINVAL, "label 5 is not in [0, 5)");
    spec.labels = "";
    to.guidance.null_class = 0;
    OK(picture_source_open(&s, &spec, m, &to, &why));
    cr_expect_eq(s.labels.classes, 5);
}

Test(picture_source, images_of_another_size_are_refused)
{
    char said[2 * PATH_CAP], both[2 * PATH_CAP];
    const char *wide = put_image("wide.png", SIDE, SIDE + 1, C, ascending);
    const char *right = put_image("right.png", SIDE, SIDE, C, ascending);
    (void)snprintf(said, sizeof said, "%s: the image has 9 x 8 pixels, but the model makes pictures of 8 x 8", wide);
    refused(spec_with(wide, "", ""), DDPM_EDATA, said);
    refused(spec_with(right, wide, ""), DDPM_EDATA, said);
    (void)snprintf(both, sizeof both, "%s,%s", right, wide);
    refused(spec_with("", "", both), DDPM_EDATA, said);
}

Test(picture_source, what_is_no_image_is_refused)
{
    OK(dir_make(in_dir(root, "empty"), &why));
    put_file(in_dir(root, "text.png"), "no image");
    const char *whole = put_image("whole.png", SIDE, SIDE, C, ascending);
    char *bytes;
    size_t size;
    OK(file_read(whole, 1 << 20, &bytes, &size, &why));
    FILE *f = fopen(in_dir(root, "cut.png"), "wb");
    cr_assert(f && fwrite(bytes, 1, size - 20, f) == size - 20 && !fclose(f));
    mem_free(bytes);
    refused(spec_with(in_dir(root, "none.png"), "", ""), DDPM_ENOINPUT, "none.png: no such file or folder");
    refused(spec_with(in_dir(root, "empty"), "", ""), DDPM_ENOINPUT, "empty: no PNG or JPEG image in this folder");
    refused(spec_with(in_dir(root, "text.png"), "", ""), DDPM_EDATA, "text.png");
    refused(spec_with(in_dir(root, "cut.png"), "", ""), DDPM_EDATA, "cut.png");
    refused(spec_with(whole, in_dir(root, "none.png"), ""), DDPM_ENOINPUT, "none.png");
}

/* Only the first two are read when the source is opened; later ones when their batch is. */
Test(picture_source, a_damaged_image_is_named_when_its_batch_is_read)
{
    generator_batch b;
    OK(dir_make(in_dir(root, "images"), &why));
    put_image("images/0.png", SIDE, SIDE, C, ascending);
    put_image("images/1.png", SIDE, SIDE, C, descending);
    put_image("images/2.png", SIDE + 1, SIDE, C, white);
    open_ok(spec_with(in_dir(root, "images"), "", ""));
    cr_expect_eq(picture_source_batch(&s, (const int64_t[]){2}, 1, &b, &why), DDPM_EDATA);
    cr_expect_not_null(strstr(why.text, "images/2.png: the image has 8 x 9 pixels"), "%s", why.text);
    OK(picture_source_batch(&s, (const int64_t[]){3}, 1, &b, &why));
}

Test(picture_source, the_hash_is_of_the_contents)
{
    uint64_t a, b, c;
    OK(dir_make(in_dir(root, "one"), &why));
    OK(dir_make(in_dir(root, "two"), &why));
    put_image("one/x.png", SIDE, SIDE, C, ascending);
    put_image("one/y.png", SIDE, SIDE, C, descending);
    put_image("two/1.png", SIDE, SIDE, C, ascending);
    put_image("two/2.png", SIDE, SIDE, C, descending);
    open_ok(spec_with(in_dir(root, "one"), "", ""));
    OK(picture_source_hash(&s, &a, &why));
    open_ok(spec_with(in_dir(root, "two"), "", ""));
    OK(picture_source_hash(&s, &b, &why));
    cr_expect_eq(a, b);
    put_image("two/2.png", SIDE, SIDE, C, white);
    OK(picture_source_hash(&s, &c, &why));
    cr_expect_neq(a, c);
    put_image("two/1.png", SIDE, SIDE, C, descending);
    put_image("two/2.png", SIDE, SIDE, C, ascending); /* another order */
    OK(picture_source_hash(&s, &c, &why));
    cr_expect_neq(a, c);
}

/* ---- masks ---- */

Test(picture_source, a_mask_samples_what_is_white)
{
    const char *from = put_image("a.png", SIDE, SIDE, C, ascending);
    open_ok(spec_with(from, put_image("mask.png", SIDE, SIDE, 1, halves), ""));
    for (int i = 0; i < SIDE * SIDE; i++) cr_assert_eq(s.mask[i], i >= SIDE * SIDE / 2, "at %d", i);
}

Test(picture_source, a_mask_of_one_colour_is_refused)
{
    const char *from = put_image("a.png", SIDE, SIDE, C, ascending);
    refused(spec_with(from, put_image("white.png", SIDE, SIDE, 1, white), ""), DDPM_EINVAL,
            "white.png: hides everything, so nothing of the image stays; white pixels are sampled, black ones stay");
    refused(spec_with(from, put_image("black.png", SIDE, SIDE, C, black), ""), DDPM_EINVAL,
            "black.png: hides nothing; white pixels are sampled, black ones stay");
    refused(spec_with("", put_image("white.png", SIDE, SIDE, 1, white), ""), DDPM_EINVAL,
            "white.png: needs from=IMAGE, the image that it masks");
}

/* ---- between ---- */

static void expect_ends(const char *text, const char *a, const char *b)
{
    open_ok(spec_with("", "", text));
    cr_assert_eq(s.files.n, 2);
    cr_expect_str_eq(s.files.path[0], a);
    cr_expect_str_eq(s.files.path[1], b);
}

Test(picture_source, commas_may_be_a_part_of_the_names_of_both_ends)
{
    char text[4 * PATH_CAP], odd[PATH_CAP], plain[PATH_CAP], last[PATH_CAP];
    strcpy(odd, put_image("a,b.png", SIDE, SIDE, C, ascending));
    strcpy(plain, put_image("c.png", SIDE, SIDE, C, descending));
    strcpy(last, put_image("d, e.png", SIDE, SIDE, C, white));
    (void)snprintf(text, sizeof text, "%s,%s", odd, plain);
    expect_ends(text, odd, plain);
    (void)snprintf(text, sizeof text, "[%s, %s]", odd, plain);
    expect_ends(text, odd, plain);
    (void)snprintf(text, sizeof text, "%s,%s", odd, last);
    expect_ends(text, odd, last);
    (void)snprintf(text, sizeof text, "[%s,%s]", last, odd);
    expect_ends(text, last, odd);
    (void)snprintf(text, sizeof text, "%s,%s", plain, plain);
    expect_ends(text, plain, plain);
    /* "b.png,c.png" is a file, too, but "a" is none */
    put_image("b.png,c.png", SIDE, SIDE, C, white);
    cr_assert_eq(chdir(root), 0);
    expect_ends("a,b.png,c.png", "a,b.png", "c.png");
}

Test(picture_source, bad_ends_are_refused)
{
    const char *there = put_image("a.png", SIDE, SIDE, C, ascending);
    char text[3 * PATH_CAP];
    static const char *const forms[] = {"%s", "%s,", ",%s", "%s,%s-none", "%s-none,%s", "[%s]", "%s;%s", ","};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(text, sizeof text, forms[i], there, there);
#pragma GCC diagnostic pop
        refused(spec_with("", "", text), DDPM_ENOINPUT, "between");
    }
}

Test(picture_source, what_cannot_be_combined_is_refused)
{
    const char *a = put_image("a.png", SIDE, SIDE, C, ascending);
    char ends[2 * PATH_CAP];
    (void)snprintf(ends, sizeof ends, "%s,%s", a, a);
    refused(spec_with(a, "", ends), DDPM_EINVAL, "between: cannot be combined with from or mask");
    refused(spec_with("", a, ends), DDPM_EINVAL, "between: cannot be combined with from or mask");
    picture_source_spec one = spec_with("", "", ends);
    one.count = 1;
    refused(one, DDPM_EINVAL, "between: needs a count of 2 or more");
    generator_spec to = to_spec();
    to.sampler.eta = 0.5;
    refused_by(spec_with("", "", ends), &to, DDPM_EINVAL, "between: needs sampler=ddim with eta=0");
    to.sampler = sampler_spec_default(SAMPLER_EULER, 10);
    refused_by(spec_with("", "", ends), &to, DDPM_EINVAL, "between: needs sampler=ddim with eta=0");
}
