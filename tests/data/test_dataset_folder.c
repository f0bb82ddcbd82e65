#include "data/dataset.h"

#include "data/image.h"
#include "data_files.h"
#include <sys/stat.h>
#include <unistd.h>

static dataset *open_ok(const dataset_spec *spec)
{
    dataset *d;
    err e = {0};
    cr_assert_eq(dataset_open(spec, &d, &e), DDPM_OK, "%s", e.text);
    return d;
}

/* A grey 8 x 8 PNG of one value: the value tells which file an image came from. */
static void plain(const char *dir, const char *name, int value)
{
    char path[PATH_CAP];
    image img;
    uint8_t *bytes;
    size_t size;
    cr_assert_eq(image_create(&img, 8, 8, 1, "plain", NULL), DDPM_OK);
    memset(img.pixel, value, 64);
    cr_assert_eq(image_encode_png(&img, &bytes, &size, NULL), DDPM_OK);
    new_file(path, dir, name, bytes, size);
    free(bytes);
    image_free(&img);
}

static int value_of(const dataset *d, int64_t i)
{
    uint8_t pixels[64];
    cr_assert_eq(dataset_read(d, i, pixels, NULL), DDPM_OK);
    return pixels[63];
}

Test(dataset_folder, order_is_that_of_the_bytes_and_labels_are_the_first_level)
{
    char dir[PATH_CAP];
    new_folder(dir);
    /* '-' comes before '/': "a-b/..." stands before "a/...", yet class "a" comes before "a-b" */
    plain(dir, "a/2.png", 3);
    plain(dir, "a/10.PNG", 2);
    plain(dir, "a-b/deep/er/x.png", 1);
    plain(dir, "Z/x.png", 0);
    plain(dir, "b/.hidden.png", 99);
    plain(dir, ".git/x.png", 99);
    copy_file(FIXTURE("bad_text.jpg"), dir, "a/notes.txt");
    for (int cache = -1; cache <= 0; cache++) {
        const dataset_spec spec = {.path = dir, .cache_mb = cache};
        dataset *d = open_ok(&spec);
        static const int labels[4] = {0, 2, 1, 1}; /* of Z, a, a-b */
        cr_assert_str_eq(dataset_kind_name(d), "folder");
        cr_assert_eq(dataset_count(d), 4);
        cr_assert_eq(dataset_classes(d), 3);
        cr_assert_eq(dataset_pixels(d) == NULL, cache < 0);
        for (int i = 0; i < 4; i++) {
            cr_assert_eq(value_of(d, i), i);
            cr_assert_eq(dataset_label(d, i), labels[i]);
        }
        dataset_close(d);
    }
    plain(dir, "top.png", 7); /* an image in no folder: folders are no classes */
    const dataset_spec spec = {.path = dir};
    dataset *d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 5);
    cr_assert_eq(dataset_classes(d), 0);
    cr_assert_eq(dataset_label(d, 0), -1);
    dataset_close(d);
    drop_folder(dir);
}

Test(dataset_folder, links_are_followed_and_loops_are_not)
{
    char dir[PATH_CAP], path[PATH_CAP];
    new_folder(dir);
    plain(dir, "a/x.png", 5);
    cr_assert_eq(path_join(path, dir, "a/loop", NULL), DDPM_OK);
    cr_assert_eq(symlink(dir, path), 0);
    cr_assert_eq(path_join(path, dir, "b", NULL), DDPM_OK);
    cr_assert_eq(symlink("a", path), 0);
    strcat(dir, "/"); /* a slash at the end changes nothing */
    const dataset_spec spec = {.path = dir};
    dataset *d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 2); /* a/x.png and b/x.png */
    cr_assert_eq(dataset_classes(d), 2);
    dataset_close(d);
    drop_folder(dir);
}

Test(dataset_folder, bad_files_are_named_or_skipped)
{
    char dir[PATH_CAP], path[PATH_CAP];
    dataset *d;
    err e = {0};
    new_folder(dir);
    copy_file(FIXTURE("bad_truncated.png"), dir, "a.png");
    plain(dir, "b.png", 1);
    copy_file(FIXTURE("bad_truncated.jpg"), dir, "c.jpg");
    plain(dir, "d.png", 2);
    cr_assert_eq(path_join(path, dir, "e.png", NULL), DDPM_OK);
    cr_assert_eq(symlink("nowhere", path), 0);
    dataset_spec spec = {.path = dir};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
    cr_assert_null(d);
    cr_assert_not_null(strstr(e.text, "/a.png: PNG cut short"), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "(3 of 5 files are bad; data.max_bad=N skips up to N)"), "%s", e.text);
    spec.max_bad = 2;
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
    spec.max_bad = 3;
    d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 2);
    cr_assert_eq(dataset_skipped(d), 3);
    cr_assert(value_of(d, 0) == 1 && value_of(d, 1) == 2);
    dataset_close(d);
    drop_folder(dir);
}

Test(dataset_folder, labels_stay_with_their_images_when_files_are_skipped)
{
    char dir[PATH_CAP];
    new_folder(dir);
    plain(dir, "a/1.png", 1);
    copy_file(FIXTURE("bad_text.jpg"), dir, "a/2.png");
    plain(dir, "b/1.png", 2);
    plain(dir, "c/1.png", 3);
    for (int cache = -1; cache <= 0; cache++) {
        const dataset_spec spec = {.path = dir, .max_bad = 1, .cache_mb = cache};
        dataset *d = open_ok(&spec);
        cr_assert_eq(dataset_count(d), 3);
        for (int i = 0; i < 3; i++) cr_assert(value_of(d, i) == i + 1 && dataset_label(d, i) == i);
        dataset_close(d);
    }
    drop_folder(dir);
}

/* Too large to decode in advance: what a glance shows is skipped, the rest is an error when it is read. */
Test(dataset_folder, without_a_cache_damage_is_found_when_read)
{
    char dir[PATH_CAP];
    uint8_t pixels[64];
    err e = {0};
    new_folder(dir);
    copy_file(FIXTURE("bad_empty.png"), dir, "a.png");
    plain(dir, "b.png", 1);
    copy_file(FIXTURE("bad_text.jpg"), dir, "c.jpg");
    plain(dir, "d.png", 2);
    copy_file(FIXTURE("bad_truncated.png"), dir, "e.png");
    const dataset_spec spec = {.path = dir, .max_bad = 2, .cache_mb = -1};
    dataset *d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 3);
    cr_assert(value_of(d, 0) == 1 && value_of(d, 1) == 2);
    cr_assert_eq(dataset_read(d, 2, pixels, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "/e.png"), "%s", e.text);
    cr_assert_eq(dataset_read(d, 3, pixels, &e), DDPM_EINVAL);
    cr_assert_eq(dataset_read(d, -1, pixels, &e), DDPM_EINVAL);
    dataset_close(d);
    drop_folder(dir);
}

Test(dataset_folder, sizes_must_agree_or_be_given)
{
    char dir[PATH_CAP];
    dataset *d;
    err e = {0};
    new_folder(dir);
    copy_file(FIXTURE("resize_tall.png"), dir, "a.png");
    copy_file(FIXTURE("resize_wide.png"), dir, "b.png");
    dataset_spec spec = {.path = dir, .max_bad = 9};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EINVAL);
    cr_assert_not_null(strstr(e.text, "37 x 23, the first is 24 x 61: set data.resolution"), "%s", e.text);
    spec.resolution = 16;
    spec.channels = 3;
    d = open_ok(&spec);
    cr_assert(dataset_h(d) == 16 && dataset_w(d) == 16 && dataset_c(d) == 3);
    image want;
    cr_assert_eq(image_load(FIXTURE("resize_wide_16x16.png"), &want, NULL), DDPM_OK);
    cr_assert_arr_eq(dataset_pixels(d) + 768, want.pixel, 768);
    image_free(&want);
    dataset_close(d);
    drop_folder(dir);
}

Test(dataset_folder, nothing_there_is_said)
{
    char dir[PATH_CAP];
    dataset *d;
    err e = {0};
    new_folder(dir);
    copy_file(FIXTURE("bad_text.jpg"), dir, "notes.txt");
    dataset_spec spec = {.kind = "folder", .path = dir};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_ENOINPUT);
    cr_assert_not_null(strstr(e.text, "no .png, .jpg or .jpeg there nor in its sub-folders (1 other files)"), "%s",
                       e.text);
    spec.path = "/nowhere at all";
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_ENOINPUT);
    drop_folder(dir);
}

/* A folder of JPEG files by class, 50 of each of CIFAR-10's training images. */
Test(dataset_folder, reads_cifar10_as_jpeg_files, .timeout = 120)
{
    const char *root = getenv("DDPM_DATA");
    char archive[PATH_CAP], dir[PATH_CAP], command[3 * PATH_CAP];
    if (!root || path_join(archive, root, "cifar10/cifar10-train-jpeg.tar.xz", NULL) != DDPM_OK ||
        access(archive, R_OK))
        cr_skip_test("DDPM_DATA names no folder with cifar10/cifar10-train-jpeg.tar.xz in it");
    snprintf(command, sizeof command, "tar -C '%s' --wildcards --strip-components=1 -xf '%s' '*/00[0-4]?.jpg'",
             new_folder(dir), archive);
    if (system(command)) cr_skip_test("tar cannot unpack .tar.xz here");
    const dataset_spec spec = {.path = dir};
    dataset *d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 500);
    cr_assert(dataset_h(d) == 32 && dataset_w(d) == 32 && dataset_c(d) == 3);
    cr_assert_eq(dataset_classes(d), 10);
    for (int i = 0; i < 500; i++) cr_assert_eq(dataset_label(d, i), i / 50);
    double mean[3] = {0};
    for (int64_t i = 0; i < 500 * 3072; i++) mean[i % 3] += dataset_pixels(d)[i] / 255.0 / (500 * 1024);
    cr_assert_float_eq(mean[0], 0.4914, 0.02); /* the published means of the whole set */
    cr_assert_float_eq(mean[1], 0.4822, 0.02);
    cr_assert_float_eq(mean[2], 0.4465, 0.02);
    dataset_close(d);
    drop_folder(dir);
}
