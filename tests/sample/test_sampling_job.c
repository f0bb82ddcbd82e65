/* A set of pictures as the job writes it, with a script in place of a network: what is in the files, who writes them, and
 * what is done again. */
#include "base/mem.h"
#include "data/image.h"
#include "sample/sampling_end.h"
#include "sample/set_check.h"
#include "support/io_support.h"
#include "support/sampling_script.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

TestSuite(sampling_job, .init = script_begin, .fini = script_end, .timeout = 120);

/* ---- readers of their own ---- */

static void expect_pixels(const uint8_t *pixels, int64_t id)
{
    for (int i = 0; i < D; i++) cr_assert_eq(pixels[i], value(id, i), "picture %lld, byte %d", (long long)id, i);
}

static void expect_png(const void *bytes, size_t size, int64_t id)
{
    image one;
    cr_assert_eq(image_decode(bytes, size, "picture", &one, &why), DDPM_OK, "%s", why.text);
    cr_assert(one.h == H && one.w == W && one.c == C);
    expect_pixels(one.pixel, id);
    image_free(&one);
}

static char *bytes_of(const char *name, size_t *size)
{
    char *bytes, path[PATH_CAP];
    cr_assert_eq(path_join(path, set.folder, name, &why), DDPM_OK);
    cr_assert_eq(file_read(path, 1 << 28, &bytes, size, &why), DDPM_OK, "%s", why.text);
    return bytes;
}

/* A member of a POSIX tar archive: header fields by their offsets; returns what follows it. */
static const char *tar_take(const char *at, const char *name, const char **data, size_t *size)
{
    unsigned sum = 8 * ' ';
    for (int i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 0 : (unsigned char)at[i];
    cr_assert_str_eq(at, name);
    cr_assert_eq(strtoul(at + 148, NULL, 8), sum);
    cr_assert(!memcmp(at + 257, "ustar\00000", 8) && at[156] == '0');
    cr_assert(strtoul(at + 100, NULL, 8) == 0644 && strtoul(at + 108, NULL, 8) == 0 && strtoul(at + 136, NULL, 8) == 0);
    *size = strtoul(at + 124, NULL, 8);
    *data = at + 512;
    return *data + (*size + 511) / 512 * 512;
}

static void expect_shard(const char *file, int64_t first, int n)
{
    size_t size, member;
    char *bytes = bytes_of(file, &size), name[32], text[32];
    const char *at = bytes, *data;
    for (int i = 0; i < n; i++) {
        const int64_t id = id_ranges_id(&set.ids, first + i);
        (void)snprintf(name, sizeof name, "%06lld.png", (long long)id);
        at = tar_take(at, name, &data, &member);
        expect_png(data, member, id);
        if (!set.label) continue;
        (void)snprintf(name, sizeof name, "%06lld.cls", (long long)id);
        (void)snprintf(text, sizeof text, "%lld", (long long)label(NULL, id));
        at = tar_take(at, name, &data, &member);
        cr_assert(member == strlen(text) && !memcmp(data, text, member));
    }
    cr_assert_eq(at + 1024 - bytes, (ptrdiff_t)size);
    for (int i = 0; i < 1024; i++) cr_assert_eq(at[i], 0);
    mem_free(bytes);
}

static uint64_t number(const char *at, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;) v = v << 8 | (uint8_t)at[i];
    return v;
}

/* A member of a zip file, read front to back from its local header as a streaming reader does; returns what follows. */
static const char *zip_take(const char *at, const char *name, const char *npy, const char **data)
{
    cr_assert_eq(number(at, 4), 0x04034b50);
    const uint64_t crc = number(at + 14, 4), n = number(at + 26, 2), extra = number(at + 28, 2);
    cr_assert(number(at + 6, 2) == 0 && number(at + 8, 2) == 0, "stored");
    cr_assert(n == strlen(name) && !memcmp(at + 30, name, n));
    const char *more = at + 30 + n, *file = more + extra;
    cr_assert(number(more, 2) == 1 && number(more + 4, 8) == number(more + 12, 8));
    const uint64_t size = number(more + 4, 8), header = 10 + number(file + 8, 2);
    cr_assert_eq(crc32(0, (const Bytef *)file, (uInt)size), crc);
    cr_assert(!memcmp(file, "\x93NUMPY\x01\x00", 8) && header % 64 == 0 && file[header - 1] == '\n');
    cr_assert(!memcmp(file + 10, npy, strlen(npy)), "%.*s", (int)header - 10, file + 10);
    *data = file + header;
    return file + size;
}

static void expect_npz(const char *file)
{
    size_t size;
    char *bytes = bytes_of(file, &size), npy[200];
    const char *data, *labels = NULL;
    const long long n = (long long)set.ids.count;
    (void)snprintf(npy, sizeof npy, "{'descr': '|u1', 'fortran_order': False, 'shape': (%lld, %d, %d, %d), }", n, H, W,
                   C);
    const char *at = zip_take(bytes, "arr_0.npy", npy, &data);
    for (int64_t p = 0; p < n; p++) expect_pixels((const uint8_t *)data + p * D, id_ranges_id(&set.ids, p));
    (void)snprintf(npy, sizeof npy, "{'descr': '<i8', 'fortran_order': False, 'shape': (%lld,), }", n);
    const int members = set.label ? 2 : 1;
    if (set.label) {
        at = zip_take(at, "arr_1.npy", npy, &labels);
        for (int64_t p = 0; p < n; p++)
            cr_assert_eq((int64_t)number(labels + 8 * p, 8), label(NULL, id_ranges_id(&set.ids, p)));
    }
    cr_assert_eq(number(at, 4), 0x02014b50); /* the directory's end, its zip64 record, and where they point to */
    const char *end = bytes + size - 22, *end64 = bytes + number(end - 20 + 8, 8);
    cr_assert(number(end, 4) == 0x06054b50 && number(end + 10, 2) == (uint64_t)members);
    cr_assert(number(end64, 4) == 0x06064b50 && bytes + number(end64 + 48, 8) == at);
    mem_free(bytes);
}

/* ---- what is in the files ---- */

Test(sampling_job, png_files)
{
    make_set("s", &format_png, "5-9,1000-1010");
    draw_set(16);
    for (int64_t p = 0; p < set.ids.count; p++) {
        char name[PICTURE_NAME], *bytes;
        size_t size;
        picture_name(id_ranges_id(&set.ids, p), name);
        bytes = bytes_of(name, &size);
        expect_png(bytes, size, id_ranges_id(&set.ids, p));
        mem_free(bytes);
    }
    cr_assert_not(path_exists(in_dir(set.folder, PICTURE_WORK)));
}

Test(sampling_job, png_files_in_subfolders)
{
    size_t size;
    make_set("s", &format_png, "0-999,123000-123600");
    draw_set(1601);
    char *bytes = bytes_of("123/123456.png", &size);
    expect_png(bytes, size, 123456);
    mem_free(bytes);
    cr_assert(path_exists(in_dir(set.folder, "000/000999.png")) && !path_exists(in_dir(set.folder, "001")));
}

Test(sampling_job, shards_with_and_without_labels)
{
    for (int labelled = 0; labelled < 2; labelled++) {
        make_set(labelled ? "b" : "a", &format_tar, "0-699,5000");
        set.label = labelled ? label : NULL;
        draw_set(701);
        expect_shard("00000.tar", 0, 300);
        expect_shard("00001.tar", 300, 300);
        expect_shard("00002.tar", 600, 101);
        draw_set(0);
    }
}

Test(sampling_job, an_npz_file_with_and_without_labels)
{
    for (int labelled = 0; labelled < 2; labelled++) {
        make_set(labelled ? "b" : "a", &format_npz, "3-2302");
        set.label = labelled ? label : NULL;
        draw_set(2300);
        expect_npz("samples_2300x5x7x3.npz");
        draw_set(0);
    }
}

/* The hash of every picture, as xxhsum's list. */
Test(sampling_job, the_manifest)
{
    make_set("s", &format_png, "0,7");
    draw_set(2);
    char want[400] = "";
    for (int64_t id = 0; id <= 7; id += 7) {
        picture_record r;
        char name[PICTURE_NAME], *bytes;
        size_t size;
        picture_name(id, name);
        bytes = bytes_of(name, &size);
        picture_hash(bytes, size, &r);
        mem_free(bytes);
        for (int i = 0; i < PICTURE_HASH; i++) (void)sprintf(want + strlen(want), "%02x", r.hash[i]);
        (void)sprintf(want + strlen(want), "  %s\n", name);
    }
    char *text = get_text(in_dir(set.folder, MANIFEST));
    cr_expect_str_eq(text, want);
    mem_free(text);
}

/* ---- who writes them ---- */

static const picture_format *const formats[] = {&format_png, &format_tar, &format_npz};
enum { FORMATS = 3 };

Test(sampling_job, the_set_is_the_same_for_every_cut_and_batch)
{
    sampling_tally t;
    for (int f = 0; f < FORMATS; f++) {
        make_set("whole", formats[f], "0-2499");
        draw_set(2500);
        for (int ranks = 2; ranks <= 5; ranks++) {
            make_set("cut", formats[f], "0-2499");
            for (int k = 0; k < ranks; k++) {
                const int rank = (k + 1) % ranks; /* in any order */
                cr_assert_eq(run(rank, ranks, 1 + 37 * ranks, &t), DDPM_OK, "%s", why.text);
                cr_assert_eq(t.complete, k == ranks - 1, "rank %d of %d", rank, ranks);
                cr_assert_eq(t.drawn, t.total);
            }
            cr_assert(same_folders("whole", "cut"), "%s, %d ranks", formats[f]->name, ranks);
            cr_assert_eq(dir_remove(in_dir(root, "cut"), &why), DDPM_OK);
        }
        cr_assert_eq(dir_remove(in_dir(root, "whole"), &why), DDPM_OK);
    }
}

/* ---- what ends it, and what is done again ---- */

Test(sampling_job, stopped_it_has_every_finished_batch_and_goes_on_from_there)
{
    sampling_tally t;
    for (int f = 0; f < FORMATS; f++) {
        make_set("whole", formats[f], "0-1199");
        draw_set(1200);
        make_set("s", formats[f], "0-1199");
        script.stops_in = 6;
        cr_assert_eq(run(0, 1, 100, &t), DDPM_ESAVED);
        cr_expect_str_eq(why.text, "stopped: at most 700 pictures are left; the same command continues with them");
        cr_expect(t.drawn == 500 && !t.complete);
        script.stops_in = 0;
        script.fails_in = 3;
        cr_assert_eq(run(0, 1, 100, &t), DDPM_EBACKEND);
        cr_expect_str_eq(why.text, "the device is gone");
        script.fails_in = 0;
        draw_set(500);
        cr_expect(same_folders("whole", "s"));
        script_clear();
    }
}

/* A unit that a dead process began is not complete, whatever the others find. */
Test(sampling_job, what_the_dead_began_is_not_complete)
{
    for (int f = 0; f < FORMATS; f++) {
        sampling_tally t;
        make_set("s", formats[f], "0-1999");
        script.stops_in = 2;
        cr_assert_eq(run(0, 2, 100, &t), DDPM_ESAVED);
        script.stops_in = 0;
        cr_assert_eq(run(1, 2, 100, &t), DDPM_OK, "%s", why.text);
        cr_expect_not(t.complete);
        draw_set(formats[f] == &format_tar ? 1000 : 900);
        cr_assert_eq(dir_remove(set.folder, &why), DDPM_OK);
    }
}

/* The journals of another description are not read. */
Test(sampling_job, records_bear_the_stamp_of_the_description)
{
    sampling_tally t;
    make_set("s", &format_npz, "0-999");
    script.stops_in = 4;
    cr_assert_eq(run(0, 1, 100, &t), DDPM_ESAVED);
    script.stops_in = 0;
    set.stamp++;
    draw_set(1000);
}

Test(sampling_job, a_picture_that_cannot_be_written_ends_it)
{
    sampling_tally t;
    make_set("s", &format_png, "0-9");
    cr_assert_eq(dir_make(in_dir(set.folder, "000004.png"), &why), DDPM_OK);
    cr_assert_eq(run(0, 1, 3, &t), DDPM_EIO);
    cr_expect_not_null(strstr(why.text, "000004.png: cannot write: Is a directory"), "%s", why.text);
    cr_expect(t.drawn == 4 && !t.complete && !path_exists(in_dir(set.folder, MANIFEST)));
    cr_assert_eq(dir_remove(in_dir(set.folder, "000004.png"), &why), DDPM_OK);
    sampling_tally again;
    cr_assert_eq(run(0, 1, 3, &again), DDPM_OK, "%s", why.text);
    cr_expect(again.complete && again.done == 10 && again.drawn <= 6);
}

enum { MORE = 3000, BEHIND = 1000000 }; /* bytes that are appended where .at is BEHIND */

/* One bit of a picture, of a header, or the end of the file: it is seen, and put right. */
Test(sampling_job, damage_is_found_and_drawn_again)
{
    static const struct {
        int format;
        const char *file;
        long at;            /* the byte to flip; below 0: cut so many bytes off; MORE: BEHIND: append MORE */
        int damaged, drawn; /* pictures that verify names; that are drawn again */
    } cases[] = {
        {0, "000/000700.png", 70, 1, 1},
        {0, "001/001700.png", -1, 1, 1},
        {1, "00001.tar", 100000, 1, 0},
        {1, "00003.tar", 3, 300, 300},
        {1, "00004.tar", -1, 1, 0},
        {1, "00005.tar", BEHIND, 1, 0},
        {2, "samples_2000x5x7x3.npz", 90000, 1, 1},
        {2, "samples_2000x5x7x3.npz", 16, 1, 0},
        {2, "samples_2000x5x7x3.npz", -3, 1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_set("whole", formats[cases[i].format], "0-1999");
        draw_set(2000);
        make_set("s", formats[cases[i].format], "0-1999");
        draw_set(2000);
        cr_expect_eq(faults(SET_DAMAGED) + faults(SET_MISSING) + faults(SET_UNKNOWN), 0);
        if (cases[i].at == BEHIND) {
            struct stat info;
            char path[PATH_CAP];
            cr_assert_eq(path_join(path, set.folder, cases[i].file, &why), DDPM_OK);
            cr_assert(!stat(path, &info) && !truncate(path, info.st_size + MORE));
        } else if (cases[i].at >= 0) {
            flip(cases[i].file, cases[i].at);
        } else {
            struct stat info;
            char path[PATH_CAP];
            cr_assert_eq(path_join(path, set.folder, cases[i].file, &why), DDPM_OK);
            cr_assert(!stat(path, &info) && !truncate(path, info.st_size + cases[i].at));
        }
        cr_expect_eq(faults(SET_DAMAGED), cases[i].damaged, "case %zu: %lld", i, (long long)faults(SET_DAMAGED));
        sampling_tally t;
        cr_assert_eq(run(0, 1, 64, &t), DDPM_OK, "%s", why.text);
        cr_expect(t.complete && (cases[i].drawn ? t.drawn == cases[i].drawn : true), "case %zu: %lld", i,
                  (long long)t.drawn);
        cr_expect(same_folders("whole", "s"), "case %zu", i);
        script_clear();
    }
}

Test(sampling_job, what_is_missing_or_unknown_is_found)
{
    make_set("s", &format_png, "0-1999");
    draw_set(2000);
    cr_assert_eq(unlink(in_dir(set.folder, "001/001234.png")), 0);
    put_file(in_dir(set.folder, "001/001235.png"), "x");
    put_file(in_dir(set.folder, "001/002000.png"), "x");
    put_file(in_dir(set.folder, "000003.png"), "x");
    put_file(in_dir(set.folder, "00000.tar"), "x");
    put_file(in_dir(set.folder, "notes.txt"), "mine");
    cr_expect(faults(SET_MISSING) == 1 && faults(SET_DAMAGED) == 1 && faults(SET_UNKNOWN) == 3);
    cr_assert_eq(unlink(in_dir(set.folder, MANIFEST)), 0);
    set_result r;
    cr_expect_eq(set_check(&set, NULL, NULL, NULL, &r, &why), DDPM_ENOINPUT);
    put_file(in_dir(set.folder, MANIFEST), "not a hash\n");
    cr_expect_eq(set_check(&set, NULL, NULL, NULL, &r, &why), DDPM_EDATA);
    cr_expect_not_null(strstr(why.text, MANIFEST ": line 1 is not a line"), "%s", why.text);
}

/* Ids may be added to a folder of PNG files; its manifest then has all. */
Test(sampling_job, a_set_of_files_grows)
{
    make_set("s", &format_png, "0-11");
    draw_set(12);
    make_set("s", &format_png, "0-3");
    draw_set(0);
    cr_expect_eq(faults(SET_UNKNOWN) + faults(SET_MISSING), 0);
    make_set("s", &format_png, "2-20,30");
    draw_set(10);
    make_set("whole", &format_png, "0-20,30");
    draw_set(22);
    cr_expect(same_bytes(in_dir(root, "s/" MANIFEST), in_dir(root, "whole/" MANIFEST)));
    make_set("s", &format_png, "2-20,30");
    cr_assert_eq(unlink(in_dir(set.folder, "000001.png")), 0);
    cr_expect_eq(faults(SET_MISSING), 1);
}

/* Ten million pictures are neither listed nor allocated at the start. */
Test(sampling_job, only_the_units_in_work_are_looked_at)
{
    sampling_tally t;
    for (int f = 0; f < 2; f++) {
        make_set("s", formats[f], "0-4294967295");
        script.stops_in = 3;
        cr_assert_eq(run(0, 1, 512, &t), DDPM_ESAVED);
        cr_expect(t.drawn == 1024 && t.total == (int64_t)1 << 32 && !t.seen);
        cr_assert_eq(dir_remove(set.folder, &why), DDPM_OK);
    }
}
