/* classes.json: the names of the classes beside the weights. */
#include "io/class_names.h"
#include "base/mem.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char root[PATH_CAP];
static err why;

static void make_root(void) { scratch_make(root); }
static void remove_root(void) { scratch_remove(root); }
TestSuite(class_names, .init = make_root, .fini = remove_root);

static const char *path(void) { return in_dir(root, "classes.json"); }

static void add_all(class_names *names, const char *const *list)
{
    for (int k = 0; list[k]; k++) OK(class_names_add(names, list[k], &why));
}

Test(class_names, are_written_as_hugging_face_writes_them_and_read_back)
{
    static const char *const list[] = {"cat", "a \"b\", c\\d\n", "\xe7\x8a\xac \xf0\x9f\x90\x95", "3", NULL};
    class_names names = {.says_null = true, .null_class = 4}, back;
    add_all(&names, list);
    OK(class_names_write(&names, root, &why));
    char *text = get_text(path());
    cr_expect_str_eq(text, "{\n  \"id2label\": {\n    \"0\": \"cat\",\n    \"1\": \"a \\\"b\\\", c\\\\d\\n\",\n"
                           "    \"2\": \"\xe7\x8a\xac \xf0\x9f\x90\x95\",\n    \"3\": \"3\"\n  },\n"
                           "  \"null_class\": 4\n}\n");
    mem_free(text);
    OK(class_names_read(root, 5, &back, &why));
    cr_assert_eq(back.n, 4);
    for (int k = 0; k < 4; k++) cr_expect_str_eq(back.name[k], list[k]);
    cr_expect(back.says_null && back.null_class == 4);
    cr_expect_eq(class_names_find(&back, "3"), 3);
    cr_expect_eq(class_names_find(&back, "ca"), -1);
    class_names_free(&names);
    class_names_free(&back);
    cr_expect(back.n == 0 && !back.name && !back.says_null);
}

Test(class_names, what_is_not_known_is_not_written)
{
    class_names names = {0}, back = {.n = 7};
    OK(class_names_write(&names, root, &why));
    cr_expect_not(path_exists(path()));
    OK(class_names_read(root, 5, &back, &why));
    cr_expect(back.n == 0 && !back.says_null);
    names.says_null = true;
    names.null_class = -1;
    OK(class_names_write(&names, root, &why));
    char *text = get_text(path());
    cr_expect_str_eq(text, "{\n  \"null_class\": null\n}\n");
    mem_free(text);
    OK(class_names_read(root, 5, &back, &why));
    cr_expect(back.n == 0 && back.says_null && back.null_class == -1);
}

Test(class_names, other_files_of_this_kind_are_understood)
{
    class_names names;
    put_file(path(),
             " \n{\"label2id\": {\"x\": [0, {}]}, \"id2label\": {\"1\": \"\\u0062\", \"0\": \"a\"} , \"v\": 1.5}\n");
    OK(class_names_read(root, 3, &names, &why));
    cr_assert_eq(names.n, 2);
    cr_expect_str_eq(names.name[0], "a");
    cr_expect_str_eq(names.name[1], "b");
    cr_expect_not(names.says_null);
    class_names_free(&names);
    put_file(path(), "{\"id2label\": {}}");
    OK(class_names_read(root, 3, &names, &why));
    cr_expect_eq(names.n, 0);
    class_names_free(&names);
    put_file(path(), "{}");
    OK(class_names_read(root, 3, &names, &why));
}

Test(class_names, hostile_files_are_refused_in_one_line)
{
    static const char *const cases[][2] = {
        {"", "the file, which must be an object {...}, is not valid JSON"},
        {"[]", "must be an object"},
        {"{", "the file is not valid JSON"},
        {"{\"id2label\": {\"0\": \"a\"}", "the file is not valid JSON"},
        {"{\"id2label\": {\"0\": \"a\"}} x", "the file is not valid JSON"},
        {"{\"id2label\": [\"a\"]}", "id2label must be one object"},
        {"{\"id2label\": 3}", "id2label must be one object"},
        {"{\"id2label\": {\"0\": \"a\"}, \"id2label\": {\"0\": \"b\"}}", "id2label must be one object"},
        {"{\"id2label\": {\"0\": \"a\", \"0\": \"b\"}}", "\"0\" must be a class from 0 to 1, each once"},
        {"{\"id2label\": {\"1\": \"a\"}}", "\"1\" must be a class from 0 to 0"},
        {"{\"id2label\": {\"-1\": \"a\"}}", "\"-1\" must be a class"},
        {"{\"id2label\": {\"00\": \"a\"}}", "\"00\" must be a class"},
        {"{\"id2label\": {\"\": \"a\"}}", "\"\" must be a class"},
        {"{\"id2label\": {\"99999999999999999999\": \"a\"}}", "must be a class"},
        {"{\"id2label\": {\"0x0\": \"a\"}}", "must be a class"},
        {"{\"id2label\": {\"0\": 3}}", "the name of class 0 must be a text"},
        {"{\"id2label\": {\"0\": \"\"}}", "the name of class 0 must be a text"},
        {"{\"id2label\": {\"0\": \"a\\u0000b\"}}", "the name of class 0 must be a text"},
        {"{\"id2label\": {\"0\": \"\xff\"}}", "the name of class 0 must be a text"},
        {"{\"id2label\": {\"0\": {\"a\": 1}}}", "the name of class 0 must be a text"},
        {"{\"id2label\": {\"0\" \"a\"}}", "id2label is not valid JSON"},
        {"{\"id2label\": {\"0\": \"a\", \"1\": \"a\", \"2\": \"a\", \"3\": \"a\"}}",
         "more names than the network's 3 classes"},
        {"{\"null_class\": 1}", "null_class must be the last of the network's 3 classes, 2, or null"},
        {"{\"null_class\": 3}", "null_class must be the last"},
        {"{\"null_class\": -1}", "null_class must be the last"},
        {"{\"null_class\": \"2\"}", "null_class must be the last"},
        {"{\"null_class\": 2.0}", "null_class must be the last"},
        {"{\"null_class\": }", "null_class must be the last"},
        {"{\"null_class\": 2, \"null_class\": null}", "null_class must be the last"},
        {"{\"null_class\": 2, \"id2label\": {\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"}}",
         "null_class 2 is also a class of id2label, which has 3 names"},
    };
    class_names names;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_file(path(), cases[i][0]);
        cr_expect_eq(class_names_read(root, 3, &names, &why), DDPM_EDATA, "%s", cases[i][0]);
        cr_expect(strstr(why.text, cases[i][1]), "%s: expected '%s', got: %s", cases[i][0], cases[i][1], why.text);
        cr_expect(!strncmp(why.text, root, strlen(root)) && !strchr(why.text, '\n'), "%s", why.text);
        cr_expect(names.n == 0 && !names.name && !names.says_null);
    }
}

Test(class_names, large_files_are_refused_before_memory_is_taken)
{
    enum { LARGE = 60 << 20 };
    class_names names;
    char *text = malloc(LARGE);
    cr_assert_not_null(text);
    strcpy(text, "{\"id2label\": {\"0\": \"");
    size_t used = strlen(text);
    memset(text + used, 'x', LARGE - used); /* one name of 60 MB */
    memcpy(text + LARGE - 3, "\"}}", 3);
    cr_expect_eq(class_names_parse(text, LARGE, "big", 3, &names, &why), DDPM_EDATA);
    cr_expect(strstr(why.text, "big: id2label: the name of class 0 must be a text of 1 to 255 bytes"), "%s", why.text);
    for (used = strlen("{\"id2label\": {"); used + 16 < LARGE; used += 8) memcpy(text + used, "\"0\":\"a\",", 8);
    memcpy(text + used - 1, "}}", 2);
    cr_expect_eq(class_names_parse(text, used + 1, "big", 1000000, &names, &why), DDPM_EDATA);
    cr_expect(strstr(why.text, "more names than the network's 1000000 classes"), "%s", why.text);
    memset(text, '[', LARGE);
    memcpy(text, "{\"id2label\":", 12);
    cr_expect_eq(class_names_parse(text, LARGE, "big", 3, &names, &why), DDPM_EDATA);
    free(text);
}

Test(class_names, names_that_cannot_be_written_are_not_added)
{
    char name[CLASS_NAME_BYTES + 2];
    class_names names = {0}, back;
    memset(name, '\x01', sizeof name); /* the longest escapes */
    name[CLASS_NAME_BYTES] = '\0';
    cr_expect_eq(class_names_add(&names, "", &why), DDPM_EINVAL);
    cr_expect_eq(class_names_add(&names, "\xed\xa0\x80", &why), DDPM_EINVAL);
    ddpm_status st = DDPM_OK;
    while (st == DDPM_OK) st = class_names_add(&names, name, &why);
    cr_expect_eq(st, DDPM_EINVAL);
    cr_expect(names.n > 20000 && strstr(why.text, "cannot be stored"), "%d: %s", names.n, why.text);
    OK(class_names_write(&names, root, &why));
    OK(class_names_read(root, names.n, &back, &why)); /* whatever can be added can be read */
    cr_expect_eq(back.n, names.n);
    cr_expect_str_eq(back.name[names.n - 1], name);
    class_names_free(&back);
    class_names_free(&names);
    name[CLASS_NAME_BYTES] = 'x';
    name[CLASS_NAME_BYTES + 1] = '\0';
    cr_expect_eq(class_names_add(&names, name, &why), DDPM_EINVAL);
}
