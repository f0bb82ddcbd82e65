/* The file that remembers the plans that were chosen. */
#include "base/file.h"
#include "backend/emulated/scripted_engines.h"
#include "support/io_support.h"

static char dir[PATH_CAP], file[PATH_CAP]; /* of the running test: a folder, and the file in it */

static void make_folder(void)
{
    set_up();
    (void)snprintf(file, sizeof file, "%s", in_dir(scratch_make(dir), "plans"));
}

static void remove_folder(void)
{
    scratch_remove(dir);
    nothing_left();
}

TestSuite(cuda_cache, .init = make_folder, .fini = remove_folder);

static const char *read_text(const char *path)
{
    static char text[1 << 16];
    char *bytes;
    size_t size;
    err why = {0};
    OK(file_read(path, sizeof text - 1, &bytes, &size, &why));
    memcpy(text, bytes, size + 1);
    mem_free(bytes);
    return text;
}

Test(cuda_cache, takes_the_first_plan_where_nothing_fits)
{
    library l = three(20, 10, 30);
    device.memory = 1024;
    choices *c = begin_with(file, "m");
    primitive *p = get(c, "conv:1", &l);
    char name[PRIMITIVE_NAME];
    p->fn->name(p, 0, name);
    cr_expect_str_eq(name, "a");
    cr_expect_not_null(strstr(choices_remark(c), "conv:1: no memory to time its plans"), "%s", choices_remark(c));
    choices_destroy(c);
    cr_expect_eq(all_runs(&l), 0);
    cr_expect_not(path_exists(file), "what was not timed is no choice to remember");
}

Test(cuda_cache, untimed_keeps_the_first_plan)
{
    char before[4096];
    choices_spec spec = usual;
    library l = three(30, 20, 10);
    spec.file = file;
    cr_expect_str_eq(kept_with(&spec, &l), "c");
    strcpy(before, read_text(file));
    spec.untimed = true;
    device.calls = 0;
    cr_expect_str_eq(kept_with(&spec, &l), "a");
    cr_expect_str_eq(l.wanted, "");
    cr_expect_eq(device.calls, 0);
    cr_expect_str_eq(read_text(file), before);
}

Test(cuda_cache, takes_the_plan_from_the_cache)
{
    (void)snprintf(file, sizeof file, "%s", in_dir(dir, "deep/er/plans"));
    library l = three(30, 10, 20), later = three(1, 10, 20);
    choices *c = begin_with(file, "m");
    get(c, "p", &l);
    cr_expect(path_exists(file), "a choice is on disk at once");
    choices_destroy(c);
    c = begin_with(file, "m");
    primitive *p = get(c, "p", &later);
    cr_expect_str_eq(later.wanted, "b");
    cr_expect_eq(p->fn->count(p), 1);
    cr_expect_eq(all_runs(&later), 0);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    choices_dump(c, to);
    (void)fclose(to);
    cr_expect_str_eq(text, "p\tb\t0.00\t0\n");
    free(text);
    get(c, "q", &l); /* the file is written again, and what was only taken from it stays */
    cr_expect_str_eq(choices_remark(c), "");
    choices_destroy(c);
    cr_expect_eq(count_of(read_text(file), "\tp\tb\t"), 1, "%s", read_text(file));
    cr_expect_eq(count_of(read_text(file), "\tq\tb\t"), 1, "%s", read_text(file));
}

Test(cuda_cache, another_machine_or_search_is_another_choice)
{
    choices_spec spec[5] = {usual, usual, usual, usual, usual};
    spec[1].machine = "another device";
    spec[2].deterministic = false;
    spec[3].workspace_cap = 1 << 19;
    spec[4].eager = true;
    for (int i = 0; i < 5; i++) {
        library l = three(30, 10, 20);
        spec[i].file = file;
        (void)kept_with(&spec[i], &l);
        cr_expect_str_eq(l.wanted, "", "spec %d", i);
    }
    for (int i = 0; i < 5; i++) { /* and nobody lost a line */
        library l = three(30, 10, 20);
        (void)kept_with(&spec[i], &l);
        cr_expect_str_eq(l.wanted, "b", "spec %d", i);
    }
}

Test(cuda_cache, times_anew_when_the_cached_plan_is_gone)
{
    choices_spec spec = usual;
    spec.file = file;
    library l = three(30, 10, 20);
    (void)kept_with(&spec, &l);
    l.plan[1].name = "new";
    l.plan[1].us = 40;
    cr_expect_str_eq(kept_with(&spec, &l), "c");
    cr_expect_eq(count_of(read_text(file), "\tp\t"), 1, "%s", read_text(file));
    library again = l;
    cr_expect_str_eq(kept_with(&spec, &again), "c");
    cr_expect_str_eq(again.wanted, "c");
}

Test(cuda_cache, keeps_what_others_wrote_meanwhile)
{
    library l = three(30, 10, 20), m = three(30, 10, 20), n = three(10, 20, 30);
    choices *one = begin_with(file, "m"), *two = begin_with(file, "m"), *three_ = begin_with(file, "x");
    get(one, "p", &l);
    get(two, "q", &m);
    get(three_, "p", &n);
    get(one, "r", &l);
    choices_destroy(one);
    choices_destroy(two);
    choices_destroy(three_);
    const char *text = read_text(file);
    cr_expect_eq(count_of(text, "\tp\tb\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\tq\tb\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\tr\tb\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\tp\ta\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\n"), 5, "%s", text);
}

Test(cuda_cache, the_last_line_of_a_problem_holds)
{
    choices_spec spec = usual;
    spec.file = file;
    library l = three(30, 10, 20);
    (void)kept_with(&spec, &l);
    char text[4096], *line = strchr(strcpy(text, read_text(file)), '\n') + 1;
    char second[2048];
    (void)snprintf(second, sizeof second, "%s", line);
    strstr(second, "\tb\t")[1] = 'c';
    put_file(file, strcat(text, second));
    cr_expect_str_eq(kept_with(&spec, &l), "c");
}

Test(cuda_cache, damaged_lines_are_said_and_dropped_and_others_kept)
{
    put_file(file, "ddpm plans 1\n"
                   "# by hand\n"
                   "0123456789abcdef\tconv:9\tengine7\t12.5\n" /* another machine's */
                   "\n"
                   "0123456789abcdef\tconv:9\tengine7\n"        /* a field short */
                   "0123456789abcdef\tconv:9\tengine7\t1\t2\n"  /* one too many */
                   "0123456789abcdefg\tconv:9\tengine7\t12.5\n" /* no key */
                   "0123456789abcdef\tconv:9\tengine7\tquick\n" /* no number */
                   "0123456789abcdef\tconv:9\tengine7\t-1\n"    /* no time */
                   "0123456789abcdef\t\tengine7\t12.5\n"        /* no problem */
                   "0123456789abcdef\tconv:9\tengine7\t12.5x");
    library l = three(30, 10, 20);
    choices *c = begin_with(file, "m");
    cr_expect_not_null(strstr(choices_remark(c), ": 8 damaged lines left out"), "%s", choices_remark(c));
    get(c, "p", &l);
    choices_destroy(c);
    const char *text = read_text(file), *rest = "ddpm plans 1\n# by hand\n0123456789abcdef\tconv:9\tengine7\t12.5\n";
    cr_expect_eq(strncmp(text, rest, strlen(rest)), 0, "%s", text);
    cr_expect_eq(count_of(text, "\n"), 4, "%s", text);
    c = begin_with(file, "m");
    cr_expect_str_eq(choices_remark(c), "");
    choices_destroy(c);
}

Test(cuda_cache, an_empty_file_is_begun)
{
    put_file(file, "");
    library l = three(30, 10, 20);
    choices *c = begin_with(file, "m");
    get(c, "p", &l);
    cr_expect_str_eq(choices_remark(c), "");
    choices_destroy(c);
    cr_expect_eq(count_of(read_text(file), "\tp\tb\t"), 1);
}

Test(cuda_cache, a_file_that_is_something_else_is_left_as_it_is)
{
    static const char *const others[] = {"run: 1\nseed: 2\n", "ddpm plans 2\n", "ddpm plans 1 and more\n", "\n"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        put_file(file, others[i]);
        library l = three(30, 10, 20);
        choices *c = begin_with(file, "m");
        cr_expect_not_null(strstr(choices_remark(c), "no cache of plans"), "%s", choices_remark(c));
        get(c, "p", &l);
        choices_destroy(c);
        cr_expect_str_eq(read_text(file), others[i]);
    }
    /* it became something else after it was read */
    cr_assert_eq(remove(file), 0);
    library l = three(30, 10, 20);
    choices *c = begin_with(file, "m");
    put_file(file, "run: 1\n");
    get(c, "p", &l);
    cr_expect_not_null(strstr(choices_remark(c), "no cache of plans"), "%s", choices_remark(c));
    choices_destroy(c);
    cr_expect_str_eq(read_text(file), "run: 1\n");
}

Test(cuda_cache, a_file_that_cannot_be_used_is_a_remark)
{
    put_file(in_dir(dir, "plain"), "");
    const char *const bad[] = {dir, in_dir(dir, "plain/plans")};
    static const char *const text[] = {"not a regular file", "plain"};
    for (int i = 0; i < 2; i++) {
        library l = three(30, 10, 20);
        choices *c = begin_with(bad[i], "m");
        get(c, "p", &l);
        cr_expect_not_null(strstr(choices_remark(c), text[i]), "%s", choices_remark(c));
        get(c, "q", &l);
        choices_destroy(c);
    }
}

Test(cuda_cache, works_without_a_file)
{
    library l = three(30, 10, 20);
    choices *c = begin_with("", "m");
    get(c, "p", &l);
    cr_expect_str_eq(choices_remark(c), "");
    choices_destroy(c);
}
