/* The autotune cache: the file of chosen algos. */
#include "base/file.h"
#include "scripted_engines.h"
#include "support/io_support.h"

static char dir[PATH_CAP], file[PATH_CAP]; /* of the running test: a folder, and the file in it */

static void make_folder(void)
{
    set_up();
    (void)snprintf(file, sizeof file, "%s", in_dir(scratch_make(dir), "algos"));
}

static void remove_folder(void)
{
    scratch_remove(dir);
    nothing_left();
}

TestSuite(autotune_cache, .init = make_folder, .fini = remove_folder);

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

Test(autotune_cache, takes_the_first_algo_where_nothing_fits)
{
    library l = three(20, 10, 30);
    device.memory = 1024;
    tuner *c = begin_with(file, "m");
    primitive *p = get(c, "conv:1", &l);
    char name[PRIMITIVE_NAME];
    p->fn->name(p, 0, name);
    cr_expect_str_eq(name, "a");
    cr_expect_not_null(strstr(tuner_warning(c), "conv:1: out of memory for autotuning"), "%s", tuner_warning(c));
    tuner_destroy(c);
    cr_expect_eq(all_runs(&l), 0);
    cr_expect_not(path_exists(file), "what was not timed is no choice to remember");
}

Test(autotune_cache, untimed_keeps_the_first_algo)
{
    char before[4096];
    tuner_spec spec = usual;
    library l = three(30, 20, 10);
    spec.file = file;
    cr_expect_str_eq(kept_with(&spec, &l), "c");
    strcpy(before, read_text(file));
    spec.untimed = true;
    device.calls = 0;
    cr_expect_str_eq(kept_with(&spec, &l), "a");
    cr_expect_str_eq(l.cached_algo, "");
    cr_expect_eq(device.calls, 0);
    cr_expect_str_eq(read_text(file), before);
}

Test(autotune_cache, takes_the_algo_from_the_cache)
{
    (void)snprintf(file, sizeof file, "%s", in_dir(dir, "deep/er/algos"));
    library l = three(30, 10, 20), later = three(1, 10, 20);
    tuner *c = begin_with(file, "m");
    get(c, "p", &l);
    cr_expect(path_exists(file), "a choice is on disk at once");
    tuner_destroy(c);
    c = begin_with(file, "m");
    primitive *p = get(c, "p", &later);
    cr_expect_str_eq(later.cached_algo, "b");
    cr_expect_eq(p->fn->count(p), 1);
    cr_expect_eq(all_runs(&later), 0);
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    tuner_report(c, to);
    (void)fclose(to);
    cr_expect_str_eq(text, "p\tb\t0.00\t0\n");
    free(text);
    get(c, "q", &l); /* the file is written again and keeps entries that were only read */
    cr_expect_str_eq(tuner_warning(c), "");
    tuner_destroy(c);
    cr_expect_eq(count_of(read_text(file), "\tp\tb\t"), 1, "%s", read_text(file));
    cr_expect_eq(count_of(read_text(file), "\tq\tb\t"), 1, "%s", read_text(file));
}

Test(autotune_cache, another_machine_or_search_is_another_choice)
{
    tuner_spec spec[5] = {usual, usual, usual, usual, usual};
    spec[1].machine = "another device";
    spec[2].deterministic = false;
    spec[3].workspace_cap = 1 << 19;
    spec[4].eager = true;
    for (int i = 0; i < 5; i++) {
        library l = three(30, 10, 20);
        spec[i].file = file;
        (void)kept_with(&spec[i], &l);
        cr_expect_str_eq(l.cached_algo, "", "spec %d", i);
    }
    for (int i = 0; i < 5; i++) { /* no line was lost */
        library l = three(30, 10, 20);
        (void)kept_with(&spec[i], &l);
        cr_expect_str_eq(l.cached_algo, "b", "spec %d", i);
    }
}

Test(autotune_cache, times_anew_when_the_cached_algo_is_gone)
{
    tuner_spec spec = usual;
    spec.file = file;
    library l = three(30, 10, 20);
    (void)kept_with(&spec, &l);
    l.algo[1].name = "new";
    l.algo[1].us = 40;
    cr_expect_str_eq(kept_with(&spec, &l), "c");
    cr_expect_eq(count_of(read_text(file), "\tp\t"), 1, "%s", read_text(file));
    library again = l;
    cr_expect_str_eq(kept_with(&spec, &again), "c");
    cr_expect_str_eq(again.cached_algo, "c");
}

Test(autotune_cache, keeps_what_others_wrote_meanwhile)
{
    library l = three(30, 10, 20), m = three(30, 10, 20), n = three(10, 20, 30);
    tuner *one = begin_with(file, "m"), *two = begin_with(file, "m"), *three_ = begin_with(file, "x");
    get(one, "p", &l);
    get(two, "q", &m);
    get(three_, "p", &n);
    get(one, "r", &l);
    tuner_destroy(one);
    tuner_destroy(two);
    tuner_destroy(three_);
    const char *text = read_text(file);
    cr_expect_eq(count_of(text, "\tp\tb\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\tq\tb\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\tr\tb\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\tp\ta\t"), 1, "%s", text);
    cr_expect_eq(count_of(text, "\n"), 5, "%s", text);
}

Test(autotune_cache, the_last_line_of_a_problem_holds)
{
    tuner_spec spec = usual;
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

Test(autotune_cache, damaged_lines_are_said_and_dropped_and_others_kept)
{
    put_file(file, "ddpm plans 1\n"
                   "# by hand\n"
                   "0123456789abcdef\tconv:9\tengine7\t12.5\n" /* of another machine */
                   "\n"
                   "0123456789abcdef\tconv:9\tengine7\n"        /* a field is missing */
                   "0123456789abcdef\tconv:9\tengine7\t1\t2\n"  /* a field too many */
                   "0123456789abcdefg\tconv:9\tengine7\t12.5\n" /* not a key */
                   "0123456789abcdef\tconv:9\tengine7\tquick\n" /* not a number */
                   "0123456789abcdef\tconv:9\tengine7\t-1\n"    /* not a time */
                   "0123456789abcdef\t\tengine7\t12.5\n"        /* no problem */
                   "0123456789abcdef\tconv:9\tengine7\t12.5x");
    library l = three(30, 10, 20);
    tuner *c = begin_with(file, "m");
    cr_expect_not_null(strstr(tuner_warning(c), ": 8 damaged lines ignored"), "%s", tuner_warning(c));
    get(c, "p", &l);
    tuner_destroy(c);
    const char *text = read_text(file), *rest = "ddpm autotune 1\n# by hand\n0123456789abcdef\tconv:9\tengine7\t12.5\n";
    cr_expect_eq(strncmp(text, rest, strlen(rest)), 0, "%s", text);
    cr_expect_eq(count_of(text, "\n"), 4, "%s", text);
    c = begin_with(file, "m");
    cr_expect_str_eq(tuner_warning(c), "");
    tuner_destroy(c);
}

/* Problems that an earlier version tuned are not timed again, and its file stays. */
Test(autotune_cache, plans_txt_is_read_where_autotune_txt_is_missing)
{
    static const char NAME[] = "autotune.txt";
    char old[PATH_CAP], text[4096];
    (void)snprintf(file, sizeof file, "%s", in_dir(dir, NAME));
    (void)snprintf(old, sizeof old, "%s", in_dir(dir, "plans.txt"));
    tuner_spec spec = usual;
    spec.file = file;
    library l = three(30, 10, 20);
    (void)kept_with(&spec, &l);
    (void)snprintf(text, sizeof text, "ddpm plans 1%s", strchr(read_text(file), '\n'));
    strstr(text, "\tb\t")[1] = 'c';
    put_file(old, text);
    cr_expect_str_eq(kept_with(&spec, &l), "b", "the new file is there");
    cr_assert_eq(remove(file), 0);
    cr_expect_str_eq(kept_with(&spec, &l), "c");
    cr_expect_not(path_exists(file), "nothing new was chosen");
    tuner *c = begin_with(file, spec.machine);
    get(c, "another", &l);
    tuner_destroy(c);
    cr_expect_eq(count_of(read_text(file), "\n"), 3, "%s", read_text(file));
    cr_expect_str_eq(read_text(old), text);
}

Test(autotune_cache, an_empty_file_is_begun)
{
    put_file(file, "");
    library l = three(30, 10, 20);
    tuner *c = begin_with(file, "m");
    get(c, "p", &l);
    cr_expect_str_eq(tuner_warning(c), "");
    tuner_destroy(c);
    cr_expect_eq(count_of(read_text(file), "\tp\tb\t"), 1);
}

Test(autotune_cache, a_file_that_is_something_else_is_left_as_it_is)
{
    static const char *const others[] = {"run: 1\nseed: 2\n", "ddpm autotune 2\n", "ddpm autotune 1 and more\n", "\n"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        put_file(file, others[i]);
        library l = three(30, 10, 20);
        tuner *c = begin_with(file, "m");
        cr_expect_not_null(strstr(tuner_warning(c), "not an autotune cache"), "%s", tuner_warning(c));
        get(c, "p", &l);
        tuner_destroy(c);
        cr_expect_str_eq(read_text(file), others[i]);
    }
    /* the file was replaced by something else after it was read */
    cr_assert_eq(remove(file), 0);
    library l = three(30, 10, 20);
    tuner *c = begin_with(file, "m");
    put_file(file, "run: 1\n");
    get(c, "p", &l);
    cr_expect_not_null(strstr(tuner_warning(c), "not an autotune cache"), "%s", tuner_warning(c));
    tuner_destroy(c);
    cr_expect_str_eq(read_text(file), "run: 1\n");
}

Test(autotune_cache, a_file_that_cannot_be_used_is_a_remark)
{
    put_file(in_dir(dir, "plain"), "");
    const char *const bad[] = {dir, in_dir(dir, "plain/algos")};
    static const char *const text[] = {"not a regular file", "plain"};
    for (int i = 0; i < 2; i++) {
        library l = three(30, 10, 20);
        tuner *c = begin_with(bad[i], "m");
        get(c, "p", &l);
        cr_expect_not_null(strstr(tuner_warning(c), text[i]), "%s", tuner_warning(c));
        get(c, "q", &l);
        tuner_destroy(c);
    }
}

Test(autotune_cache, works_without_a_file)
{
    library l = three(30, 10, 20);
    tuner *c = begin_with("", "m");
    get(c, "p", &l);
    cr_expect_str_eq(tuner_warning(c), "");
    tuner_destroy(c);
}
