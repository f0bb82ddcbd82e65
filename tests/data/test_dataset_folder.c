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
    cr_assert_not_null(strstr(e.text, "/a.png: PNG truncated"), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "(3 of 5 files are bad; data.max_bad=N skips up to N)"), "%s", e.text);
    spec.max_bad = 2;
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
    spec.max_bad = 3;
    d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 2);
    cr_assert_eq(dataset_skipped(d), 3);
    cr_assert(value_of(d, 0) == 1 && value_of(d, 1) == 2);
    dataset_close(d);
    for (int cached = 0; cached < 2; cached++) { /* the files of the images that are used, read again or not */
        spec.cache_mb = cached ? 1 : -1;
        d = open_ok(&spec);
        cr_assert_eq(dataset_pixels(d) != NULL, cached);
        cr_assert(path_join(path, dir, "d.png", NULL) == DDPM_OK && dataset_file(d, 1));
        cr_assert_str_eq(dataset_file(d, 1), path);
        cr_assert(!dataset_file(d, -1) && !dataset_file(d, 2));
        dataset_close(d);
    }
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

/* faults A7, F5: what is left out, and how it is counted and said, does not depend on whether pixels are kept. */
Test(dataset_folder, damage_inside_a_file_counts_the_same_with_and_without_a_cache)
{
    char dir[PATH_CAP];
    uint64_t h[2];
    new_folder(dir);
    copy_file(FIXTURE("bad_empty.png"), dir, "a.png");
    plain(dir, "b.png", 1);
    copy_file(FIXTURE("bad_text.jpg"), dir, "c.jpg");
    plain(dir, "d.png", 2);
    copy_file(FIXTURE("bad_truncated.png"), dir, "e.png");
    plain(dir, "f.png", 3);
    for (int cache = -1; cache <= 0; cache++) {
        dataset_spec spec = {.path = dir, .max_bad = 2, .cache_mb = cache};
        dataset *d;
        err e = {0};
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
        cr_assert_not_null(strstr(e.text, "/a.png: an empty file (3 of 6 files are bad; data.max_bad=N"), "%s", e.text);
        spec.max_bad = 3;
        d = open_ok(&spec);
        cr_assert_eq(dataset_count(d), 3);
        cr_assert_eq(dataset_skipped(d), 3);
        for (int i = 0; i < 3; i++) cr_assert_eq(value_of(d, i), i + 1);
        const char *said = dataset_remarked(d, 0);
        cr_assert_not_null(strstr(said, "3 unreadable files skipped (data.max_bad=3): "), "%s", said);
        cr_assert_not_null(strstr(said, "/a.png: an empty file"), "%s", said);
        cr_assert_null(dataset_remarked(d, 1));
        cr_assert_eq(dataset_hash(d, &h[1 + cache], NULL), DDPM_OK);
        dataset_close(d);
    }
    cr_assert_eq(h[0], h[1]);
    drop_folder(dir);
}

/* The label is that of the image that was read. */
Test(dataset_folder, the_next_image_brings_its_own_label)
{
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t pixels[64];
    int64_t label = -7;
    err e = {0};
    new_folder(dir);
    plain(dir, "cat/x.png", 3);
    plain(dir, "dog/x.png", 4);
    const dataset_spec spec = {.path = dir, .max_bad = 1, .cache_mb = -1};
    dataset *d = open_ok(&spec);
    cr_assert_eq(dataset_read_or_next(d, 0, pixels, &label, &e), DDPM_OK, "%s", e.text);
    cr_assert(pixels[0] == 3 && label == 0);
    cr_assert(path_join(path, dir, "cat/x.png", NULL) == DDPM_OK && remove(path) == 0);
    cr_assert_eq(dataset_read_or_next(d, 0, pixels, &label, &e), DDPM_OK, "%s", e.text);
    cr_assert(pixels[0] == 4 && label == 1, "%d, %d", pixels[0], (int)label);
    dataset_close(d);
    drop_folder(dir);
}

/* faults A7: a file that is lost while a training goes on counts as one that was bad at the start, and the next one
 * takes its place, always the same. */
Test(dataset_folder, a_file_that_is_lost_is_replaced_up_to_max_bad)
{
    char dir[PATH_CAP], path[PATH_CAP], said[600];
    uint8_t pixels[64];
    err e = {0};
    new_folder(dir);
    copy_file(FIXTURE("bad_empty.png"), dir, "0.png");
    for (int i = 0; i < 5; i++) plain(dir, (const char[]){'a' + (char)i, '.', 'p', 'n', 'g', 0}, i);
    const dataset_spec spec = {.path = dir, .max_bad = 4, .cache_mb = -1};
    dataset *d = open_ok(&spec);
    cr_assert_not(dataset_lost(d, said, sizeof said));
    cr_assert(path_join(path, dir, "d.png", NULL) == DDPM_OK && remove(path) == 0); /* gone */
    cr_assert(path_join(path, dir, "e.png", NULL) == DDPM_OK && remove(path) == 0); /* a folder now */
    cr_assert_eq(dir_make(path, NULL), DDPM_OK);
    for (int again = 0; again < 2; again++) {
        static const int values[5] = {0, 1, 2, 0, 0};
        for (int i = 0; i < 5; i++) {
            cr_assert_eq(dataset_read_or_next(d, i, pixels, NULL, &e), DDPM_OK, "%s", e.text);
            cr_assert_eq(pixels[0], values[i]);
        }
        cr_assert_eq(dataset_lost(d, said, sizeof said), again == 0);
        cr_assert_not_null(strstr(said, "2 files became unreadable and will be replaced by the next image: "), "%s",
                           said);
        cr_assert_not_null(strstr(said, "/d.png: cannot open: No such file"), "%s", said);
        cr_assert_eq(dataset_read(d, 3, pixels, NULL), DDPM_ENOINPUT); /* nobody replaces anything here */
    }
    plain(dir, "d.png", 9); /* back again */
    cr_assert_eq(dataset_read_or_next(d, 3, pixels, NULL, &e), DDPM_OK);
    cr_assert_eq(pixels[0], 9);
    copy_file(FIXTURE("resize_tall_8x8.png"), dir, "c.png"); /* other pixels are fine */
    cr_assert_eq(dataset_read_or_next(d, 2, pixels, NULL, &e), DDPM_OK);
    copy_file(FIXTURE("resize_tall.png"), dir, "c.png"); /* another size is not */
    cr_assert_eq(dataset_read_or_next(d, 2, pixels, NULL, &e), DDPM_OK);
    cr_assert(dataset_lost(d, said, sizeof said) && strstr(said, "1 file became unreadable and "), "%s", said);
    copy_file(FIXTURE("bad_truncated.png"), dir, "b.png");
    for (int again = 0; again < 2; again++) {
        cr_assert_eq(dataset_read_or_next(d, 1, pixels, NULL, &e), DDPM_EDATA);
        cr_assert_not_null(strstr(e.text, "/b.png: PNG truncated"), "%s", e.text);
        cr_assert_not_null(strstr(e.text, "(5 bad images in total; data.max_bad=N skips up to N)"), "%s", e.text);
    }
    cr_assert_eq(dataset_read_or_next(d, 0, pixels, NULL, &e), DDPM_OK);
    dataset_close(d);
    drop_folder(dir);
}

/* `ddpm inspect` asks for no more, and a large set takes minutes to decode. */
Test(dataset_folder, the_shape_alone_needs_no_decoding)
{
    char dir[PATH_CAP];
    new_folder(dir);
    plain(dir, "a.png", 1);
    copy_file(FIXTURE("bad_truncated.jpg"), dir, "b.jpg");
    const dataset_spec spec = {.path = dir, .shape_only = true};
    dataset *d = open_ok(&spec);
    cr_assert(dataset_count(d) == 2 && dataset_h(d) == 8 && dataset_w(d) == 8 && dataset_c(d) == 3);
    cr_assert_null(dataset_pixels(d));
    dataset_close(d);
    drop_folder(dir);
}

/* faults F9: a picture with colour anywhere makes a set of colours, unless it is left out. */
Test(dataset_folder, colour_anywhere_is_colour)
{
    char dir[PATH_CAP];
    uint8_t pixels[192];
    static const char *const coloured[] = {"resize_wide_8x8.png", "palette8.png", "rgb420.jpg", "cmyk.jpg"};
    for (int k = 0; k < 8; k++) {
        char from[PATH_CAP];
        new_folder(dir);
        plain(dir, "a.png", 7);
        copy_file(FIXTURE("grey8_alpha.png"), dir, "b.png");
        copy_file(FIXTURE("grey.jpg"), dir, "c.jpg");
        cr_assert_eq(path_join(from, FIXTURE(""), coloured[k / 2], NULL), DDPM_OK);
        copy_file(from, dir, "d.png");
        dataset_spec spec = {.path = dir, .resolution = 8, .cache_mb = -(k % 2)};
        dataset *d = open_ok(&spec);
        cr_assert_eq(dataset_c(d), 3, "%s", coloured[k / 2]);
        cr_assert_eq(dataset_read(d, 0, pixels, NULL), DDPM_OK);
        for (int i = 0; i < 192; i++) cr_assert_eq(pixels[i], 7);
        dataset_close(d);
        spec.count = 3;
        d = open_ok(&spec);
        cr_assert_eq(dataset_c(d), 1);
        dataset_close(d);
        copy_file(FIXTURE("bad_truncated.jpg"), dir, "d.png"); /* of colours, and left out */
        spec = (dataset_spec){.path = dir, .resolution = 8, .max_bad = 1, .cache_mb = -(k % 2)};
        d = open_ok(&spec);
        cr_assert(dataset_c(d) == 1 && dataset_count(d) == 3);
        cr_assert_eq(value_of(d, 0), 7);
        dataset_close(d);
        drop_folder(dir);
    }
}

/* faults B4, F3: the first so many files, before any is looked at. */
Test(dataset_folder, count_takes_the_first)
{
    char dir[PATH_CAP];
    uint64_t h[2];
    new_folder(dir);
    plain(dir, "a/1.png", 1);
    plain(dir, "b/2.png", 2);
    plain(dir, "c/3.png", 3);
    for (int cache = -1; cache <= 0; cache++) {
        const dataset_spec spec = {.path = dir, .count = 2, .cache_mb = cache};
        dataset *d = open_ok(&spec);
        cr_assert(dataset_count(d) == 2 && dataset_classes(d) == 2);
        cr_assert(value_of(d, 0) == 1 && value_of(d, 1) == 2);
        cr_assert_eq(dataset_hash(d, &h[1 + cache], NULL), DDPM_OK);
        dataset_close(d);
        copy_file(FIXTURE("resize_tall.png"), dir, "c/3.png"); /* another size, bad files: nobody sees them */
        copy_file(FIXTURE("bad_text.jpg"), dir, "c/4.png");
    }
    cr_assert_eq(h[0], h[1]);
    drop_folder(dir);
}

/* faults F10: other files are counted and named; every name of a JPEG file is known, and so is one without ending. */
Test(dataset_folder, what_is_left_out_is_named_by_its_ending)
{
    static const char *const names[] = {"a.jfif", "b.JPE", "c.Jpg", "d.jif", "0123abcd"};
    static const char *const others[] = {"a.webp", "b.WEBP", "c/d.webp", "a.bmp", "b.bmp", "notes", "x.longer-than-12"};
    char dir[PATH_CAP], path[PATH_CAP];
    new_folder(dir);
    for (int i = 0; i < 5; i++) copy_file(FIXTURE("rgb444.jpg"), dir, names[i]);
    for (int i = 0; i < 7; i++) new_file(path, dir, others[i], "x", 1);
    plain(dir, ".hidden.png", 1);
    const dataset_spec spec = {.path = dir};
    dataset *d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 5);
    cr_assert_str_eq(dataset_remarked(d, 0), "7 other files (3 .webp, 2 without an extension, 2 .bmp) skipped");
    dataset_close(d);
    drop_folder(dir);
}

/* faults B12, F21: what this run and others write is no data, wherever it lies below data.path. */
Test(dataset_folder, folders_of_runs_are_left_out)
{
    char dir[PATH_CAP], path[PATH_CAP], run[PATH_CAP];
    err e = {0};
    dataset *d;
    new_folder(dir);
    cr_assert_eq(path_join(run, dir, "deep/own", NULL), DDPM_OK);
    plain(dir, "a.png", 1);
    plain(dir, "deep/b.png", 2);
    plain(dir, "deep/own/noising.png", 3); /* known by its name alone */
    plain(dir, "deep/own/samples/step_00000001.png", 3);
    plain(dir, "run/ckpt/step_00000001/x.png", 3);
    plain(dir, "run/noising.png", 3);
    plain(dir, "held/x.png", 3);
    new_file(path, dir, "held/LOCK", "x", 1);
    plain(dir, "samples/000000.png", 4);
    copy_file(FIXTURE("resize_tall.png"), dir, "samples/grid.png");
    copy_file(FIXTURE("resize_tall.png"), dir, "samples/step_00000100.png");
    new_file(path, dir, "samples/sampling.json", "{}", 2);
    dataset_spec spec = {.path = dir, .run = run};
    d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 2);
    cr_assert(value_of(d, 0) == 1 && value_of(d, 1) == 2);
    const char *said = dataset_remarked(d, 0);
    cr_assert_not_null(strstr(said, "4 files or folders with the output of a run skipped: "), "%s", said);
    cr_assert_not_null(strstr(said, "/deep/own, ..."), "%s", said);
    dataset_close(d);

    cr_assert_eq(path_join(path, dir, "samples", NULL), DDPM_OK); /* samples on purpose */
    spec.path = path;
    d = open_ok(&spec);
    cr_assert(dataset_count(d) == 1 && value_of(d, 0) == 4);
    said = dataset_remarked(d, 1); /* behind the one on sampling.json */
    cr_assert_not_null(strstr(said, "2 files or folders with the output of a run skipped: "), "%s", said);
    dataset_close(d);

    spec = (dataset_spec){.path = run, .run = run};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EINVAL);
    cr_assert_not_null(strstr(e.text, "the model would be trained on its own samples"), "%s", e.text);
    cr_assert_eq(path_join(path, run, "samples", NULL), DDPM_OK);
    spec.path = path;
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EINVAL);
    drop_folder(dir);
}

/* faults D: 40 folders deep is no reason; and what keeps a folder from being read is said, not "no data set found". */
Test(dataset_folder, deep_folders_are_read_and_endless_links_are_said)
{
    char dir[PATH_CAP], path[PATH_CAP] = "", to[PATH_CAP];
    err e = {0};
    dataset *d;
    new_folder(dir);
    for (int i = 0; i < 40; i++) strcat(path, "d/");
    strcat(path, "x.png");
    plain(dir, path, 1);
    const dataset_spec spec = {.path = dir};
    d = open_ok(&spec);
    cr_assert_eq(dataset_count(d), 1);
    dataset_close(d);
    drop_folder(dir);
    new_folder(dir);
    for (int i = 0; i < 40; i++) { /* 0/next -> 1, 1/next -> 2, ... */
        char name[32];
        snprintf(name, sizeof name, "%d", i);
        cr_assert_eq(path_join(path, dir, name, NULL), DDPM_OK);
        cr_assert_eq(dir_make(path, NULL), DDPM_OK);
        snprintf(name, sizeof name, "%d/next", i);
        cr_assert_eq(path_join(path, dir, name, NULL), DDPM_OK);
        snprintf(to, sizeof to, "../%d", i + 1);
        cr_assert_eq(symlink(to, path), 0);
    }
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "more than 32 links to folders"), "%s", e.text);
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
    cr_assert_not_null(strstr(e.text, "/b.png is 37 x 23, "), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "/a.png is 24 x 61: set data.resolution"), "%s", e.text);
    spec.cache_mb = -1; /* found at once as well */
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EINVAL);
    spec.cache_mb = 0;
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
    dataset_spec spec = {.kind = DATASET_FOLDER, .path = dir};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_ENOINPUT);
    cr_assert_not_null(strstr(e.text, "no PNG or JPEG files in this folder and its subfolders (1 other file (1 .txt))"),
                       "%s", e.text);
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
