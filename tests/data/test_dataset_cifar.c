#include "data/dataset_cifar.h"

#include "data/dataset.h"
#include "data_files.h"

/* Record r: label r % 10; channel c of pixel i is (i + 60 c + r) % 256. */
static void make_records(uint8_t *file, int first, int n)
{
    for (int r = first; r < first + n; r++) {
        *file++ = (uint8_t)(r % 10);
        for (int c = 0; c < 3; c++)
            for (int i = 0; i < 1024; i++) *file++ = (uint8_t)(i + 60 * c + r);
    }
}

Test(dataset_cifar, planes_become_pixels)
{
    uint8_t record[CIFAR_RECORD];
    image img;
    make_records(record, 4, 1);
    cr_assert_eq(cifar_image(record, &img, NULL), DDPM_OK);
    cr_assert(img.h == 32 && img.w == 32 && img.c == 3);
    for (int i = 0; i < 1024; i++)
        for (int c = 0; c < 3; c++) cr_assert_eq(img.pixel[3 * i + c], (uint8_t)(i + 60 * c + 4));
    image_free(&img);
}

Test(dataset_cifar, refuses_other_sizes_and_labels)
{
    uint8_t file[2 * CIFAR_RECORD];
    int64_t count;
    err e = {0};
    make_records(file, 0, 2);
    cr_assert_eq(cifar_parse(file, sizeof file, "a", &count, NULL), DDPM_OK);
    cr_assert_eq(count, 2);
    cr_assert_eq(cifar_parse(file, 0, "a", &count, NULL), DDPM_EDATA);
    for (size_t n = CIFAR_RECORD + 1; n < sizeof file; n++)
        cr_assert_eq(cifar_parse(file, n, "a", &count, NULL), DDPM_EDATA);
    file[CIFAR_RECORD] = 10;
    cr_assert_eq(cifar_parse(file, sizeof file, "a", &count, &e), DDPM_EDATA);
    cr_assert_str_eq(e.text, "a: record 1 has label 10; labels are 0 to 9");
}

Test(dataset_cifar, files_of_a_folder_follow_each_other)
{
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t file[3 * CIFAR_RECORD], pixels[3072];
    dataset *d;
    err e = {0};
    new_folder(dir);
    make_records(file, 3, 1);
    new_file(path, dir, "data_batch_2.bin", file, CIFAR_RECORD);
    make_records(file, 4, 3);
    new_file(path, dir, "data_batch_3.bin", file, sizeof file);
    make_records(file, 0, 3);
    new_file(path, dir, "data_batch_1.bin", file, sizeof file);
    new_file(path, dir, "test_batch.bin", file, sizeof file);
    for (int cache = -1; cache <= 0; cache++) { /* decoded at every read, and kept */
        const dataset_spec spec = {.path = dir, .cache_mb = cache};
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
        cr_assert_str_eq(dataset_kind_name(d), "cifar10");
        cr_assert_eq(dataset_count(d), 7);
        cr_assert_str_eq(dataset_remarked(d, 0),
                         "7 images in 3 files data_batch_*.bin; the training set of CIFAR-10 has 50000 in 5");
        cr_assert_eq(dataset_classes(d), 10);
        for (int r = 0; r < 7; r++) {
            cr_assert_eq(dataset_label(d, r), r);
            cr_assert_eq(dataset_read(d, r, pixels, NULL), DDPM_OK);
            cr_assert(pixels[0] == r && pixels[3 * 5 + 2] == 125 + r);
        }
        dataset_close(d);
    }
    const dataset_spec one = {.path = path}; /* test_batch.bin itself */
    cr_assert_eq(dataset_open(&one, &d, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(dataset_count(d), 3);
    cr_assert_null(dataset_remarked(d, 0));
    dataset_close(d);
    drop_folder(dir);
}

/* faults B4, F3: the first so many, over the border of two files; what is behind them is not even looked at. */
Test(dataset_cifar, count_takes_the_first)
{
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t file[3 * CIFAR_RECORD], pixels[3072];
    dataset *d;
    err e = {0};
    uint64_t h[2];
    new_folder(dir);
    make_records(file, 0, 3);
    new_file(path, dir, "data_batch_1.bin", file, sizeof file);
    make_records(file, 3, 3);
    new_file(path, dir, "data_batch_2.bin", file, sizeof file);
    for (int k = 0; k < 2; k++) {
        const dataset_spec spec = {.path = dir, .count = 4, .cache_mb = -k};
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(dataset_count(d), 4);
        cr_assert_eq(dataset_label(d, 3), 3);
        cr_assert_eq(dataset_label(d, 4), -1);
        cr_assert_eq(dataset_read(d, 3, pixels, NULL), DDPM_OK);
        cr_assert_eq(pixels[0], 3);
        cr_assert_eq(dataset_read(d, 4, pixels, NULL), DDPM_EINVAL);
        cr_assert_eq(dataset_hash(d, &h[k], NULL), DDPM_OK);
        dataset_close(d);
        file[2 * CIFAR_RECORD + 9] ^= 1; /* of the last image, which is not used */
        new_file(path, dir, "data_batch_2.bin", file, sizeof file);
        new_file(path, dir, "data_batch_3.bin", "damaged", 7);
    }
    cr_assert_eq(h[0], h[1]);
    drop_folder(dir);
}
