#include "base/mem.h"
#include "io/checkpoint_dir.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const FILES[] = {"config.yaml", "unet/config.json", "unet/w.safetensors", "training/state.bin",
                                    "training/deep/er/x"};
enum { N_FILES = 5 };

/* A sealed folder of small files of different sizes, one of them empty. */
static void make_checkpoint(const char *dir, int seed)
{
    static const char *const folders[] = {"unet", "training/deep/er"};
    char text[4000];
    err e = {0};
    for (int i = 0; i < 2; i++) cr_assert_eq(dir_make(in_dir(dir, folders[i]), &e), DDPM_OK, "%s", e.text);
    for (int i = 0; i < N_FILES; i++) {
        const int n = i * i * 97;
        for (int k = 0; k < n; k++) text[k] = (char)(1 + (k * 31 + i * 7 + seed) % 255);
        text[n] = '\0';
        put_file(in_dir(dir, FILES[i]), text);
    }
    cr_assert_eq(checkpoint_seal(dir, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(checkpoint_verify(dir, &e), DDPM_OK, "%s", e.text);
}

/* n checkpoints, `every` steps apart. */
static void make_checkpoints(const char *dir, int n, int every)
{
    for (int i = 1; i <= n; i++) {
        char name[CHECKPOINT_NAME_CAP];
        make_checkpoint(in_dir(dir, checkpoint_name(name, every * i)), i);
    }
}

static ddpm_status prune(const char *dir, int64_t newest, int keep)
{
    checkpoint_known known = {.n = 0};
    const ddpm_status st = checkpoint_prune(dir, newest, keep, &known, NULL, NULL);
    checkpoint_known_free(&known);
    return st;
}

static void flip(const char *path, int64_t bit)
{
    unsigned char c;
    FILE *f = fopen(path, "r+b");
    cr_assert_not_null(f);
    cr_assert_eq(fseek(f, (long)(bit / 8), SEEK_SET), 0);
    cr_assert_eq(fread(&c, 1, 1, f), 1);
    c = (unsigned char)(c ^ 1u << bit % 8);
    cr_assert_eq(fseek(f, (long)(bit / 8), SEEK_SET), 0);
    cr_assert_eq(fwrite(&c, 1, 1, f), 1);
    cr_assert_eq(fclose(f), 0);
}

static int64_t bits_in(const char *path)
{
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    return 8 * (int64_t)info.st_size;
}

Test(checkpoint_dir, one_flipped_bit_is_always_found_and_its_file_named)
{
    char dir[PATH_CAP];
    uint64_t random = 1;
    make_checkpoint(scratch_make(dir), 0);
    for (int i = 0; i < 200; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const char *name = FILES[1 + (random >> 60) % (N_FILES - 1)];
        const char *path = in_dir(dir, name);
        const int64_t bit = (int64_t)((random >> 20) % (uint64_t)bits_in(path));
        err e = {0};
        flip(path, bit);
        cr_assert_eq(checkpoint_verify(dir, &e), DDPM_EDATA, "%s, bit %lld", name, (long long)bit);
        cr_assert_not_null(strstr(e.text, name), "%s", e.text);
        flip(path, bit);
    }
    err e = {0};
    cr_assert_eq(checkpoint_verify(dir, &e), DDPM_OK, "%s", e.text);
    scratch_remove(dir);
}

Test(checkpoint_dir, every_bit_of_the_seal_itself_counts)
{
    char dir[PATH_CAP];
    make_checkpoint(scratch_make(dir), 0);
    const char *seal = in_dir(dir, "training/integrity.json");
    char path[PATH_CAP];
    (void)snprintf(path, sizeof path, "%s", seal);
    for (int64_t bit = 0, n = bits_in(path); bit < n - 8; bit++) { /* but the final newline */
        err e = {0};
        flip(path, bit);
        cr_assert_eq(checkpoint_verify(dir, &e), DDPM_EDATA, "bit %lld", (long long)bit);
        flip(path, bit);
    }
    scratch_remove(dir);
}

Test(checkpoint_dir, lost_bytes_and_files_are_found)
{
    char dir[PATH_CAP];
    err e = {0};
    make_checkpoint(scratch_make(dir), 0);
    cr_assert_eq(truncate(in_dir(dir, "unet/w.safetensors"), 387), 0);
    cr_assert_eq(checkpoint_verify(dir, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "unet/w.safetensors: damaged: the file has 387 bytes, but 388 were saved"), "%s",
                       e.text);
    make_checkpoint(dir, 0);
    cr_assert_eq(unlink(in_dir(dir, "config.yaml")), 0); /* the empty one */
    cr_assert_eq(checkpoint_verify(dir, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "config.yaml: cannot open"), "%s", e.text);
    cr_assert_eq(unlink(in_dir(dir, "training/integrity.json")), 0);
    cr_assert_eq(checkpoint_verify(dir, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "not a complete checkpoint"), "%s", e.text);
    cr_assert_eq(checkpoint_verify(in_dir(dir, "none"), &e), DDPM_ENOINPUT);
    scratch_remove(dir);
}

/* printf abc | xxh128sum */
Test(checkpoint_dir, the_hash_is_xxh128sums)
{
    char dir[PATH_CAP], *text;
    size_t size;
    err e = {0};
    put_file(in_dir(scratch_make(dir), "f"), "abc");
    cr_assert_eq(checkpoint_seal(dir, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(file_read(in_dir(dir, "training/integrity.json"), 4096, &text, &size, &e), DDPM_OK);
    cr_assert_str_eq(text, "{\n  \"files\": {\n    \"f\": {\n      \"bytes\": 3,\n      \"xxh3_128\": "
                           "\"06b05ab6733a618578af5f94892f3950\"\n    }\n  },\n  \"format\": 1\n}\n");
    mem_free(text);
    scratch_remove(dir);
}

Test(checkpoint_dir, a_seal_cannot_point_outside)
{
    static const char *const names[] = {"../secret", "/etc/hostname", "a/../../secret", "", "./x", "a//b", "a/"};
    char dir[PATH_CAP], text[300];
    err e = {0};
    cr_assert_eq(dir_make(in_dir(scratch_make(dir), "c/training"), &e), DDPM_OK, "%s", e.text);
    put_file(in_dir(dir, "secret"), "abc");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        (void)snprintf(text, sizeof text,
                       "{\"files\": {\"%s\": {\"bytes\": 3, \"xxh3_128\": \"06b05ab6733a618578af5f94892f3950\"}}, "
                       "\"format\": 1}",
                       names[i]);
        put_file(in_dir(dir, "c/training/integrity.json"), text);
        cr_assert_eq(checkpoint_verify(in_dir(dir, "c"), &e), DDPM_EDATA, "%s", names[i]);
        cr_assert_not_null(strstr(e.text, "damaged entry"), "%s", e.text);
    }
    cr_assert_eq(symlink("../secret", in_dir(dir, "c/link")), 0);
    put_file(
        in_dir(dir, "c/training/integrity.json"),
        "{\"files\": {\"link\": {\"bytes\": 3, \"xxh3_128\": \"06b05ab6733a618578af5f94892f3950\"}}, \"format\": 1}");
    cr_assert_eq(checkpoint_verify(in_dir(dir, "c"), &e), DDPM_EDATA);
    scratch_remove(dir);
}

Test(checkpoint_dir, a_file_name_that_cannot_be_sealed_is_refused)
{
    char dir[PATH_CAP];
    err e = {0};
    put_file(in_dir(scratch_make(dir), "a b"), "x");
    cr_assert_eq(checkpoint_seal(dir, &e), DDPM_EINVAL);
    cr_assert_not_null(strstr(e.text, "a b"), "%s", e.text);
    cr_assert_not(path_exists(in_dir(dir, "training/integrity.json")));
    scratch_remove(dir);
}

Test(checkpoint_dir, lists_its_own_names_only_newest_first)
{
    static const char *const names[] = {"step_00000009",
                                        "step_00000100",
                                        "step_123456789",
                                        "step_00000000",
                                        "step_9",
                                        "step_000000010",
                                        "step_0000000x",
                                        ".tmp-step_00000500-abcdef",
                                        "step_-0000001",
                                        "samples",
                                        "step_99999999999999999999999"};
    char dir[PATH_CAP];
    int64_t *steps;
    int n;
    err e = {0};
    scratch_make(dir);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cr_assert_eq(dir_make(in_dir(dir, names[i]), &e), DDPM_OK, "%s", e.text);
    put_file(in_dir(dir, "step_00000777"), "a file");
    cr_assert_eq(checkpoint_list(dir, &steps, &n, &e), DDPM_OK, "%s", e.text);
    const int64_t expected[] = {123456789, 100, 9, 0};
    cr_assert_eq(n, 4);
    cr_assert_arr_eq(steps, expected, sizeof expected);
    mem_free(steps);
    cr_assert_eq(checkpoint_list(in_dir(dir, "none"), &steps, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(n, 0);
    mem_free(steps);
    scratch_remove(dir);
}

Test(checkpoint_dir, prune_keeps_the_newest)
{
    char dir[PATH_CAP];
    int64_t *steps;
    int n;
    err e = {0};
    scratch_make(dir);
    make_checkpoints(dir, 5, 10);
    cr_assert_eq(prune(dir, 50, 0), DDPM_EINVAL);
    cr_assert_eq(prune(dir, 50, 5), DDPM_OK);
    cr_assert_eq(checkpoint_list(dir, &steps, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(n, 5);
    mem_free(steps);
    cr_assert_eq(prune(dir, 50, 2), DDPM_OK);
    cr_assert_eq(checkpoint_list(dir, &steps, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(n, 2);
    cr_assert_eq(steps[0] * 1000 + steps[1], 50040);
    mem_free(steps);
    scratch_remove(dir);
}

/* The steps that are left of 10, 20 .. 50, where some are damaged, as a number of that many digits in base 10. */
static int left_of(int damaged, int64_t newest, int keep)
{
    char dir[PATH_CAP];
    int64_t *steps;
    int n, left = 0;
    err e = {0};
    checkpoint_known known = {.n = 0};
    scratch_make(dir);
    for (int i = 1; i <= 5; i++) {
        char name[CHECKPOINT_NAME_CAP], path[PATH_CAP];
        (void)snprintf(path, sizeof path, "%s", in_dir(dir, checkpoint_name(name, 10 * i)));
        make_checkpoint(path, i);
        if (damaged >> i & 1) flip(in_dir(path, "unet/w.safetensors"), 8);
    }
    cr_assert_eq(checkpoint_prune(dir, newest, keep, &known, NULL, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(checkpoint_list(dir, &steps, &n, &e), DDPM_OK, "%s", e.text);
    for (int i = n - 1; i >= 0; i--) left = 10 * left + (int)(steps[i] / 10);
    mem_free(steps);
    checkpoint_known_free(&known);
    scratch_remove(dir);
    return left;
}

/* faults A1: the highest numbers were kept, whole or not, and the one just saved was not. */
Test(checkpoint_dir, prune_counts_whole_ones_and_never_takes_the_one_just_saved)
{
    enum { BIT3 = 1 << 3, BIT4 = 1 << 4, BIT5 = 1 << 5 };
    cr_expect_eq(left_of(0, 50, 1), 5);
    cr_expect_eq(left_of(BIT4, 50, 2), 345);
    cr_expect_eq(left_of(BIT3 | BIT4, 50, 3), 12345);
    cr_expect_eq(left_of(BIT5, 40, 1), 45, "a later one");
    cr_expect_eq(left_of(0, 30, 2), 2345, "later ones");
    cr_expect_eq(left_of(BIT5, 50, 1), 45, "the last whole one");
}

/* One that holds a file of somebody's is not removed with it, and that is said once. */
Test(checkpoint_dir, prune_spares_what_somebody_put_there)
{
    char dir[PATH_CAP], note[PATH_CAP];
    int64_t *steps;
    int n;
    err e = {0};
    notes said = {.text = ""}, again = {.text = ""};
    checkpoint_known known = {.n = 0};
    scratch_make(dir);
    make_checkpoints(dir, 4, 1);
    put_file(in_dir(dir, "step_00000002/unet/NOTE.txt"), "the best so far");
    cr_assert_eq(symlink(".", in_dir(dir, "step_00000001/here")), 0);
    (void)snprintf(note, sizeof note, "%s", in_dir(dir, "step_00000002/unet/NOTE.txt"));
    cr_assert_eq(checkpoint_prune(dir, 4, 1, &known, &said, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(checkpoint_prune(dir, 4, 1, &known, &again, &e), DDPM_OK, "%s", e.text);
    cr_expect(path_exists(note));
    cr_expect_not_null(strstr(said.text, "NOTE.txt: was not written by this program"), "%s", said.text);
    cr_expect_not_null(strstr(said.text, "here: was not written by this program"), "%s", said.text);
    cr_expect_str_eq(again.text, "");
    cr_assert_eq(checkpoint_list(dir, &steps, &n, &e), DDPM_OK, "%s", e.text);
    cr_expect_eq(n, 3);
    mem_free(steps);
    checkpoint_known_free(&known);
    scratch_remove(dir);
}

/* A seal that is lost is damage, whatever is in its place. */
Test(checkpoint_dir, falls_back_from_a_seal_that_leads_nowhere)
{
    char dir[PATH_CAP], path[PATH_CAP];
    err e = {0};
    scratch_make(dir);
    make_checkpoints(dir, 2, 1);
    cr_assert_eq(unlink(in_dir(dir, "step_00000002/training/integrity.json")), 0);
    cr_assert_eq(symlink("nowhere", in_dir(dir, "step_00000002/training/integrity.json")), 0);
    cr_assert_eq(checkpoint_newest_good(dir, path, NULL, &e), DDPM_OK, "%s", e.text);
    cr_expect_not_null(strstr(path, "step_00000001"), "%s", path);
    scratch_remove(dir);
}

/* faults D: an empty list of files verified. */
Test(checkpoint_dir, a_seal_over_nothing_is_none)
{
    char dir[PATH_CAP];
    err e = {0};
    make_checkpoint(scratch_make(dir), 1);
    put_file(in_dir(dir, "training/integrity.json"), "{\"files\": {}, \"format\": 1}");
    cr_expect_eq(checkpoint_verify(dir, &e), DDPM_EDATA);
    scratch_remove(dir);
}

Test(checkpoint_dir, falls_back_to_the_newest_good_and_says_so)
{
    char dir[PATH_CAP], found[PATH_CAP];
    notes n = {""};
    err e = {0};
    scratch_make(dir);
    cr_assert_eq(checkpoint_newest_good(dir, found, &n, &e), DDPM_ENOINPUT);
    make_checkpoints(dir, 3, 1);
    cr_assert_eq(checkpoint_newest_good(dir, found, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(found, in_dir(dir, "step_00000003"));
    cr_assert_str_eq(n.text, "");
    flip(in_dir(dir, "step_00000003/unet/config.json"), 77);
    cr_assert_eq(truncate(in_dir(dir, "step_00000002/training/state.bin"), 0), 0);
    cr_assert_eq(checkpoint_newest_good(dir, found, &n, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(found, in_dir(dir, "step_00000001"));
    cr_assert_not_null(strstr(n.text, "skipped step_00000003"), "%s", n.text);
    cr_assert_not_null(strstr(n.text, "unet/config.json"), "%s", n.text);
    cr_assert_not_null(strstr(n.text, "skipped step_00000002"), "%s", n.text);
    cr_assert_not_null(strstr(n.text, "fell back to step_00000001"), "%s", n.text);
    cr_assert_eq(unlink(in_dir(dir, "step_00000001/config.yaml")), 0);
    cr_assert_eq(checkpoint_newest_good(dir, found, &n, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "all 3 checkpoints are damaged"), "%s", e.text);
    scratch_remove(dir);
}
