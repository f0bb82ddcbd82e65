#include "base/mem.h"
#include "io/safetensors.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>

static safetensors *open_good(const char *path)
{
    safetensors *st;
    err e = {0};
    cr_assert_eq(safetensors_open(path, &st, &e), DDPM_OK, "%s", e.text);
    return st;
}

Test(safetensors, reads_what_python_wrote)
{
    safetensors *st = open_good(FIXTURES "/mix.safetensors");
    cr_assert_eq(safetensors_count(st), 11);
    cr_assert_null(safetensors_find(st, "none"));
    for (int i = 1; i < safetensors_count(st); i++)
        cr_assert_lt(strcmp(safetensors_entry(st, i - 1)->name, safetensors_entry(st, i)->name), 0);

    int64_t a[4];
    const safetensors_tensor *t = safetensors_find(st, "a");
    cr_assert_eq(t->dtype, SAFETENSORS_I64);
    cr_assert_eq(t->bytes, sizeof a);
    memcpy(a, t->data, sizeof a);
    for (int i = 0; i < 4; i++) cr_assert_eq(a[i], i - 1);

    t = safetensors_find(st, "empty");
    cr_assert_eq(t->rank * 100 + t->shape[0] * 10 + t->shape[1], 204);
    cr_assert_eq(t->bytes, 0);
    t = safetensors_find(st, "scalar");
    cr_assert_eq(t->rank, 0);
    cr_assert_eq(t->bytes, 4);
    cr_assert_not_null(safetensors_find(st, "q\"\\\n\t\b\x01\x1f\x7f/\xc3\xa9"));
    safetensors_close(st);
}

Test(safetensors, widens_every_float_type)
{
    static const struct {
        const char *name;
        int n;
        double values[3];
    } cases[] = {{"b", 3, {0, 1, 2}},
                 {"h", 3, {1.5, -0.0, 65504}},
                 {"bf", 3, {1.5, -3, 0x1.94p+99 /* 1e30 in 8 bits */}},
                 {"f64", 2, {0.1, -2}},
                 {"scalar", 1, {3.5}}};
    safetensors *st = open_good(FIXTURES "/mix.safetensors");
    err e = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float v[3];
        const safetensors_tensor *t = safetensors_find(st, cases[i].name);
        cr_assert_eq(t->bytes / safetensors_dtype_size(t->dtype), (size_t)cases[i].n);
        cr_assert_eq(safetensors_to_f32(t, v, &e), DDPM_OK, "%s", e.text);
        for (int k = 0; k < cases[i].n; k++) {
            cr_assert_eq(v[k], (float)cases[i].values[k], "%s[%d] = %a", cases[i].name, k, v[k]);
            cr_assert_eq(signbit(v[k]) != 0, signbit(cases[i].values[k]) != 0);
        }
    }
    float v[3];
    cr_assert_eq(safetensors_to_f32(safetensors_find(st, "i32"), v, &e), DDPM_EDATA);
    cr_assert_not_null(strstr(e.text, "I32"), "%s", e.text);
    safetensors_close(st);
}

/* All 65536 half-precision values against the definition of binary16 in IEEE 754. */
Test(safetensors, halves_are_exact)
{
    static uint16_t bits[65536];
    static float value[65536];
    for (int i = 0; i < 65536; i++) bits[i] = (uint16_t)i;
    const safetensors_tensor t = {"h", SAFETENSORS_F16, 1, {65536}, bits, sizeof bits};
    cr_assert_eq(safetensors_to_f32(&t, value, NULL), DDPM_OK);
    for (int i = 0; i < 65536; i++) {
        const int exponent = i >> 10 & 31, fraction = i & 1023;
        if (exponent == 31 && fraction) {
            cr_assert(isnan(value[i]), "%#x", i);
            continue;
        }
        double expected = exponent ? ldexp(1.0 + fraction / 1024.0, exponent - 15) : ldexp(fraction / 1024.0, -14);
        if (exponent == 31) expected = INFINITY;
        cr_assert_eq(value[i], i & 0x8000 ? -expected : expected, "%#x", i);
        cr_assert_eq(signbit(value[i]) != 0, i >> 15, "%#x", i);
    }
}

static safetensors_item item_of(const safetensors_tensor *t)
{
    safetensors_item item = {.name = t->name, .dtype = t->dtype, .rank = t->rank, .data = t->data};
    memcpy(item.shape, t->shape, sizeof item.shape);
    return item;
}

/* Write the tensors of a file anew, in another order, and compare. */
static void check_rewrite(const char *path)
{
    char dir[PATH_CAP];
    safetensors *st = open_good(path);
    safetensors_item *items;
    err e = {0};
    const int n = safetensors_count(st);
    cr_assert_eq(mem_array(&items, (size_t)n, sizeof *items, "items", &e), DDPM_OK);
    for (int i = 0; i < n; i++) items[i] = item_of(safetensors_entry(st, (i * 5 + 3) % n));
    scratch_make(dir);
    const char *out = in_dir(dir, "out.safetensors");
    cr_assert_eq(safetensors_write(out, items, n, true, &e), DDPM_OK, "%s", e.text);
    cr_assert(same_bytes(path, out), "%s: written differently", path);
    mem_free(items);
    safetensors_close(st);
    scratch_remove(dir);
}

Test(safetensors, writes_the_bytes_that_python_writes) { check_rewrite(FIXTURES "/mix.safetensors"); }

Test(safetensors, writes_a_net_as_diffusers_does)
{
    check_rewrite(FIXTURES "/pipeline/unet/diffusion_pytorch_model.safetensors");
}

Test(safetensors, a_file_without_tensors_is_a_file)
{
    char dir[PATH_CAP];
    err e = {0};
    const char *path = in_dir(scratch_make(dir), "none.safetensors");
    cr_assert_eq(safetensors_write(path, NULL, 0, false, &e), DDPM_OK, "%s", e.text);
    safetensors *st = open_good(path);
    cr_assert_eq(safetensors_count(st), 0);
    cr_assert_null(safetensors_find(st, "a"));
    safetensors_close(st);
    scratch_remove(dir);
}

Test(safetensors, every_bad_file_is_refused_with_its_reason)
{
    char line[256];
    FILE *f = fopen(DDPM_TESTS "/io/bad/expected.txt", "r");
    cr_assert_not_null(f);
    int n = 0;
    for (; fgets(line, sizeof line, f); n++) {
        char *name = strtok(line, "\t"), *words = strtok(NULL, "\n");
        safetensors *st;
        err e = {0};
        cr_expect_eq(safetensors_open(in_dir(DDPM_TESTS "/io/bad", name), &st, &e), DDPM_EDATA, "%s", name);
        cr_expect_null(st);
        cr_expect_not_null(strstr(e.text, words), "%s: expected '%s', got '%s'", name, words, e.text);
        cr_expect_not_null(strstr(e.text, name), "%s: the file is not named in '%s'", name, e.text);
    }
    (void)fclose(f);
    cr_assert_geq(n, 40);
}

/* A header of about `size` bytes: `open`, then `piece` with its % replaced by a running number, then `close`. */
static char *hostile(size_t size, const char *open, const char *piece, const char *close, size_t *bytes)
{
    char *text = malloc(size + 4096);
    uint64_t n = (uint64_t)sprintf(text + 8, "%s", open);
    for (int i = 0; n < size; i++) {
        if (i > 0 && piece[0] == '"') text[8 + n++] = ',';
        for (const char *c = piece; *c; c++)
            n += *c == '%' ? (uint64_t)sprintf(text + 8 + n, "%x", i) : (text[8 + n] = *c, 1u);
    }
    n += (uint64_t)sprintf(text + 8 + n, "%s", close);
    memcpy(text, &n, sizeof n);
    *bytes = 8 + (size_t)n;
    return text;
}

/* Most memory in use since the last forget_peak(), where the system can forget it; KiB. */
static void forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f) return;
    (void)fputs("5", f);
    (void)fclose(f);
}

static long peak_kb(void)
{
    struct rusage u;
    cr_assert_eq(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss;
}

/* faults C6: 99 MB of "[]," took 4.6 GB */
Test(safetensors, no_header_takes_more_than_three_times_its_bytes)
{
    static const struct {
        const char *open, *piece, *close;
        bool good;
    } cases[] = {
        {"{\"a\":[", "[],", "[]]}", false},
        {"{\"__metadata__\":{\"a\":[", "[],", "[]]}}", false},
        {"{\"a\":{\"dtype\":\"U8\",\"x\":[", "0,", "0],\"shape\":[0],\"data_offsets\":[0,0]}}", false},
        {"{", "\"%\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", "}", true},
        {"{", "\"%\":0", "}", false},
        {"{\"__metadata__\":{", "\"%\":\"\"", "}}", false},
        {"{\"__metadata__\":{\"a\":\"", "x", "\"}}", true},
        {"{\"", "x", "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", false},
        {"{", "{", "}", false},
        {"{\"a", "\\\"", "", false},
    };
    enum { SIZE = 6 << 20 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        safetensors *st;
        err e = {0};
        size_t bytes;
        char *text = hostile(SIZE, cases[i].open, cases[i].piece, cases[i].close, &bytes);
        forget_peak();
        const long before = peak_kb();
        const ddpm_status status = safetensors_open_memory(text, bytes, "hostile", &st, &e);
        cr_expect_eq(status, cases[i].good ? DDPM_OK : DDPM_EDATA, "case %zu: %s", i, e.text);
        const long more = peak_kb() - before;
#ifndef __SANITIZE_ADDRESS__
        cr_expect_leq(more, 3L * SIZE / 1024, "case %zu: %ld KiB for a header of %d", i, more, SIZE / 1024);
#endif
        (void)more;
        safetensors_close(st);
        free(text);
    }
}

/* No prefix of a good file is a good file, and none is read past its end (the copy is of its exact size). */
Test(safetensors, every_truncation_is_refused)
{
    char *bytes;
    size_t size;
    err e = {0};
    cr_assert_eq(file_read(FIXTURES "/mix.safetensors", 1 << 20, &bytes, &size, &e), DDPM_OK);
    for (size_t n = 0; n < size; n++) {
        safetensors *st;
        char *part = malloc(n ? n : 1);
        memcpy(part, bytes, n);
        cr_assert_eq(safetensors_open_memory(part, n, "part", &st, &e), DDPM_EDATA, "%zu bytes", n);
        free(part);
    }
    mem_free(bytes);
}

Test(safetensors, what_is_not_a_file_is_said)
{
    safetensors *st;
    err e = {0};
    cr_assert_eq(safetensors_open("/nonexistent/x.safetensors", &st, &e), DDPM_ENOINPUT);
    cr_assert_not_null(strstr(e.text, "/nonexistent/x.safetensors"));
    cr_assert_eq(safetensors_open("/", &st, &e), DDPM_EDATA);
    safetensors_close(NULL);
}

Test(safetensors, bad_items_are_refused_and_leave_no_file)
{
    static const float v[4];
    const safetensors_item good = {.name = "a", .dtype = SAFETENSORS_F32, .rank = 1, .shape = {4}, .data = v};
    safetensors_item negative = good, huge = good, name = good, utf8 = good, deep = good;
    negative.shape[0] = -1;
    huge.rank = 2, huge.shape[0] = huge.shape[1] = INT64_C(1) << 32;
    name.name = "__metadata__";
    utf8.name = "\xff";
    deep.rank = 9;
    const safetensors_item cases[][2] = {{good, good}, {good, negative}, {good, huge},
                                         {good, name}, {good, utf8},     {good, deep}};
    static const char *const words[] = {"two tensors are named 'a'",  "negative or too large",
                                        "negative or too large",      "'__metadata__' is not a valid tensor name",
                                        "is not a valid tensor name", "rank 9"};
    char dir[PATH_CAP];
    const char *path = in_dir(scratch_make(dir), "x.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        cr_assert_eq(safetensors_write(path, cases[i], 2, false, &e), DDPM_EINVAL, "case %zu", i);
        cr_assert_not_null(strstr(e.text, words[i]), "%s", e.text);
        cr_assert_not(path_exists(path));
    }
    scratch_remove(dir);
}

Test(safetensors, a_failed_write_leaves_no_file)
{
    static float v[100000];
    const safetensors_item item = {.name = "a", .dtype = SAFETENSORS_F32, .rank = 1, .shape = {100000}, .data = v};
    char dir[PATH_CAP];
    err e = {0};
    const char *path = in_dir(scratch_make(dir), "x.safetensors");
    (void)signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {50000, 50000};
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(safetensors_write(path, &item, 1, false, &e), DDPM_EIO);
    cr_assert_not_null(strstr(e.text, "File too large"), "%s", e.text);
    cr_assert_not(path_exists(path));
    cr_assert_eq(safetensors_write("/nonexistent/x", &item, 1, false, &e), DDPM_EIO);
    scratch_remove(dir);
}

Test(safetensors, shapes_print)
{
    char text[16];
    const int64_t shape[] = {128, 3, 3, 3};
    cr_assert_str_eq(safetensors_shape_text(text, sizeof text, 4, shape), "[128, 3, 3, 3]");
    cr_assert_str_eq(safetensors_shape_text(text, sizeof text, 0, shape), "[]");
    cr_assert_str_eq(safetensors_shape_text(text, 6, 4, shape), "[128,");
}
