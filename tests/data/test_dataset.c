#include "data/dataset.h"
#include "data/image.h"

#include "config/config.h"
#include "data/digit.h"
#include "data_files.h"

Test(dataset, options_out_of_range_are_refused)
{
    static const struct {
        dataset_spec spec;
        const char *says;
    } bad[] = {
        {{.kind = DATASET_DIGITS, .resolution = 7}, "data.resolution=7: must be 8 to 1024"},
        {{.kind = DATASET_DIGITS, .resolution = 1025}, "data.resolution"},
        {{.kind = DATASET_DIGITS, .channels = 2}, "data.channels=2"},
        {{.kind = DATASET_DIGITS, .count = -1}, "data.count=-1"},
        {{.kind = DATASET_DIGITS, .max_bad = -1}, "data.max_bad=-1"},
        {{.kind = DATASET_DIGITS, .count = 1000000000}, "at most"},
        {{.kind = DATASET_IDX}, "data.kind=idx requires data.path"},
        {{.kind = DATASET_AUTO}, "data.path is empty"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dataset *d;
        err e = {0};
        cr_assert_eq(dataset_open(&bad[i].spec, &d, &e), DDPM_EINVAL, "%zu", i);
        cr_assert_not_null(strstr(e.text, bad[i].says), "%s", e.text);
        cr_assert_null(d);
    }
}

/* faults D: the refusal names the range that the option has. */
Test(dataset, the_largest_resolution_is_that_of_the_option)
{
    char says[80];
    dataset *d;
    err e = {0};
    const dataset_spec spec = {.kind = DATASET_DIGITS, .resolution = 7};
    snprintf(says, sizeof says, "8 to %s,", config_options[OPTION_data_resolution].max);
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EINVAL);
    cr_assert_not_null(strstr(e.text, says), "%s", e.text);
}

/* faults F19e: a path that is not there is no question of formats. */
Test(dataset, a_path_that_is_not_there_is_said)
{
    static const struct {
        dataset_kind_id kind;
        const char *path, *says;
    } missing[] = {
        {DATASET_AUTO, "/not there", "data.path=/not there: no such file or folder"},
        {DATASET_IDX, "/not there", "data.path=/not there: no such file or folder"},
        {DATASET_CIFAR10, "/not there", "data.path=/not there: no such file or folder"},
        {DATASET_FOLDER, "/not there", "data.path=/not there: no such file or folder"},
        {DATASET_AUTO, "~/pictures",
         "data.path=~/pictures: no such file or folder; the shell does not expand ~ after data.path=: write $HOME"},
        {DATASET_FOLDER, "/etc/passwd/x", "data.path=/etc/passwd/x: Not a directory"},
    };
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        const dataset_spec spec = {.kind = missing[i].kind, .path = missing[i].path};
        dataset *d;
        err e = {0};
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_ENOINPUT);
        cr_assert_not_null(strstr(e.text, missing[i].says), "%s", e.text);
        cr_assert_null(strstr(e.text, "no data set found"), "%s", e.text);
    }
}

Test(dataset, a_picture_is_no_set)
{
    static const dataset_kind_id kinds[] = {DATASET_AUTO, DATASET_FOLDER, DATASET_IDX, DATASET_CIFAR10};
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t pixels[8 * 8] = {0};
    const image img = {.pixel = pixels, .h = 8, .w = 8, .c = 1};
    err e = {0};
    cr_assert_eq(path_join(path, new_folder(dir), "one.png", &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(image_write_png(path, &img, &e), DDPM_OK, "%s", e.text);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const dataset_spec spec = {.kind = kinds[i], .path = path};
        dataset *d;
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_ENOINPUT);
        cr_expect_not_null(strstr(e.text, "one.png: is a single image; set data.path to the folder"), "%s", e.text);
    }
    drop_folder(dir);
}

Test(dataset, auto_says_what_it_looked_for)
{
    static const char *const named[] = {"train-images-idx3-ubyte", "data_batch_*.bin", "PNG or JPEG files"};
    char dir[PATH_CAP];
    dataset *d;
    err e = {0};
    const dataset_spec spec = {.kind = DATASET_AUTO, .path = new_folder(dir)};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_ENOINPUT);
    for (int i = 0; i < 3; i++) cr_assert_not_null(strstr(e.text, named[i]), "%s", e.text);
    drop_folder(dir);
}

static dataset *digits(int resolution, int channels, int64_t count, uint64_t seed, int64_t cache_mb)
{
    dataset *d;
    err e = {0};
    const dataset_spec spec = {.kind = DATASET_DIGITS,
                               .resolution = resolution,
                               .channels = channels,
                               .count = count,
                               .seed = seed,
                               .cache_mb = cache_mb};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
    return d;
}

Test(dataset, digits_say_that_they_need_no_path)
{
    dataset *d;
    const dataset_spec spec = {.kind = DATASET_DIGITS, .path = "/mnist", .count = 1};
    cr_assert_eq(dataset_open(&spec, &d, NULL), DDPM_OK);
    cr_assert_not_null(strstr(dataset_remarked(d, 0), "data.path=/mnist has no effect"));
    dataset_close(d);
    d = digits(16, 1, 1, 1, 0);
    cr_assert_null(dataset_remarked(d, 0));
    dataset_close(d);
}

Test(dataset, the_cache_changes_nothing_but_the_memory)
{
    uint8_t a[3 * 256], b[3 * 256];
    uint64_t ha, hb;
    dataset *kept = digits(16, 3, 100, 5, 0), *drawn = digits(16, 3, 100, 5, -1);
    cr_assert_not_null(dataset_pixels(kept));
    cr_assert_null(dataset_pixels(drawn));
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(dataset_read(kept, i, a, NULL), DDPM_OK);
        cr_assert_eq(dataset_read(drawn, i, b, NULL), DDPM_OK);
        cr_assert_arr_eq(a, b, sizeof a);
        cr_assert(a[0] == a[1] && a[1] == a[2]);
    }
    cr_assert(dataset_hash(kept, &ha, NULL) == DDPM_OK && dataset_hash(drawn, &hb, NULL) == DDPM_OK);
    cr_assert_eq(ha, hb);
    dataset_close(kept);
    dataset_close(drawn);
}

/* 1 MiB holds 4096 images of 16 x 16, not 4097. */
Test(dataset, the_cache_keeps_to_its_limit)
{
    dataset *fits = digits(16, 1, 4096, 1, 1), *too_many = digits(16, 1, 4097, 1, 1);
    cr_assert_not_null(dataset_pixels(fits));
    cr_assert_null(dataset_pixels(too_many));
    dataset_close(fits);
    dataset_close(too_many);
}

Test(dataset, the_hash_tells_sets_apart)
{
    dataset *sets[] = {digits(16, 1, 100, 5, 0), digits(16, 1, 101, 5, 0), digits(16, 3, 100, 5, 0),
                       digits(17, 1, 100, 5, 0), digits(16, 1, 100, 6, 0)};
    uint64_t h[5], again;
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(dataset_hash(sets[i], &h[i], NULL), DDPM_OK);
        for (int k = 0; k < i; k++) cr_assert_neq(h[i], h[k], "%d and %d", i, k);
    }
    cr_assert_eq(dataset_hash(sets[0], &again, NULL), DDPM_OK);
    cr_assert_eq(again, h[0]);
    for (int i = 0; i < 5; i++) dataset_close(sets[i]);
}

Test(dataset, the_hash_sees_a_changed_byte_and_not_the_place)
{
    enum { RECORD = 3073, N = 300 }; /* more than the images that are looked at */
    char a[PATH_CAP], b[PATH_CAP], path[PATH_CAP];
    uint8_t *file = calloc(N, RECORD);
    uint64_t h[3];
    new_folder(a);
    new_folder(b);
    for (int k = 0; k < 3; k++) {
        if (k == 2) file[RECORD + 7] ^= 1;
        new_file(path, k == 0 ? a : b, "data_batch_1.bin", file, (size_t)N * RECORD);
        const dataset_spec spec = {.path = k == 0 ? a : b};
        dataset *d;
        cr_assert_eq(dataset_open(&spec, &d, NULL), DDPM_OK);
        cr_assert_eq(dataset_hash(d, &h[k], NULL), DDPM_OK);
        dataset_close(d);
    }
    cr_assert_eq(h[0], h[1]);
    cr_assert_neq(h[0], h[2]);
    free(file);
    drop_folder(a);
    drop_folder(b);
}

Test(dataset, closing_nothing_is_fine) { dataset_close(NULL); }
