/* Sets of ids as text. */
#include "sample/id_ranges.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static id_ranges r;
static err why;

static void expect_text(const char *given, const char *said, int64_t count)
{
    char text[ID_TEXT];
    cr_assert_eq(id_ranges_parse(&r, given, &why), DDPM_OK, "%s: %s", given, why.text);
    id_ranges_text(&r, text);
    cr_expect_str_eq(text, said);
    cr_expect_eq(r.count, count, "%s: %lld", given, (long long)r.count);
}

Test(id_ranges, are_written_in_one_way)
{
    expect_text("0-49999", "0-49999", 50000);
    expect_text("7", "7", 1);
    expect_text("300-399,0-99,200", "0-99,200,300-399", 201);
    expect_text("3,1,2,0", "0-3", 4);
    expect_text("0-4294967295", "0-4294967295", (int64_t)1 << 32);
}

Test(id_ranges, positions_and_ids_are_inverse)
{
    cr_assert_eq(id_ranges_parse(&r, "5-7,10,20-29", &why), DDPM_OK);
    static const int64_t ids[] = {5, 6, 7, 10, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29};
    for (int i = 0; i < 14; i++) {
        cr_expect_eq(id_ranges_id(&r, i), ids[i]);
        cr_expect_eq(id_ranges_position(&r, ids[i]), i);
    }
    static const int64_t absent[] = {0, 4, 8, 9, 11, 19, 30, 1000};
    for (int i = 0; i < 8; i++) cr_expect_eq(id_ranges_position(&r, absent[i]), -1);
    id_ranges_first(&r, 3);
    cr_expect(id_ranges_id(&r, 2) == 2 && r.count == 3);
}

Test(id_ranges, what_is_impossible_is_said)
{
    static const char *const bad[][2] = {
        {"", "'' is not a list"},           {"5-3", "'5-3' runs backwards; write 3-5"},
        {"0-4,3-9", "3 is named twice"},    {"1,1", "1 is named twice"},
        {"4294967296", "less than 429496"}, {"0-99999999999999999999", "less than 4294967296"},
        {"1,", "'' is not a list"},         {"-5", "'-5' is not a list"},
        {"1-", "'1-' is not a list"},       {"1 2", "'1 2' is not a list"},
        {"0x10", "'0x10' is not a list"},   {"1-2-3", "'1-2-3' is not a list"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(id_ranges_parse(&r, bad[i][0], &why), DDPM_EINVAL, "%s", bad[i][0]);
        cr_expect(strstr(why.text, bad[i][1]) && !strncmp(why.text, "ids: ", 5), "%s: %s", bad[i][0], why.text);
    }
    char many[8 * (ID_RANGES + 2)] = "";
    for (int i = 0, n = 0; i <= ID_RANGES; i++)
        n += snprintf(many + n, sizeof many - (size_t)n, "%s%d", i ? "," : "", 2 * i);
    cr_expect_eq(id_ranges_parse(&r, many, &why), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "more than 1000 ranges"));
}
