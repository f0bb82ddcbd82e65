#include "data/dataset_idx.h"

#include "data/dataset.h"
#include "data_files.h"
#include <math.h>
#include <zlib.h>

/* A file of n images 3 x 2 whose bytes count up. */
enum { H = 3, W = 2, N = 4, HEADER = 16, SIZE = HEADER + N * H * W };
static void make_images(uint8_t file[SIZE])
{
    static const uint8_t header[HEADER] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, H, 0, 0, 0, W};
    memcpy(file, header, HEADER);
    for (int i = 0; i < N * H * W; i++) file[HEADER + i] = (uint8_t)(10 + i);
}
static const uint8_t LABELS[8 + N] = {0, 0, 8, 1, 0, 0, 0, N, 3, 0, 7, 1};

static size_t gzip(const void *bytes, size_t size, uint8_t *out, size_t room)
{
    z_stream z = {.next_in = (void *)bytes, .avail_in = (uInt)size, .next_out = out, .avail_out = (uInt)room};
    cr_assert_eq(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return room - z.avail_out;
}

Test(dataset_idx, parses_images_and_labels)
{
    uint8_t file[SIZE];
    idx_file f;
    make_images(file);
    cr_assert_eq(idx_parse(file, SIZE, 1, "a", &f, NULL), DDPM_OK);
    cr_assert(f.n == N && f.h == H && f.w == W && f.data == file + HEADER);
    cr_assert_eq(idx_parse(LABELS, sizeof LABELS, 0, "a", &f, NULL), DDPM_OK);
    cr_assert(f.n == N && f.data[2] == 7);
}

Test(dataset_idx, refuses_a_header_that_does_not_fit_the_size)
{
    uint8_t file[SIZE + 1] = {0};
    idx_file f;
    err e = {0};
    make_images(file);
    for (size_t n = 0; n < SIZE; n++) cr_assert_eq(idx_parse(file, n, 1, "a", &f, NULL), DDPM_EDATA, "%zu bytes", n);
    cr_assert_eq(idx_parse(file, SIZE + 1, 1, "a", &f, &e), DDPM_EDATA);
    cr_assert_str_eq(e.text, "a: the header declares 40 bytes, the file has 41");
    for (int byte = 0; byte < HEADER; byte++) /* no single byte of the header can lie */
        for (int bit = 0; bit < 8; bit++) {
            make_images(file);
            file[byte] ^= (uint8_t)(1 << bit);
            cr_assert_eq(idx_parse(file, SIZE, 1, "a", &f, NULL), DDPM_EDATA, "byte %d bit %d", byte, bit);
        }
    static const uint8_t wraps[HEADER] = {0, 0, 8, 3, 255, 255, 255, 255, 0, 0, 64, 0, 0, 0, 16, 0};
    cr_assert_eq(idx_parse(wraps, HEADER, 1, "a", &f, NULL), DDPM_EDATA);
    static const uint8_t none[HEADER] = {0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2};
    cr_assert_eq(idx_parse(none, HEADER, 1, "a", &f, NULL), DDPM_EDATA);
    cr_assert_eq(idx_parse(LABELS, sizeof LABELS, 1, "a", &f, &e), DDPM_EDATA);
    cr_assert_str_eq(e.text, "a: contains labels; images are expected");
}

Test(dataset_idx, says_what_another_file_is)
{
    static const struct {
        uint8_t head[16];
        const char *words;
    } cases[] = {
        {{0, 0, 0x0d, 3}, "0x00000d03 (an IDX file of floats in 3 dimensions); expected are 0x00000803 for images"},
        {{0, 0, 8, 2}, "0x00000802 (an IDX file of unsigned bytes in 2 dimensions); expected"},
        {{0, 0, 7, 3}, "0x00000703; expected"},
        {{0, 0, 15, 3}, "0x00000f03; expected"},
        {{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}, "0x89504e47 (a PNG image); expected"}};
    idx_file f;
    err e = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(idx_parse(cases[i].head, 16, 1, "a", &f, &e), DDPM_EDATA);
        cr_expect(!strncmp(e.text, "a: begins with the magic number ", 32) && strstr(e.text, cases[i].words), "%s",
                  e.text);
    }
    cr_expect_eq(idx_parse(cases[0].head, 7, 1, "a", &f, &e), DDPM_EDATA);
    cr_expect_str_eq(e.text, "a: not an IDX file: its 7 bytes are less than a header");
}

Test(dataset_idx, unpacks_gzip_and_refuses_what_is_damaged)
{
    uint8_t file[SIZE], packed[256], *out;
    size_t size;
    make_images(file);
    const size_t n = gzip(file, SIZE, packed, sizeof packed);
    cr_assert_eq(idx_unpack(packed, n, "a", &out, &size, NULL), DDPM_OK);
    cr_assert_eq(size, SIZE);
    cr_assert_arr_eq(out, file, SIZE);
    free(out);
    for (size_t k = 0; k < n; k++)
        cr_assert_eq(idx_unpack(packed, k, "a", &out, &size, NULL), DDPM_EDATA, "%zu of %zu bytes", k, n);
    packed[n] = 'x';
    cr_assert_eq(idx_unpack(packed, n + 1, "a", &out, &size, NULL), DDPM_EDATA); /* something behind it */
    packed[n - 6] ^= 1;                                                          /* the checksum */
    cr_assert_eq(idx_unpack(packed, n, "a", &out, &size, NULL), DDPM_EDATA);
}

/* 4 MB of zeros behind a header for 24 bytes: unpacking must stop there. */
Test(dataset_idx, a_gzip_bomb_is_not_unpacked)
{
    enum { BOMB = 4 << 20 };
    uint8_t *file = calloc(1, BOMB), packed[8192], *out;
    size_t size;
    err e = {0};
    make_images(file);
    const size_t n = gzip(file, BOMB, packed, sizeof packed);
    cr_assert_eq(idx_unpack(packed, n, "a", &out, &size, &e), DDPM_EDATA);
    cr_assert_str_eq(e.text, "a: contains more than the 40 bytes that its header declares");
    memset(file + 4, 0x3f, 4); /* 10^9 images promised */
    const size_t m = gzip(file, SIZE, packed, sizeof packed);
    cr_assert_eq(idx_unpack(packed, m, "a", &out, &size, &e), DDPM_EDATA);
    cr_assert_str_eq(e.text, "a: the header declares 6366657418 bytes, the file has 40");
    free(file);
}

/* faults C6: 64 MiB that are as many as promised but for the last byte, in 300 kB.  Nothing of them is kept. */
Test(dataset_idx, a_gzip_that_is_refused_costs_no_memory)
{
    enum { SIDE = 1 << 13, BIG = HEADER + SIDE * SIDE, ROOM = 1 << 20 };
    uint8_t *file = calloc(1, 1 << 20), *packed = malloc(ROOM), *out;
    size_t size;
    err e = {0};
    z_stream z = {.next_out = packed, .avail_out = ROOM};
    static const uint8_t header[HEADER] = {0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 16, 0, 0, 0, 16, 0}; /* 4 of 4096 x 4096 */
    memcpy(file, header, HEADER);
    cr_assert_eq(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    for (size_t left = BIG - 1, some; left > 0; left -= some) {
        some = left < (1 << 20) ? left : 1 << 20;
        z.next_in = file, z.avail_in = (uInt)some;
        const int rc = deflate(&z, some == left ? Z_FINISH : Z_NO_FLUSH);
        cr_assert(rc == Z_OK || rc == Z_STREAM_END);
        memset(file, 0, HEADER);
    }
    deflateEnd(&z);
    const long before = peak_mib();
    cr_assert_eq(idx_unpack(packed, ROOM - z.avail_out, "a", &out, &size, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "declares 67108880 bytes, the file has 67108879"), "%s", e.text);
    cr_assert_lt(peak_mib() - before, 16);
    free(packed);
    free(file);
}

Test(dataset_idx, members_of_gzip_follow_each_other)
{
    uint8_t file[SIZE], packed[512] = {0}, *out;
    size_t size;
    err e = {0};
    make_images(file);
    size_t n = gzip(file, 9, packed, sizeof packed); /* the border lies in the header */
    n += gzip("", 0, packed + n, sizeof packed - n);
    n += gzip(file + 9, SIZE - 9, packed + n, sizeof packed - n);
    for (size_t zeros = 0; zeros < 2; zeros++) {
        cr_assert_eq(idx_unpack(packed, n + zeros, "a", &out, &size, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(size, SIZE);
        cr_assert_arr_eq(out, file, SIZE);
        free(out);
    }
    packed[n + 3] = 1;
    cr_assert_eq(idx_unpack(packed, n + 4, "a", &out, &size, &e), DDPM_EDATA);
    cr_assert_str_eq(e.text, "a: 4 unexpected bytes after the end of the gzip data");
}

static void assert_opens(const char *path, int first_label)
{
    dataset *d;
    uint8_t pixels[H * W];
    err e = {0};
    const dataset_spec spec = {.path = path};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(dataset_kind_name(d), "idx");
    cr_assert(dataset_count(d) == N && dataset_h(d) == H && dataset_w(d) == W && dataset_c(d) == 1);
    cr_assert_eq(dataset_label(d, 0), first_label);
    cr_assert_eq(dataset_classes(d), first_label < 0 ? 0 : 8);
    cr_assert_eq(dataset_read(d, 2, pixels, &e), DDPM_OK);
    for (int i = 0; i < H * W; i++) cr_assert_eq(pixels[i], 10 + 2 * H * W + i);
    dataset_close(d);
}

Test(dataset_idx, finds_the_training_images_and_their_labels)
{
    char dir[PATH_CAP], images[PATH_CAP], labels[PATH_CAP], other[PATH_CAP];
    uint8_t file[SIZE], packed[256];
    make_images(file);
    new_folder(dir);
    new_file(images, dir, "a-images-idx3-ubyte", file, SIZE);
    assert_opens(images, -1);
    assert_opens(dir, -1);
    new_file(other, dir, "b-images-idx3-ubyte", file, SIZE);
    dataset *d;
    const dataset_spec spec = {.path = dir};
    err e = {0};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EINVAL);
    cr_assert_not_null(strstr(e.text, "2 IDX image files; set data.path to one"), "%s", e.text);
    const size_t n = gzip(file, SIZE, packed, sizeof packed);
    new_file(images, dir, "train-images-idx3-ubyte.gz", packed, n);
    assert_opens(dir, -1);
    new_file(labels, dir, "train-labels-idx1-ubyte", LABELS, sizeof LABELS);
    assert_opens(dir, 3);
    assert_opens(images, 3);
    new_file(labels, dir, "a-labels-idx1-ubyte.gz", packed, gzip(LABELS, sizeof LABELS, packed, sizeof packed));
    cr_assert_eq(path_join(images, dir, "a-images-idx3-ubyte", NULL), DDPM_OK);
    assert_opens(images, 3);
    drop_folder(dir);
}

Test(dataset_idx, labels_must_be_as_many_as_images)
{
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t file[SIZE];
    static const uint8_t three[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3};
    dataset *d;
    err e = {0};
    make_images(file);
    new_file(path, new_folder(dir), "train-images-idx3-ubyte", file, SIZE);
    new_file(path, dir, "train-labels-idx1-ubyte", three, sizeof three);
    const dataset_spec spec = {.path = dir};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "3 labels for 4 images"), "%s", e.text);
    drop_folder(dir);
}

Test(dataset_idx, labels_alone_are_said_to_be_labels)
{
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t packed[256];
    dataset *d;
    err e = {0};
    for (int k = 0; k < 2; k++) {
        new_folder(dir);
        if (k == 0) new_file(path, dir, "train-labels-idx1-ubyte", LABELS, sizeof LABELS);
        if (k == 1)
            new_file(path, dir, "train-labels-idx1-ubyte.gz", packed,
                     gzip(LABELS, sizeof LABELS, packed, sizeof packed));
        const dataset_spec spec = {.path = path};
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_EDATA);
        cr_assert_not_null(strstr(e.text, "contains labels; images are expected"), "%s", e.text);
        drop_folder(dir);
    }
}

/* faults B4, F3: the first so many of them and of their labels; the hash is that of what is used. */
Test(dataset_idx, count_takes_the_first)
{
    char dir[PATH_CAP], path[PATH_CAP];
    uint8_t file[SIZE], pixels[H * W];
    uint64_t h[2];
    dataset *d;
    err e = {0};
    new_folder(dir);
    make_images(file);
    for (int k = 0; k < 2; k++) {
        new_file(path, dir, "train-images-idx3-ubyte", file, SIZE);
        new_file(path, dir, "train-labels-idx1-ubyte", LABELS, sizeof LABELS);
        const dataset_spec spec = {.path = dir, .count = 2, .cache_mb = -k};
        cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(dataset_count(d), 2);
        cr_assert_eq(dataset_classes(d), 4);
        cr_assert_eq(dataset_label(d, 1), 0);
        cr_assert_eq(dataset_label(d, 2), -1);
        cr_assert_eq(dataset_read(d, 2, pixels, NULL), DDPM_EINVAL);
        cr_assert_eq(dataset_hash(d, &h[k], NULL), DDPM_OK);
        dataset_close(d);
        file[SIZE - 1] ^= 1; /* of the last image, which is not used */
    }
    cr_assert_eq(h[0], h[1]);
    const dataset_spec more = {.path = dir, .count = 5};
    cr_assert_eq(dataset_open(&more, &d, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(dataset_count(d), N);
    cr_assert_str_eq(dataset_remarked(d, 0), "data.count=5, but the data set has only 4 images");
    dataset_close(d);
    drop_folder(dir);
}

/* The published set: its size, its first labels, and the mean and deviation that everybody normalizes with. */
Test(dataset_idx, reads_mnist)
{
    const char *root = getenv("DDPM_DATA");
    char path[PATH_CAP];
    dataset *d;
    err e = {0};
    if (!root || path_join(path, root, "mnist", NULL) != DDPM_OK || !path_is_dir(path))
        cr_skip_test("DDPM_DATA names no folder with mnist/ in it");
    const dataset_spec spec = {.path = path};
    cr_assert_eq(dataset_open(&spec, &d, &e), DDPM_OK, "%s", e.text);
    cr_assert(dataset_count(d) == 60000 && dataset_h(d) == 28 && dataset_w(d) == 28 && dataset_c(d) == 1);
    cr_assert_eq(dataset_classes(d), 10);
    static const int first[10] = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4};
    for (int i = 0; i < 10; i++) cr_assert_eq(dataset_label(d, i), first[i]);
    double sum = 0.0, squares = 0.0;
    const int64_t n = 60000 * 784;
    for (int64_t i = 0; i < n; i++) {
        const double v = dataset_pixels(d)[i] / 255.0;
        sum += v;
        squares += v * v;
    }
    cr_assert_float_eq(sum / n, 0.1307, 5e-5);
    cr_assert_float_eq(sqrt(squares / n - sum / n * (sum / n)), 0.3081, 5e-5);
    dataset_close(d);
}
