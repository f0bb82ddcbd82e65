/* Class labels of pictures as text. */
#include "sample/label_list.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { CLASSES = 20 };

static err why;

/* The labels of ids 0, 1, 2, ..., of which there are `n`. */
static void expect_labels(const char *text, const int *labels, int n)
{
    label_list l;
    cr_assert_eq(label_list_parse(text, CLASSES, &l, &why), DDPM_OK, "%s: %s", text, why.text);
    for (int id = 0; id < 3 * n; id++)
        cr_expect_eq(label_of(&l, id), labels[id % n], "%s: id %d has label %d", text, id, label_of(&l, id));
    const int64_t large = (int64_t)n * 1000000000; /* ids beyond 32 bits */
    cr_expect_eq(label_of(&l, large + n - 1), labels[n - 1], "%s", text);
    label_list_free(&l);
    cr_expect_null(l.range);
}

Test(label_list, labels_and_ranges_are_repeated_in_their_order)
{
    expect_labels("3", (const int[]){3}, 1);
    expect_labels("0", (const int[]){0}, 1);
    expect_labels("3,7,10-13", (const int[]){3, 7, 10, 11, 12, 13}, 6);
    expect_labels("[3, 7, 10-13]", (const int[]){3, 7, 10, 11, 12, 13}, 6);
    expect_labels("[3]", (const int[]){3}, 1);
    expect_labels(" 5 , 2-2 ,19", (const int[]){5, 2, 19}, 3);
    expect_labels("19,0-1,0-1,4", (const int[]){19, 0, 1, 0, 1, 4}, 6);
    expect_labels("000000007", (const int[]){7}, 1);
}

Test(label_list, balanced_gives_every_class_as_often)
{
    static const char *const words[] = {"balanced", ""};
    int all[CLASSES];
    for (int i = 0; i < CLASSES; i++) all[i] = i;
    for (int i = 0; i < 2; i++) expect_labels(words[i], all, CLASSES);
}

Test(label_list, the_null_class_of_guidance_is_no_class_if_it_is_the_last)
{
    cr_expect_eq(label_classes(5, true, 4), 4);
    cr_expect_eq(label_classes(5, false, 4), 5);
    cr_expect_eq(label_classes(5, true, 0), 5);
    cr_expect_eq(label_classes(5, true, -1), 5);
    cr_expect_eq(label_classes(0, true, -1), 0);
}

Test(label_list, a_network_without_classes_has_no_label)
{
    label_list l;
    cr_assert_eq(label_list_parse("balanced", 0, &l, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(label_of(&l, 5), -1);
    label_list_free(&l);
    cr_expect_eq(label_list_parse("0", 0, &l, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "labels=0: the network has no classes (num_class_embeds is null)");
    cr_expect_null(l.range);
}

Test(label_list, many_ranges_are_kept)
{
    enum { MANY = 500 };
    char text[4 * MANY] = "";
    int labels[MANY];
    for (int i = 0, n = 0; i < MANY; i++) {
        labels[i] = (7 * i + 3) % CLASSES;
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%d", i ? "," : "", labels[i]);
    }
    expect_labels(text, labels, MANY);
}

Test(label_list, what_is_no_list_or_no_class_is_said_in_one_line)
{
    static const char *const forms[] = {",",        "3,",  ",3",         "3,,4",    "-1",  "3-",   "5-3",
                                        "a",        "3 4", "[",          "[]",      "[3",  "3]",   "[3]]",
                                        "3;4",      "0x3", "1-2-3",      "3.0",     "1e1", " ",    "random",
                                        "Balanced", "3\n", "4294967299", "[3],[4]", "+3",  "3 - 5"};
    static const char *const beyond[][2] = {{"20", "label 20 is not in [0, 20)"},
                                            {"3,10-25", "label 25 is not in [0, 20)"},
                                            {"999999999", "label 999999999 is not in [0, 20)"}};
    label_list l;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        cr_expect_eq(label_list_parse(forms[i], CLASSES, &l, &why), DDPM_EINVAL, "%s", forms[i]);
        cr_expect(strstr(why.text, "must be balanced, or labels and ranges such as 3,7,10-19"), "%s: %s", forms[i],
                  why.text);
        cr_expect(!strncmp(why.text, "labels=", 7), "%s", why.text);
        cr_expect(l.range == NULL && l.n == 0, "%s leaves something", forms[i]);
    }
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        cr_expect_eq(label_list_parse(beyond[i][0], CLASSES, &l, &why), DDPM_EINVAL, "%s", beyond[i][0]);
        cr_expect(strstr(why.text, beyond[i][1]), "%s", why.text);
        cr_expect_null(l.range);
    }
}
