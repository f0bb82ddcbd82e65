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
    cr_assert_eq(label_list_parse(text, CLASSES, NULL, &l, &why), DDPM_OK, "%s: %s", text, why.text);
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
    cr_assert_eq(label_list_parse("balanced", 0, NULL, &l, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(label_of(&l, 5), -1);
    label_list_free(&l);
    cr_expect_eq(label_list_parse("0", 0, NULL, &l, &why), DDPM_EINVAL);
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
        cr_expect_eq(label_list_parse(forms[i], CLASSES, NULL, &l, &why), DDPM_EINVAL, "%s", forms[i]);
        cr_expect(strstr(why.text, "must be balanced, or labels and ranges such as 3,7,10-19"), "%s: %s", forms[i],
                  why.text);
        cr_expect(!strncmp(why.text, "labels=", 7), "%s", why.text);
        cr_expect(l.range == NULL && l.n == 0, "%s leaves something", forms[i]);
    }
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) {
        cr_expect_eq(label_list_parse(beyond[i][0], CLASSES, NULL, &l, &why), DDPM_EINVAL, "%s", beyond[i][0]);
        cr_expect(strstr(why.text, beyond[i][1]), "%s", why.text);
        cr_expect_null(l.range);
    }
}

/* ---- names ---------------------------------------------------------------------------------------- */

static const class_names *names_of(const char *const *list, int n)
{
    static class_names names;
    class_names_free(&names);
    for (int k = 0; k < n; k++) cr_assert_eq(class_names_add(&names, list[k], &why), DDPM_OK, "%s", why.text);
    return &names;
}

static const char *const ANIMALS[] = {"ant", "bat", "cat", "Cat", "dog 2", "3-D", "a, b", "balanced", " x", "10"};
enum { N_ANIMALS = sizeof ANIMALS / sizeof *ANIMALS };

static void expect_numbers(const char *text, const char *numbers)
{
    label_list l, again;
    const class_names *names = names_of(ANIMALS, N_ANIMALS);
    cr_assert_eq(label_list_parse(text, N_ANIMALS, names, &l, &why), DDPM_OK, "%s: %s", text, why.text);
    cr_expect_str_eq(l.text, numbers, "%s", text);
    cr_assert_eq(label_list_parse(numbers, N_ANIMALS, NULL, &again, &why), DDPM_OK, "%s", why.text);
    for (int id = 0; id < 50; id++) cr_expect_eq(label_of(&l, id), label_of(&again, id), "%s: id %d", text, id);
    label_list_free(&l);
    label_list_free(&again);
}

Test(label_list, names_are_kept_as_numbers)
{
    expect_numbers("cat", "2");
    expect_numbers("cat,Cat", "2,3");
    expect_numbers("[cat, dog 2 , 3,0-1]", "2,4,3,0-1");
    expect_numbers("3-D,4", "5,4");
    expect_numbers("\"a, b\", \"balanced\" ,\" x\"", "6,7,8");
    expect_numbers("\"10\",9", "9,9");
    expect_numbers("10", "9");                /* there is no class 10 */
    expect_numbers("[ 1, 7-9]", "[ 1, 7-9]"); /* without names as it was given */
    expect_numbers("balanced", "balanced");
    expect_numbers("", "");
}

Test(label_list, names_that_no_class_has_are_refused_with_the_nearest)
{
    static const char *const cases[][2] = {
        {"cta", "the model has no class \"cta\"; nearest: cat, "},
        {"3,batt", "the model has no class \"batt\"; nearest: bat, "},
        {"Balanced", "the model has no class \"Balanced\"; nearest: balanced, "},
        {"a,b", "the model has no class \"a\"; nearest: "},
        {"\"cat \"", "the model has no class \"cat \"; nearest: cat, "},
        {"cat-dog", "the model has no class \"cat-dog\""},
        {"cat,", "must be balanced, or classes such as cat,3,10-19"},
        {",cat", "must be balanced, or classes such as"},
        {"\"cat", "must be balanced, or classes such as"},
        {"\"cat\"x", "must be balanced, or classes such as"},
        {"\"\"", "must be balanced, or classes such as"},
        {"5-3", "must be balanced, or classes such as"},
        {"-1", "must be balanced, or classes such as"},
        {"11", "label 11 is not in [0, 10)"},
        {"0-10", "label 10 is not in [0, 10)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        label_list l;
        const class_names *names = names_of(ANIMALS, N_ANIMALS);
        cr_expect_eq(label_list_parse(cases[i][0], N_ANIMALS, names, &l, &why), DDPM_EINVAL, "%s", cases[i][0]);
        cr_expect(strstr(why.text, cases[i][1]), "%s: expected '%s', got: %s", cases[i][0], cases[i][1], why.text);
        cr_expect_null(l.range);
    }
}

/* Folders that are called like numbers are sorted as texts, so that their numbers are others. */
Test(label_list, a_number_that_is_also_another_name_is_ambiguous)
{
    static const char *const folders[] = {"0", "1", "10", "11", "2"};
    label_list l;
    const class_names *names = names_of(folders, 5);
    cr_expect_eq(label_list_parse("1,2", 5, names, &l, &why), DDPM_EINVAL);
    cr_expect_str_eq(
        why.text,
        "labels: 2 is a class, and also the name of class 4; write \"2\" for the name, or 2-2 for the number");
    cr_assert_eq(label_list_parse("\"2\",2-2,0,1,10,3", 5, names, &l, &why), DDPM_OK, "%s", why.text);
    cr_expect_str_eq(l.text, "4,2,0,1,2,3");
    label_list_free(&l);
}

/* More classes than the network has are no classes of pictures: the null class may have a name. */
Test(label_list, a_name_beyond_the_classes_is_refused)
{
    label_list l;
    cr_expect_eq(label_list_parse("10", 9, names_of(ANIMALS, N_ANIMALS), &l, &why), DDPM_EINVAL);
    cr_expect(strstr(why.text, "label 9 is not in [0, 9)"), "%s", why.text);
}
