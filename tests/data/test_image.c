#include "data/image_codec.h"

#include "base/mem.h"
#include "data_files.h"
#include <glob.h>
#include <zlib.h>

/* A P5 or P6 file as Pillow or numpy wrote it: read here, so that the reader under test has no part in it. */
static image read_expected(const char *path)
{
    image out = {0};
    int kind, h, w;
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    cr_assert_eq(fscanf(f, "P%d\n%d %d\n255", &kind, &w, &h), 3, "%s", path);
    cr_assert_eq(fgetc(f), '\n');
    cr_assert_eq(image_create(&out, h, w, kind == 5 ? 1 : 3, path, NULL), DDPM_OK);
    const size_t size = (size_t)(h * w * out.c);
    cr_assert_eq(fread(out.pixel, 1, size, f), size, "%s", path);
    fclose(f);
    return out;
}

/* Same shape, and no sample further off than `tolerance`. */
static void assert_same(const image *got, const image *want, int tolerance, const char *what)
{
    cr_assert(got->h == want->h && got->w == want->w && got->c == want->c, "%s: %d x %d x %d, not %d x %d x %d", what,
              got->h, got->w, got->c, want->h, want->w, want->c);
    for (int i = 0; i < got->h * got->w * got->c; i++)
        cr_assert(abs(got->pixel[i] - want->pixel[i]) <= tolerance, "%s: sample %d is %d, not %d", what, i,
                  got->pixel[i], want->pixel[i]);
}

static image load(const char *path)
{
    image img;
    err e = {0};
    cr_assert_eq(image_load(path, &img, &e), DDPM_OK, "%s", e.text);
    return img;
}

/* faults F17: among them the JPEG files that are odd and not damaged (odd_*), and those of inks. */
Test(image, reads_every_kind_of_file_as_pillow_does)
{
    glob_t g;
    cr_assert_eq(glob(FIXTURE("*.p[gp]m"), 0, NULL, &g), 0);
    cr_assert_geq(g.gl_pathc, 50);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        char path[PATH_CAP];
        strcpy(path, g.gl_pathv[i]);
        image want = read_expected(path);
        path[strlen(path) - 4] = '\0'; /* less .ppm or .pgm */
        image got = load(path);
        assert_same(&got, &want, 0, path);
        image_free(&got);
        image_free(&want);
    }
    globfree(&g);
}

Test(image, format_is_told_from_the_bytes_not_the_name)
{
    char dir[PATH_CAP], path[PATH_CAP];
    copy_file(FIXTURE("rgb8.png"), new_folder(dir), "a.jpg");
    cr_assert_eq(path_join(path, dir, "a.jpg", NULL), DDPM_OK);
    image got = load(path), want = load(FIXTURE("rgb8.png"));
    assert_same(&got, &want, 0, path);
    image_free(&got);
    image_free(&want);
    drop_folder(dir);
}

Test(image, refuses_what_is_damaged_and_says_what_is_wrong)
{
    static const struct {
        const char *path, *says;
    } bad[] = {
        {FIXTURE("bad_truncated.png"), "truncated"},
        {FIXTURE("bad_no_end.png"), "truncated"},
        {FIXTURE("bad_bit.png"), "damaged PNG"},
        {FIXTURE("bad_side.png"), "2147483647 x 1 pixels; the limit"},
        {FIXTURE("bad_wide.png"), "20000 x 4 pixels; the limit"}, /* faults F17 */
        {FIXTURE("bad_area.png"), "16384 x 16384 pixels; the limit"},
        {FIXTURE("bad_promise.png"), "declares 8000 x 8000 pixels"},
        {FIXTURE("bad_zero.png"), "image without pixels (0 x 5)"},
        {FIXTURE("bad_truncated.jpg"), "damaged JPEG"},
        {FIXTURE("bad_second.jpg"), "damaged JPEG"},
        {FIXTURE("bad_restart.jpg"), "damaged JPEG"},
        {FIXTURE("bad_side.jpg"), "65500 x 65500 pixels; the limit"},
        {FIXTURE("bad_promise.jpg"), "declares 8000 x 8000 pixels"},
        {FIXTURE("bad_header.jpg"), "damaged JPEG"},
        {FIXTURE("bad_empty.png"), "an empty file"},
        {FIXTURE("bad_text.jpg"), "neither a PNG nor a JPEG"},
        {FIXTURE("bad_gif.png"), "neither a PNG nor a JPEG"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        image img;
        err e = {0};
        cr_assert_eq(image_load(bad[i].path, &img, &e), DDPM_EDATA, "%s was read", bad[i].path);
        cr_assert_null(img.pixel);
        cr_assert_not_null(strstr(e.text, bad[i].says), "%s", e.text);
        cr_assert_not_null(strstr(e.text, bad[i].path), "%s", e.text);
    }
    image img;
    cr_assert_eq(image_load(FIXTURE("not there.png"), &img, NULL), DDPM_ENOINPUT);
    cr_assert_eq(image_load(DDPM_TESTS, &img, NULL), DDPM_EDATA); /* a folder */
}

/* Every prefix of a good file is an error, and none of them is read past its end (under a sanitizer). */
Test(image, refuses_every_truncation)
{
    static const char *const files[] = {FIXTURE("rgb8.png"), FIXTURE("palette8_alpha.png"), FIXTURE("exif6.png"),
                                        FIXTURE("exif6.jpg"), FIXTURE("progressive.jpg")};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char *bytes;
        size_t size;
        image img;
        cr_assert_eq(file_read(files[f], 1 << 20, &bytes, &size, NULL), DDPM_OK);
        for (size_t n = 0; n < size; n++) {
            void *exact = malloc(n ? n : 1);
            memcpy(exact, bytes, n);
            cr_assert_neq(image_decode(exact, n, files[f], &img, NULL), DDPM_OK, "%s: %zu of %zu bytes", files[f], n,
                          size);
            free(exact);
        }
        mem_free(bytes);
    }
}

/* faults C6: 8192 x 8192 pixels promised, 192 MiB, in 200 KiB that a header alone fills. */
Test(image, a_header_that_lies_costs_no_memory)
{
    enum { SIZE = 200 << 10 };
    static const char *const files[] = {FIXTURE("rgb8.png"), FIXTURE("rgb444.jpg"), FIXTURE("progressive.jpg")};
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        static const uint8_t side[2] = {8192 >> 8, 8192 & 255};
        char *bytes;
        size_t size;
        image img;
        err e = {0};
        uint8_t *hostile = calloc(1, SIZE);
        cr_assert_eq(file_read(files[f], SIZE, &bytes, &size, NULL), DDPM_OK);
        memcpy(hostile, bytes, size);
        uint8_t *at = hostile + 18; /* PNG: the low halves of width and height, and the checksum of their chunk */
        if (f > 0) {
            for (at = hostile; at[0] != 0xff || (at[1] != 0xc0 && at[1] != 0xc2);) at++;
            at += 5;
        }
        memcpy(at, side, 2);
        memcpy(at + (f > 0 ? 2 : 4), side, 2);
        for (int i = 0; f == 0 && i < 4; i++) hostile[29 + i] = (uint8_t)(crc32(0, hostile + 12, 17) >> (24 - 8 * i));
        const long before = peak_mib();
        cr_assert_eq(image_decode(hostile, SIZE, files[f], &img, &e), DDPM_EDATA);
        cr_assert_not_null(strstr(e.text, "damaged"), "%s", e.text);
        cr_assert_lt(peak_mib() - before, 48, "%s: %ld MiB", files[f], peak_mib() - before);
        mem_free(bytes);
        free(hostile);
    }
}

/* A TIFF block with the maker's name, then the orientation 6, as cameras write it. */
static const uint8_t EXIF[] = {'I',  'I', '*', 0, 8, 0, 0, 0, 2,   0, /* the first directory is at 8: 2 entries */
                               0x0f, 1,   2,   0, 3, 0, 0, 0, 'x', 'y', 0, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0};

static int orientation_of(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    const int orientation = exif_orientation(exact, size);
    free(exact);
    return orientation;
}

Test(image, hostile_exif_blocks_are_upright)
{
    uint8_t block[sizeof EXIF];
    cr_assert_eq(orientation_of(EXIF, sizeof EXIF), 6);
    for (size_t n = 0; n < sizeof EXIF; n++) cr_assert_eq(orientation_of(EXIF, n), 1, "%zu bytes", n);
    for (size_t byte = 0; byte < sizeof EXIF; byte++) /* whatever one byte becomes, nothing is read past the end */
        for (int v = 0; v < 256; v++) {
            memcpy(block, EXIF, sizeof EXIF);
            block[byte] = (uint8_t)v;
            const int o = orientation_of(block, sizeof block);
            cr_assert(o >= 1 && o <= 8);
            if (byte == 30) cr_assert_eq(o, v >= 1 && v <= 8 ? v : 1);
        }
    memcpy(block, EXIF, sizeof EXIF);
    memset(block + 4, 0xff, 4); /* the directory is at 2^32 - 1 */
    cr_assert_eq(orientation_of(block, sizeof block), 1);
    memcpy(block, EXIF, sizeof EXIF);
    block[22] = 0x13, block[9] = 0xff; /* no orientation, and 65 thousand entries more */
    cr_assert_eq(orientation_of(block, sizeof block), 1);
}

Test(image, decoders_keep_silent)
{
    char dir[PATH_CAP], path[PATH_CAP];
    image img;
    cr_assert_eq(path_join(path, new_folder(dir), "stderr", NULL), DDPM_OK);
    fflush(stderr);
    FILE *was = freopen(path, "w", stderr);
    cr_assert_not_null(was);
    cr_assert_neq(image_load(FIXTURE("bad_bit.png"), &img, NULL), DDPM_OK);
    cr_assert_neq(image_load(FIXTURE("bad_side.png"), &img, NULL), DDPM_OK);
    cr_assert_neq(image_load(FIXTURE("bad_truncated.jpg"), &img, NULL), DDPM_OK);
    cr_assert_neq(image_load(FIXTURE("bad_header.jpg"), &img, NULL), DDPM_OK);
    fflush(stderr);
    const long written = ftell(stderr);
    cr_assert_eq(written, 0);
    drop_folder(dir);
}

Test(image, limits_are_exact)
{
    image img;
    cr_assert_eq(image_create(&img, IMAGE_MAX_SIDE, 1, 1, "a", NULL), DDPM_OK);
    image_free(&img);
    cr_assert_eq(image_create(&img, 1, IMAGE_MAX_SIDE + 1, 1, "a", NULL), DDPM_EDATA);
    cr_assert_eq(image_create(&img, 8192, 8192, 1, "a", NULL), DDPM_OK);
    image_free(&img);
    cr_assert_eq(image_create(&img, 8192, 8193, 1, "a", NULL), DDPM_EDATA);
    cr_assert_eq(image_create(&img, 0, 5, 1, "a", NULL), DDPM_EDATA);
    cr_assert_eq(image_create(&img, 5, 5, 2, "a", NULL), DDPM_EINVAL);
}

Test(image, grey_is_pillows_luma)
{
    image colour = load(FIXTURE("resize_wide.png")), want = load(FIXTURE("resize_wide_grey.png")), grey, back;
    cr_assert_eq(image_to(&colour, 1, &grey, NULL), DDPM_OK);
    assert_same(&grey, &want, 0, "luma");
    cr_assert_eq(image_to(&grey, 3, &back, NULL), DDPM_OK);
    for (int i = 0; i < 3 * grey.h * grey.w; i++) cr_assert_eq(back.pixel[i], grey.pixel[i / 3]);
    image_free(&colour);
    image_free(&want);
    image_free(&grey);
    image_free(&back);
}

Test(image, resizes_and_crops_as_pillow_and_torchvision_do)
{
    glob_t g;
    cr_assert_eq(glob(FIXTURE("resize_*_*x*.png"), 0, NULL, &g), 0);
    cr_assert_eq(g.gl_pathc, 18);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        char source[PATH_CAP];
        strcpy(source, g.gl_pathv[i]);
        strcpy(strrchr(source, '_'), ".png");
        image in = load(source), want = load(g.gl_pathv[i]), got;
        cr_assert_eq(image_resize(&in, want.h, want.w, &got, NULL), DDPM_OK);
        assert_same(&got, &want, 0, g.gl_pathv[i]);
        image_free(&in);
        image_free(&want);
        image_free(&got);
    }
    globfree(&g);
}

/* A line of 16384 pixels covers 64 x 64 only as 64 x 1048576: what is cropped away must not be computed. */
Test(image, resizing_a_strip_takes_no_memory_for_what_is_cropped)
{
    image strip, out;
    cr_assert_eq(image_create(&strip, 1, IMAGE_MAX_SIDE, 3, "strip", NULL), DDPM_OK);
    memset(strip.pixel, 77, 3 * IMAGE_MAX_SIDE);
    cr_assert_eq(image_resize(&strip, 64, 64, &out, NULL), DDPM_OK);
    for (int i = 0; i < 3 * 64 * 64; i++) cr_assert_eq(out.pixel[i], 77);
    image_free(&strip);
    image_free(&out);
}

/* torchvision.utils.make_grid: tile k at row k / columns, 2 pixels of nothing around each. */
Test(image, grid_is_laid_out_as_make_grid_does)
{
    enum { N = 5, H = 2, W = 3, COLUMNS = 2 };
    uint8_t tiles[N * H * W];
    const int shape[3] = {H, W, 1};
    image g;
    for (int i = 0; i < N * H * W; i++) tiles[i] = (uint8_t)(i + 1);
    cr_assert_eq(image_grid(tiles, N, shape, COLUMNS, &g, NULL), DDPM_OK);
    static const uint8_t want[14 * 12] = {
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* the gap above */
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 1,  2,  3,  0, 0, 7,  8,  9,  0, 0, /* */
        0, 0, 4,  5,  6,  0, 0, 10, 11, 12, 0, 0, /* */
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 13, 14, 15, 0, 0, 19, 20, 21, 0, 0, /* */
        0, 0, 16, 17, 18, 0, 0, 22, 23, 24, 0, 0, /* */
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 25, 26, 27, 0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 28, 29, 30, 0, 0, 0,  0,  0,  0, 0, /* */
        0, 0, 0,  0,  0,  0, 0, 0,  0,  0,  0, 0, /* */
    };
    cr_assert(g.h == 14 && g.w == 12 && g.c == 1);
    cr_assert_arr_eq(g.pixel, want, sizeof want);
    image_free(&g);
    cr_assert_eq(image_grid(tiles, 0, shape, 1, &g, NULL), DDPM_EINVAL);
    cr_assert_eq(image_grid(tiles, 1, (const int[3]){20000, 1, 1}, 1, &g, NULL), DDPM_EDATA);
}

/* faults F11: the overview of large pictures was over image_grid()'s limit, and the command failed after its work. */
Test(image, a_grid_takes_as_many_tiles_as_fit)
{
    static const struct {
        int n, h, w, asked, tiles, columns;
    } known[] = {
        {256, 32, 32, 0, 256, 16}, {7, 8, 8, 0, 7, 3},          {7, 8, 8, 2, 7, 2},
        {3, 8, 8, 200, 3, 3},      {256, 512, 512, 0, 240, 16}, {60, 1024, 1024, 0, 56, 8},
        {4, 4096, 4096, 0, 2, 2},  {1, 4096, 4096, 0, 1, 1},    {256, 128, 128, 256, 256, 126},
        {256, 8, 4096, 0, 256, 3}, {256, 4096, 8, 0, 256, 86},  {5, 16384, 1, 0, 0, 0},
        {1, 8190, 8190, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const int shape[3] = {known[i].h, known[i].w, 1};
        int columns = known[i].asked;
        const int tiles = image_grid_tiles(known[i].n, shape, &columns);
        cr_expect_eq(tiles, known[i].tiles, "%zu: %d tiles", i, tiles);
        if (tiles == 0) continue;
        cr_expect_eq(columns, known[i].columns, "%zu: %d columns", i, columns);
        if (tiles * known[i].h * known[i].w > 1 << 20) continue;
        image g;
        uint8_t *black = calloc((size_t)tiles, (size_t)(known[i].h * known[i].w));
        cr_expect_eq(image_grid(black, tiles, shape, columns, &g, NULL), DDPM_OK);
        image_free(&g);
        free(black);
    }
}

static bool is_whole(const char *path, int h, int w, int c)
{
    char *bytes;
    size_t size;
    cr_assert_eq(file_read(path, 1 << 20, &bytes, &size, NULL), DDPM_OK);
    const bool whole = image_png_bytes_are_whole(bytes, size, h, w, c);
    mem_free(bytes);
    return whole;
}

/* Only a picture of which every byte is as it was written, and of the size asked for. */
Test(image, a_whole_png_is_told_from_a_damaged_one)
{
    uint8_t *png, *bytes;
    size_t size;
    image in = load(FIXTURE("rgb8.png"));
    cr_assert_eq(image_encode_png(&in, &png, &size, NULL), DDPM_OK);
    cr_expect(image_png_bytes_are_whole(png, size, in.h, in.w, 3));
    cr_expect_not(image_png_bytes_are_whole(png, size, in.h + 1, in.w, 3));
    cr_expect_not(image_png_bytes_are_whole(png, size, in.h, in.w + 256, 3));
    cr_expect_not(image_png_bytes_are_whole(png, size, in.h, in.w, 1));
    for (size_t n = 0; n < size; n++) { /* no more than so many bytes may be read */
        cr_assert_eq(mem_array(&bytes, n + 1, 1, "part", NULL), DDPM_OK);
        memcpy(bytes, png, n);
        cr_assert_not(image_png_bytes_are_whole(bytes, n, in.h, in.w, 3), "cut after %zu bytes", n);
        mem_free(bytes);
    }
    cr_assert_eq(mem_array(&bytes, size + 1, 1, "copy", NULL), DDPM_OK);
    memcpy(bytes, png, size);
    for (size_t k = 0; k < size; k++) {
        bytes[k] ^= 0x10;
        cr_assert_not(image_png_bytes_are_whole(bytes, size, in.h, in.w, 3), "byte %zu changed", k);
        bytes[k] ^= 0x10;
    }
    cr_expect_not(image_png_bytes_are_whole(bytes, size + 1, in.h, in.w, 3), "a byte too many");
    cr_expect_not(is_whole(FIXTURE("grey1.png"), 1, 1, 1));
    mem_free(bytes);
    free(png);
    image_free(&in);
}

Test(image, who_wrote_a_png_is_known_from_it)
{
    char dir[PATH_CAP], path[PATH_CAP];
    image in = load(FIXTURE("grey8.png"));
    cr_assert_eq(path_join(path, new_folder(dir), "a.png", NULL), DDPM_OK);
    cr_assert_eq(image_write_png(path, &in, NULL), DDPM_OK);
    cr_expect_not(image_png_is_by(path, "ddpm noise"));
    cr_assert_eq(image_write_png_by(path, &in, "ddpm noise", NULL), DDPM_OK);
    cr_expect(image_png_is_by(path, "ddpm noise") && is_whole(path, in.h, in.w, 1));
    cr_expect(!image_png_is_by(path, "ddpm") && !image_png_is_by(path, "ddpm noised"));
    image back = load(path);
    assert_same(&back, &in, 0, path);
    image_free(&in);
    image_free(&back);
    drop_folder(dir);
}

Test(image, what_is_written_is_read_back)
{
    static const char *const files[] = {FIXTURE("rgb8.png"), FIXTURE("grey8.png"), FIXTURE("one.png"),
                                        FIXTURE("resize_strip.png")};
    char dir[PATH_CAP], path[PATH_CAP];
    cr_assert_eq(path_join(path, new_folder(dir), "out.png", NULL), DDPM_OK);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        image in = load(files[i]);
        cr_assert_eq(image_write_png(path, &in, NULL), DDPM_OK);
        image back = load(path);
        assert_same(&back, &in, 0, files[i]);
        image_free(&in);
        image_free(&back);
    }
    drop_folder(dir);
}

Test(image, writing_where_there_is_no_folder_is_an_io_error)
{
    image in = load(FIXTURE("one.png"));
    err e = {0};
    cr_assert_eq(image_write_png("/no such folder/a.png", &in, &e), DDPM_EIO);
    cr_assert_not_null(strstr(e.text, "/no such folder/a.png"), "%s", e.text);
    image_free(&in);
}
