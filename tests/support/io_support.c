#include "support/io_support.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *scratch_make(char *out)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(out, PATH_CAP, "%s/ddpm-test-XXXXXX", base && base[0] ? base : "/tmp");
    cr_assert_not_null(mkdtemp(out), "%s: cannot be made", out);
    /* Programs of a test use an autotune cache of their own, not one that other tests write at the same time. */
    cr_assert_eq(setenv("XDG_CACHE_HOME", out, 1), 0);
    return out;
}

void scratch_remove(const char *dir)
{
    err e = {0};
    cr_assert_eq(dir_remove(dir, &e), DDPM_OK, "%s", e.text);
}

const char *in_dir(const char *dir, const char *name)
{
    static char path[8][PATH_CAP];
    static int next;
    char *out = path[next++ % 8];
    err e = {0};
    cr_assert_eq(path_join(out, dir, name, &e), DDPM_OK, "%s", e.text);
    return out;
}

void put_file(const char *path, const char *text)
{
    err e = {0};
    cr_assert_eq(file_write(path, text, strlen(text), false, &e), DDPM_OK, "%s", e.text);
}

char *get_text(const char *path)
{
    char *text;
    size_t size;
    err e = {0};
    cr_assert_eq(file_read(path, SIZE_MAX / 4, &text, &size, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(strlen(text), size, "%s: a 0 byte in a text", path);
    return text;
}

int count_of(const char *text, const char *part)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) n++;
    return n;
}

bool same_bytes(const char *a, const char *b)
{
    char *x, *y;
    size_t nx, ny;
    err e = {0};
    cr_assert_eq(file_read(a, SIZE_MAX / 4, &x, &nx, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(file_read(b, SIZE_MAX / 4, &y, &ny, &e), DDPM_OK, "%s", e.text);
    const bool same = nx == ny && !memcmp(x, y, nx);
    mem_free(x);
    mem_free(y);
    return same;
}

void expect_rewritten(config_rewrite *rewrite, const char *from, const char *want)
{
    char dir[PATH_CAP];
    notes n = {""};
    err e = {0};
    const char *out = in_dir(scratch_make(dir), "config.json");
    cr_assert_eq(rewrite(from, out, &n, &e), DDPM_OK, "%s: %s", from, e.text);
    cr_assert_str_eq(n.text, "", "%s: %s", from, n.text);
    cr_assert(same_bytes(want, out), "%s, read and written, is not %s", from, want);
    scratch_remove(dir);
}

int64_t tensor_values(const named_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

test_net net_load(const char *tensors_txt)
{
    test_net net = {0};
    char line[512];
    int capacity = 0;
    err e = {0};
    FILE *f = fopen(tensors_txt, "r");
    cr_assert_not_null(f, "%s: cannot open", tensors_txt);
    while (fgets(line, sizeof line, f)) {
        named_tensor t = {0};
        char *rest = NULL, *name = strtok_r(line, " \n", &rest);
        for (char *d = strtok_r(NULL, " \n", &rest); d; d = strtok_r(NULL, " \n", &rest)) t.shape[t.rank++] = atoll(d);
        t.name = strdup(name);
        cr_assert_eq(mem_array(&t.data, (size_t)tensor_values(&t), sizeof(float), name, &e), DDPM_OK, "%s", e.text);
        cr_assert_eq(mem_grow(&net.tensors, &capacity, net.n + 1, sizeof t, "tensors", &e), DDPM_OK, "%s", e.text);
        net.tensors[net.n++] = t;
    }
    (void)fclose(f);
    cr_assert_gt(net.n, 0, "%s: no tensors", tensors_txt);
    return net;
}

void net_free(test_net *net)
{
    for (int i = 0; i < net->n; i++) {
        free((char *)(uintptr_t)net->tensors[i].name);
        mem_free(net->tensors[i].data);
    }
    free(net->tensors);
    *net = (test_net){0};
}

float fixture_value(int k, int64_t i) { return (float)((7 * k + i) % 2048); }

int name_rank(const test_net *net, int which)
{
    int k = 0;
    for (int i = 0; i < net->n; i++) k += strcmp(net->tensors[i].name, net->tensors[which].name) < 0;
    return k;
}

int64_t our_index(const named_tensor *t, int64_t i)
{
    if (t->rank != 4) return i;
    const int64_t cin = t->shape[1], kh = t->shape[2], kw = t->shape[3];
    const int64_t x = i % kw, y = i / kw % kh, c = i / (kw * kh) % cin, o = i / (kw * kh * cin);
    return ((o * kh + y) * kw + x) * cin + c;
}

void net_fill(test_net *net)
{
    for (int t = 0; t < net->n; t++)
        for (int64_t i = 0, k = name_rank(net, t); i < tensor_values(&net->tensors[t]); i++)
            net->tensors[t].data[our_index(&net->tensors[t], i)] = fixture_value((int)k, i);
}

int net_differences(const test_net *net)
{
    int different = 0;
    for (int t = 0; t < net->n; t++)
        for (int64_t i = 0, k = name_rank(net, t); i < tensor_values(&net->tensors[t]); i++)
            different += net->tensors[t].data[our_index(&net->tensors[t], i)] != fixture_value((int)k, i);
    return different;
}
