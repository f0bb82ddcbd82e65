#include "io/atomic_dir.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    cr_assert_not_null(d, "%s", dir);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

static atomic_dir begin(const char *parent, const char *name)
{
    atomic_dir t;
    err e = {0};
    cr_assert_eq(atomic_dir_begin(&t, parent, name, &e), DDPM_OK, "%s", e.text);
    return t;
}

static void save(const char *parent, const char *name, const char *text)
{
    atomic_dir t = begin(parent, name);
    err e = {0};
    cr_assert_eq(dir_make(in_dir(t.path, "sub"), &e), DDPM_OK, "%s", e.text);
    put_file(in_dir(t.path, "sub/file"), text);
    put_file(in_dir(t.path, text), "");
    cr_assert_eq(atomic_dir_commit(&t, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(t.path, "");
}

static void expect(const char *parent, const char *name, const char *text)
{
    char dir[PATH_CAP], wanted[PATH_CAP];
    (void)snprintf(dir, sizeof dir, "%s", in_dir(parent, name));
    (void)snprintf(wanted, sizeof wanted, "%s", in_dir(parent, "wanted"));
    put_file(wanted, text);
    cr_assert(same_bytes(in_dir(dir, "sub/file"), wanted));
    cr_assert(path_exists(in_dir(dir, text)));
    cr_assert_eq(entries(dir), 2, "more than was written is in %s", dir);
    cr_assert_eq(unlink(wanted), 0);
}

Test(atomic_dir, appears_at_the_commit_and_not_before)
{
    char parent[PATH_CAP];
    scratch_make(parent);
    atomic_dir t = begin(in_dir(parent, "made/here"), "a");
    cr_assert(path_is_dir(t.path));
    cr_assert_not(path_exists(in_dir(parent, "made/here/a")));
    atomic_dir_abort(&t);
    cr_assert_eq(entries(in_dir(parent, "made/here")), 0);
    atomic_dir_abort(&t);
    err e = {0};
    cr_assert_eq(atomic_dir_commit(&t, &e), DDPM_EINVAL);
    save(parent, "b", "text");
    expect(parent, "b", "text");
    struct stat info;
    cr_assert_eq(stat(in_dir(parent, "b"), &info), 0);
    cr_assert_eq(info.st_mode & 0700, 0700);
    scratch_remove(parent);
}

Test(atomic_dir, replaces_an_older_one_whole)
{
    char parent[PATH_CAP];
    scratch_make(parent);
    save(parent, "a", "old");
    save(parent, "a", "new");
    expect(parent, "a", "new");
    cr_assert_eq(entries(parent), 1);
    scratch_remove(parent);
}

Test(atomic_dir, bad_names_are_refused)
{
    char parent[PATH_CAP], name[300];
    atomic_dir t;
    scratch_make(parent);
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    const char *const names[] = {"", ".", "..", ".hidden", "a/b", "../a", name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        err e = {0};
        cr_assert_eq(atomic_dir_begin(&t, parent, names[i], &e), DDPM_EINVAL, "%s", names[i]);
        atomic_dir_abort(&t);
    }
    cr_assert_eq(entries(parent), 0);
    scratch_remove(parent);
}

Test(atomic_dir, the_sweep_removes_what_a_crash_left)
{
    char parent[PATH_CAP];
    scratch_make(parent);
    save(parent, "a", "kept");
    (void)begin(parent, "a"); /* and then the power goes */
    const atomic_dir half = begin(parent, "b");
    put_file(in_dir(half.path, "x"), "x");
    cr_assert_eq(rename(in_dir(parent, "a"), in_dir(parent, ".old-c-abc234")), 0); /* set aside, not replaced */
    save(parent, "d", "new");
    save(parent, "d-abc234", "old"); /* replaced, not removed */
    cr_assert_eq(rename(in_dir(parent, "d-abc234"), in_dir(parent, ".old-d-abc234")), 0);
    put_file(in_dir(parent, ".old-"), "too short to be ours");
    put_file(in_dir(parent, ".tmp-mywork"), "not ours"); /* faults A9: it was removed */
    notes left = {.text = ""};
    atomic_dir_sweep(parent, &left);
    cr_assert_str_empty(left.text);
    cr_assert(path_exists(in_dir(parent, ".tmp-mywork")));
    cr_assert_eq(unlink(in_dir(parent, ".tmp-mywork")), 0);
    expect(parent, "c", "kept");
    expect(parent, "d", "new");
    cr_assert_eq(entries(parent), 3);
    atomic_dir_sweep(in_dir(parent, "missing"), &left);
    cr_assert_str_empty(left.text);
    scratch_remove(parent);
}

Test(atomic_dir, delete_removes_and_takes_nothing)
{
    char parent[PATH_CAP];
    err e = {0};
    scratch_make(parent);
    save(parent, "a", "x");
    cr_assert_eq(atomic_dir_delete(parent, "a", &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(entries(parent), 0);
    cr_assert_eq(atomic_dir_delete(parent, "a", &e), DDPM_OK, "%s", e.text);
    scratch_remove(parent);
}

Test(atomic_dir, a_link_in_it_is_not_followed)
{
    char parent[PATH_CAP];
    err e = {0};
    scratch_make(parent);
    put_file(in_dir(parent, "outside"), "x");
    atomic_dir t = begin(parent, "a");
    cr_assert_eq(symlink(in_dir(parent, "outside"), in_dir(t.path, "link")), 0);
    cr_assert_eq(symlink(parent, in_dir(t.path, "loop")), 0);
    cr_assert_eq(atomic_dir_commit(&t, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(atomic_dir_delete(parent, "a", &e), DDPM_OK, "%s", e.text);
    cr_assert(path_exists(in_dir(parent, "outside")));
    scratch_remove(parent);
}
