#include "base/mem.h"
#include "io/svg_plot.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The picture as text; free with mem_free(). */
static char *plot(const char *title, const svg_series *s)
{
    char dir[PATH_CAP];
    err e = {0};
    const char *path = in_dir(scratch_make(dir), "loss.svg");
    cr_assert_eq(svg_plot_loss(path, title, s, &e), DDPM_OK, "%s", e.text);
    char *text = get_text(path);
    scratch_remove(dir);
    return text;
}

/* The d attribute of the path of a class. */
static char *path_of(const char *text, const char *class)
{
    char opening[64];
    (void)snprintf(opening, sizeof opening, "<path class=\"%s\" d=\"", class);
    const char *at = strstr(text, opening);
    cr_assert_not_null(at, "no %s line", class);
    at += strlen(opening);
    return strndup(at, strcspn(at, "\""));
}

/* Tags balance, attributes are quoted, no character is bare that XML reserves. */
static void check_well_formed(const char *text)
{
    int depth = 0;
    for (const char *c = text; *c; c++) {
        cr_assert_geq((unsigned char)*c, *c == '\n' ? '\n' : ' ', "control character");
        if (*c == '&') cr_assert_not_null(strchr("#", c[1]), "bare &");
        if (*c != '<') continue;
        const char *end = c;
        int quotes = 0;
        for (; *end && (*end != '>' || quotes % 2); end++) quotes += *end == '"';
        cr_assert_eq(*end, '>');
        cr_assert_eq(quotes % 2, 0);
        depth += c[1] == '/' ? -1 : end[-1] == '/' ? 0 : 1;
        c = end;
    }
    cr_assert_eq(depth, 0);
}

Test(svg_plot, draws_lines_axes_and_title)
{
    const double step[] = {0, 100, 200, 300, 400}, value[] = {1.0, 0.5, 0.4, 0.3, 0.2},
                 smooth[] = {1.0, 0.8, 0.6, 0.5, 0.4};
    const svg_series s = {5, step, value, smooth};
    char *text = plot("loss of <run> & \"more\" \x01", &s);
    check_well_formed(text);
    cr_assert_not_null(strstr(text, "loss of &#60;run&#62; &#38; \"more\" ?"), "%s", text);
    cr_assert_not_null(strstr(text, ">0.4</text>"));
    cr_assert_not_null(strstr(text, ">400</text>"));
    char *raw = path_of(text, "raw"), *strong = path_of(text, "smooth");
    /* the corners of the plot: the first point is the highest and leftmost, the last the lowest and rightmost */
    cr_assert_str_eq(raw, "M800 500h1L2550 2438L4300 2825L6050 3213L7800 3600");
    cr_assert_eq(strncmp(strong, "M800 500h1L2550 1275", 20), 0, "%s", strong);
    free(raw);
    free(strong);
    mem_free(text);
}

Test(svg_plot, nothing_one_point_and_one_value_are_drawn)
{
    const double step[] = {7, 8}, value[] = {0.25, 0.25}, zero[] = {0, 0}, nan[] = {NAN, NAN};
    const svg_series none = {0, NULL, NULL, NULL}, one = {1, step, value, value}, flat = {2, step, value, NULL},
                     zeros = {2, step, zero, NULL}, gaps = {2, step, nan, nan};
    const svg_series *const all[] = {&none, &one, &flat, &zeros, &gaps};
    for (int i = 0; i < 5; i++) {
        char *text = plot("t", all[i]);
        check_well_formed(text);
        cr_assert_null(strstr(text, "nan"), "%d", i);
        cr_assert_null(strstr(text, "inf<"), "%d", i);
        cr_assert_eq(strstr(text, "no data yet") != NULL, i == 0);
        mem_free(text);
    }
    char *text = plot("t", &one), *raw = path_of(text, "raw");
    cr_assert_str_eq(raw, "M4300 2050h1"); /* a dot in the middle */
    free(raw);
    mem_free(text);
}

Test(svg_plot, what_is_not_finite_is_a_gap)
{
    const double step[] = {0, 1, 2, 3, 4, 5}, value[] = {1, 2, NAN, 1, INFINITY, 2};
    const svg_series s = {6, step, value, NULL};
    char *text = plot("t", &s), *raw = path_of(text, "raw");
    cr_assert_eq(count_of(raw, "M"), 3, "%s", raw);
    cr_assert_eq(count_of(raw, "L"), 1, "%s", raw);
    free(raw);
    mem_free(text);
}

/* Equal ratios are equal distances on a logarithmic axis, and only from a ratio of 50 on. */
Test(svg_plot, a_wide_range_is_logarithmic)
{
    const double step[] = {0, 1, 2}, wide[] = {100, 10, 1}, narrow[] = {49, 10, 1}, negative[] = {100, 10, -1};
    const svg_series a = {3, step, wide, NULL}, b = {3, step, narrow, NULL}, c = {3, step, negative, NULL};
    char *text = plot("t", &a), *raw = path_of(text, "raw");
    cr_assert_str_eq(raw, "M800 500h1L4300 2050L7800 3600");
    cr_assert_not_null(strstr(text, ">100</text>"));
    cr_assert_not_null(strstr(text, ">20</text>"));
    free(raw);
    mem_free(text);
    text = plot("t", &b);
    cr_assert_not_null(strstr(text, ">30</text>"), "%s", text);
    raw = path_of(text, "raw");
    cr_assert_str_eq(raw, "M800 562h1L4300 2980L7800 3538"); /* 0 to 50 */
    free(raw);
    mem_free(text);
    text = plot("t", &c);
    cr_assert_not_null(strstr(text, ">0</text>"), "%s", text);
    mem_free(text);
}

Test(svg_plot, many_points_make_a_small_file_that_keeps_the_extremes)
{
    enum { N = 200000 };
    static double step[N], value[N];
    for (int i = 0; i < N; i++) {
        step[i] = 3 * i;
        value[i] = 1.5 + 0.25 * sin(i);
    }
    value[N / 2] = 2.0; /* one point alone reaches the top, one the bottom */
    value[N / 3] = 1.0;
    for (int i = 150000; i < 160000; i++) value[i] = NAN;
    const svg_series s = {N, step, value, NULL};
    char *text = plot("t", &s), *raw = path_of(text, "raw");
    cr_assert_lt(strlen(text), 40000);
    cr_assert_not_null(strstr(raw, "V500"), "the highest point is lost");
    cr_assert_not_null(strstr(raw, " 3600"), "the lowest point is lost");
    cr_assert_eq(count_of(raw, "M"), 2, "one gap");
    cr_assert_not_null(strstr(text, ">600k</text>"), "%s", text);
    free(raw);
    mem_free(text);
}

Test(svg_plot, absurd_values_are_harmless)
{
    const double step[] = {0, 1e18, INFINITY}, value[] = {1e308, -1e308, 5e-324}, tiny[] = {1e-300, 1, 1e99};
    const svg_series a = {3, step, value, tiny}, b = {3, value, tiny, value};
    char *text = plot("\xff\xfe not UTF-8", &a);
    check_well_formed(text);
    cr_assert_not_null(strstr(text, "?? not UTF-8"));
    mem_free(text);
    text = plot("", &b);
    check_well_formed(text);
    mem_free(text);
}

Test(svg_plot, a_folder_that_is_not_there_is_said)
{
    const svg_series none = {0, NULL, NULL, NULL};
    err e = {0};
    cr_assert_eq(svg_plot_loss("/nonexistent/x.svg", "t", &none, &e), DDPM_EIO);
    cr_assert_not_null(strstr(e.text, "/nonexistent/x.svg"), "%s", e.text);
}
