#include "base/file.h"
#include "io/json_in.h"
#include "io/json_out.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *finish(json_out *j)
{
    char *text;
    size_t size;
    cr_assert_eq(json_out_finish(j, &text, &size), DDPM_OK);
    cr_assert_eq(strlen(text), size);
    return text;
}

static void compare_reals_to_python(void)
{
    char line[128];
    FILE *f = fopen(FIXTURES "/reals.txt", "r");
    cr_assert_not_null(f);
    int n = 0;
    for (; fgets(line, sizeof line, f); n++) {
        char *hex = strtok(line, " "), *expected = strtok(NULL, "\n");
        json_out j = json_out_begin(true, NULL);
        json_out_real(&j, NULL, strtod(hex, NULL));
        char *text = finish(&j);
        cr_assert_str_eq(text, expected);
        free(text);
    }
    (void)fclose(f);
    cr_assert_geq(n, 300);
}

Test(json_out, reals_are_pythons_to_the_letter) { compare_reals_to_python(); }

Test(json_out, layout_is_pythons)
{
    json_out j = json_out_begin(false, NULL);
    json_out_open(&j, NULL, '{');
    json_out_open(&j, "a", '[');
    json_out_int(&j, NULL, -1);
    json_out_text(&j, NULL, NULL);
    json_out_close(&j, ']');
    json_out_open(&j, "b", '{');
    json_out_close(&j, '}');
    json_out_bool(&j, "c", true);
    json_out_close(&j, '}');
    char *text = finish(&j);
    /* json.dumps({"a": [-1, None], "b": {}, "c": True}, indent=2) */
    cr_assert_str_eq(text, "{\n  \"a\": [\n    -1,\n    null\n  ],\n  \"b\": {},\n  \"c\": true\n}");
    free(text);
}

Test(json_out, compact_has_no_blanks)
{
    json_out j = json_out_begin(true, NULL);
    json_out_open(&j, NULL, '{');
    json_out_open(&j, "a", '[');
    json_out_int(&j, NULL, 1);
    json_out_int(&j, NULL, 2);
    json_out_close(&j, ']');
    json_out_text(&j, "b", "x");
    json_out_close(&j, '}');
    char *text = finish(&j);
    cr_assert_str_eq(text, "{\"a\":[1,2],\"b\":\"x\"}");
    free(text);
}

Test(json_out, every_character_reads_back)
{
    char all[256];
    for (int i = 1; i < 128; i++) all[i - 1] = (char)i;
    (void)snprintf(all + 127, sizeof all - 127, "\xc3\xa9\xf0\x9f\x98\x80");
    json_out j = json_out_begin(false, NULL);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, all, all);
    json_out_close(&j, '}');
    char *text = finish(&j);
    json_t *back = json_loads(text, 0, NULL);
    cr_assert_str_eq(json_string_value(json_object_get(back, all)), all);
    json_decref(back);
    free(text);
}

Test(json_out, infinity_and_nan_are_refused)
{
    for (int i = 0; i < 2; i++) {
        err e = {0};
        char *text;
        size_t size;
        json_out j = json_out_begin(false, &e);
        json_out_open(&j, NULL, '{');
        json_out_real(&j, "beta", i ? NAN : INFINITY);
        json_out_close(&j, '}');
        cr_assert_eq(json_out_finish(&j, &text, &size), DDPM_EINVAL);
        cr_assert_null(text);
        cr_assert_not_null(strstr(e.text, "beta"));
    }
}

Test(json_out, no_locale_changes_a_number)
{
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) cr_skip_test("the de_DE locale is not installed");
    compare_reals_to_python();
}

/* ---- the reader ---- */

static json_in object(const char *text, err *e) { return json_in_text(text, strlen(text), "x.json", e); }

Test(json_in, takes_values_defaults_and_notes_the_unknown)
{
    err e = {0};
    notes n = {""};
    static const char *const names[] = {"one", "two"};
    int list[4];
    json_in j = object("{\"i\": 3, \"r\": 0.5, \"whole\": 2, \"b\": true, \"c\": \"two\", \"l\": [7, 8], \"z\": null,"
                       " \"_meta\": 1, \"strange\": 1, \"stranger\": {}}",
                       &e);
    cr_assert_eq(json_in_int(&j, "i", 0, 0, 9), 3);
    cr_assert_eq(json_in_int(&j, "absent", 5, 0, 9), 5);
    cr_assert_eq(json_in_real(&j, "r", 0, 0, 1), 0.5);
    cr_assert_eq(json_in_real(&j, "whole", 0, 0, 2), 2.0);
    cr_assert(json_in_bool(&j, "b", false));
    cr_assert(json_in_bool(&j, "absent", true));
    cr_assert_eq(json_in_choice(&j, "c", 0, names, 2), 1);
    cr_assert_eq(json_in_ints(&j, "l", list, 4, 0, 9), 2);
    cr_assert_eq(list[0] * 10 + list[1], 78);
    cr_assert(json_in_null(&j, "z"));
    cr_assert(json_in_null(&j, "absent"));
    cr_assert_not(json_in_null(&j, "i"));
    cr_assert_eq(json_in_close(&j, &n), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(n.text, "x.json: ignored unknown keys: strange, stranger");
}

Test(json_in, refuses_what_is_not_strict_json)
{
    static const char *const bad[] = {"",
                                      "[]",
                                      "{\"a\":1,\"a\":2}",
                                      "{} x",
                                      "{\"a\":01}",
                                      "{\"a\":1",
                                      "{'a':1}",
                                      "{\"a\":NaN}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\\u0000\":1}",
                                      "nul",
                                      "{\"a\":1e999}",
                                      "{\"a\":99999999999999999999}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err e = {0};
        json_in j = object(bad[i], &e);
        cr_assert_eq(json_in_close(&j, NULL), DDPM_EDATA, "%s", bad[i]);
        cr_assert_not_null(strstr(e.text, "x.json"), "%s", e.text);
    }
}

Test(json_in, the_first_failure_stays)
{
    static const char *const names[] = {"one", "two"};
    err e = {0};
    json_in j = object("{\"a\": 1.5, \"b\": \"three\"}", &e);
    cr_assert_eq(json_in_int(&j, "a", 4, 0, 9), 4);
    cr_assert_eq(json_in_choice(&j, "b", 1, names, 2), 1);
    cr_assert_eq(json_in_close(&j, NULL), DDPM_EDATA);
    cr_assert_str_eq(e.text, "x.json: a must be an integer");
}

Test(json_in, limits_hold_to_the_last)
{
    static const struct {
        const char *text;
        bool good;
    } cases[] = {{"{\"a\": 1}", true},      {"{\"a\": 9}", true},          {"{\"a\": 0}", false},
                 {"{\"a\": 10}", false},    {"{\"a\": true}", false},      {"{\"a\": null}", false},
                 {"{\"a\": \"1\"}", false}, {"{\"a\": 4294967297}", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err e = {0};
        json_in j = object(cases[i].text, &e);
        (void)json_in_int(&j, "a", 5, 1, 9);
        cr_assert_eq(json_in_close(&j, NULL) == DDPM_OK, cases[i].good, "%s", cases[i].text);
        json_in k = object(cases[i].text, &e);
        (void)json_in_real(&k, "a", 5, 1, 9);
        cr_assert_eq(json_in_close(&k, NULL) == DDPM_OK, cases[i].good, "%s", cases[i].text);
    }
}
