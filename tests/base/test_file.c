/* Files written: whole or not at all, through what is no regular file, and by any number of processes at once. */
#include "base/file.h"
#include "base/mem.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[PATH_CAP];
static err why;

static void make_folder(void) { scratch_make(folder); }
static void remove_folder(void) { scratch_remove(folder); }

TestSuite(file, .init = make_folder, .fini = remove_folder, .timeout = 60);

static const char *in_folder(const char *name) { return in_dir(folder, name); }

static int entries(void)
{
    int n = -2; /* . and .. */
    DIR *d = opendir(folder);
    cr_assert_not_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void expect_text(const char *name, const char *text)
{
    char *bytes = get_text(in_folder(name));
    cr_expect_str_eq(bytes, text);
    mem_free(bytes);
}

static mode_t kind_of(const char *name)
{
    struct stat info;
    cr_assert_eq(lstat(in_folder(name), &info), 0, "%s is gone", name);
    return info.st_mode & S_IFMT;
}

/* Each of the three ways to write a file. */
static ddpm_status write_plainly(const char *path, const void *bytes, size_t size, err *e)
{
    return file_write(path, bytes, size, true, e);
}
typedef ddpm_status writer(const char *path, const void *bytes, size_t size, err *e);
static writer *const writers[] = {write_plainly, file_replace, file_replace_lazily};
enum { WRITERS = sizeof writers / sizeof *writers };

static void put(writer *w, const char *name, const char *text)
{
    cr_assert_eq(w(in_folder(name), text, strlen(text), &why), DDPM_OK, "%s", why.text);
}

Test(file, a_regular_file_is_written_and_replaced)
{
    for (int k = 0; k < WRITERS; k++) {
        put(writers[k], "a", "first");
        put(writers[k], "a", "2nd");
        expect_text("a", "2nd");
        cr_expect_eq(entries(), 1, "no temporary file is left");
    }
}

/* faults A10: as root, a rename put a regular file in place of /dev/null. */
Test(file, a_device_is_written_into_and_stays)
{
    if (mknod(in_folder("null"), S_IFCHR | 0666, makedev(1, 3)) || access(in_folder("null"), W_OK))
        cr_skip_test("no device can be made here (not root?)");
    for (int k = 0; k < WRITERS; k++) {
        put(writers[k], "null", "swallowed");
        cr_expect_eq(kind_of("null"), S_IFCHR);
    }
    /* also where writing fails */
    cr_assert_eq(mknod(in_folder("full"), S_IFCHR | 0666, makedev(1, 7)), 0);
    for (int k = 0; k < WRITERS; k++) {
        cr_expect_eq(writers[k](in_folder("full"), "x", 1, &why), DDPM_EIO);
        cr_expect(strstr(why.text, "full: ") && strstr(why.text, "No space left"), "%s", why.text);
        cr_expect_eq(kind_of("full"), S_IFCHR);
    }
    cr_expect_eq(entries(), 2);
}

/* faults A10: a link is followed and stays a link, also one to a device. */
Test(file, a_link_is_written_through)
{
    cr_assert_eq(mkdir(in_folder("sub"), 0777), 0);
    put(file_replace, "sub/there", "old");
    cr_assert(symlink("sub/there", in_folder("relative")) == 0 && symlink("sub/new", in_folder("dangling")) == 0);
    cr_assert(symlink(in_folder("relative"), in_folder("twice")) == 0 && symlink("/dev/null", in_folder("null")) == 0);
    for (int k = 0; k < WRITERS; k++) {
        static const char *const links[] = {"relative", "dangling", "twice", "null"};
        for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
            put(writers[k], links[i], links[i]);
            cr_expect_eq(kind_of(links[i]), S_IFLNK, "%s", links[i]);
        }
        expect_text("sub/there", "twice");
        expect_text("sub/new", "dangling");
        cr_assert_eq(unlink(in_folder("sub/new")), 0);
    }
    cr_assert_eq(symlink("loop", in_folder("loop")), 0);
    for (int k = 0; k < WRITERS; k++) cr_expect_eq(writers[k](in_folder("loop"), "x", 1, &why), DDPM_EIO);
}

/* /dev/stdout: a link that only an open descriptor makes sense of. */
Test(file, a_pipe_behind_a_descriptor_is_written_into)
{
    int ends[2];
    char path[64], text[16] = "";
    cr_assert_eq(pipe(ends), 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    for (int k = 0; k < WRITERS; k++) {
        cr_assert_eq(writers[k](path, "through", 7, &why), DDPM_OK, "%s", why.text);
        cr_assert_eq(read(ends[0], text, sizeof text), 7);
        cr_expect_str_eq(text, "through");
    }
    /* and a file that was removed while it is open */
    const int fd = open(in_folder("gone"), O_RDWR | O_CREAT, 0666);
    cr_assert(fd >= 0 && unlink(in_folder("gone")) == 0);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int k = 0; k < WRITERS; k++) {
        cr_assert_eq(writers[k](path, "hidden", 6, &why), DDPM_OK, "%s", why.text);
        cr_expect(pread(fd, text, 6, 0) == 6 && !memcmp(text, "hidden", 6));
    }
    cr_expect_eq(entries(), 0, "nothing appears under the old name");
    close(fd);
}

Test(file, a_fifo_with_a_reader_is_written_into_and_one_without_is_refused_at_once)
{
    char text[16] = "";
    cr_assert_eq(mkfifo(in_folder("fifo"), 0666), 0);
    for (int k = 0; k < WRITERS; k++) {
        cr_expect_eq(writers[k](in_folder("fifo"), "x", 1, &why), DDPM_EIO);
        cr_expect_not_null(strstr(why.text, "fifo: cannot write to a FIFO that no process reads"), "%s", why.text);
        const int reader = open(in_folder("fifo"), O_RDONLY | O_NONBLOCK);
        cr_assert_geq(reader, 0);
        put(writers[k], "fifo", "through");
        cr_assert_eq(read(reader, text, sizeof text), 7);
        cr_expect_str_eq(text, "through");
        close(reader);
        cr_expect_eq(kind_of("fifo"), S_IFIFO);
    }
}

Test(file, a_folder_is_no_file)
{
    cr_assert_eq(mkdir(in_folder("d"), 0777), 0);
    for (int k = 0; k < WRITERS; k++) {
        cr_expect_eq(writers[k](in_folder("d"), "x", 1, &why), DDPM_EIO);
        cr_expect_not_null(strstr(why.text, "/d: cannot write: Is a directory"), "%s", why.text);
        cr_expect_eq(writers[k](in_folder("none/x"), "x", 1, &why), DDPM_EIO);
        cr_expect_not_null(strstr(why.text, "none/x: cannot create: No such file"), "%s", why.text);
    }
}

Test(file, a_failure_keeps_the_old_file_and_leaves_no_temporary_one)
{
    struct rlimit limit;
    put(file_replace, "a", "old");
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){2, limit.rlim_max}), 0);
    for (int k = 1; k < WRITERS; k++) {
        cr_expect_eq(writers[k](in_folder("a"), "newer", 5, &why), DDPM_EIO);
        cr_expect_not_null(strstr(why.text, "/a: cannot write: File too large"), "%s", why.text);
    }
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_text("a", "old");
    cr_expect_eq(entries(), 1);
}

Test(file, whether_it_can_be_written_is_known_beforehand)
{
    put(file_replace, "a", "old");
    cr_assert_eq(symlink("a", in_folder("link")), 0);
    static const char *const good[] = {"a", "link", "new"}, *const bad[] = {"none/x", ".", "a/x"};
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(file_writable(in_folder(good[i]), &why), DDPM_OK, "%s: %s", good[i], why.text);
        cr_expect_eq(file_writable(in_folder(bad[i]), &why), DDPM_EIO, "%s", bad[i]);
        cr_expect_not_null(strstr(why.text, bad[i]), "%s", why.text);
    }
    cr_expect_eq(file_writable("/dev/null", &why), DDPM_OK);
    cr_expect_eq(file_writable("here", &why), DDPM_OK);
    cr_expect_eq(file_writable("/here", &why), access("/", W_OK) ? DDPM_EIO : DDPM_OK);
    cr_expect_eq(entries(), 2);
}

Test(file, whether_a_folder_can_be_made_and_written_is_known_beforehand)
{
    static const char *const good[] = {".", "a/b/c/", "a"}, *const bad[] = {"file", "file/below", "file/x/y"};
    put(file_replace, "file", "x");
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(dir_writable(in_folder(good[i]), &why), DDPM_OK, "%s: %s", good[i], why.text);
        cr_expect_eq(dir_writable(in_folder(bad[i]), &why), DDPM_EIO, "%s", bad[i]);
        cr_expect_not_null(strstr(why.text, "file is not a folder"), "%s", why.text);
    }
    cr_expect_eq(dir_writable("here/x", &why), access(".", W_OK) ? DDPM_EIO : DDPM_OK);
    cr_expect_eq(dir_writable("/no-such-folder", &why), access("/", W_OK) ? DDPM_EIO : DDPM_OK);
    cr_expect_eq(entries(), 1, "it is only looked at");
}

/* A name of 255 bytes leaves no room for a longer one beside it. */
Test(file, the_longest_name_can_be_replaced)
{
    char name[256];
    memset(name, 'n', sizeof name);
    name[255] = '\0';
    put(file_replace, name, "long");
    expect_text(name, "long");
}

/* faults B2: one fixed name of the temporary file made writers of one file trip over each other. */
Test(file, many_processes_replace_one_file_at_once)
{
    enum { PROCESSES = 8, TIMES = 200 };
    pid_t child[PROCESSES];
    char text[PROCESSES][4096];
    for (int p = 0; p < PROCESSES; p++) {
        memset(text[p], 'a' + p, sizeof text[p] - 1);
        text[p][sizeof text[p] - 1] = '\0';
        child[p] = fork();
        cr_assert_geq(child[p], 0);
        if (child[p] > 0) continue;
        for (int i = 0; i < TIMES; i++)
            if (file_replace_lazily(in_folder("a"), text[p], sizeof text[p] - 1, NULL) != DDPM_OK) _exit(1);
        _exit(0);
    }
    for (int p = 0; p < PROCESSES; p++) {
        int status;
        cr_assert_eq(waitpid(child[p], &status, 0), child[p]);
        cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "process %d met another's temporary file", p);
    }
    char *bytes;
    size_t size;
    cr_assert_eq(file_read(in_folder("a"), 1 << 20, &bytes, &size, &why), DDPM_OK, "%s", why.text);
    cr_expect(size == 4095 && strspn(bytes, (char[]){bytes[0], '\0'}) == size, "of two writers");
    mem_free(bytes);
    cr_expect_eq(entries(), 1);
}

static void put_aged(const char *name, time_t age)
{
    const struct timespec when[2] = {{time(NULL) - age, 0}, {time(NULL) - age, 0}};
    cr_assert_eq(file_write(in_folder(name), "x", 1, false, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(utimensat(AT_FDCWD, in_folder(name), when, 0), 0);
}

Test(file, temporary_files_of_processes_that_are_gone_are_swept_after_an_hour)
{
    char gone[64], young[64], mine[64];
    const pid_t child = fork();
    if (child == 0) _exit(0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    (void)snprintf(gone, sizeof gone, ".ddpm-%ld-3.tmp", (long)child);
    (void)snprintf(young, sizeof young, ".ddpm-%ld-4.tmp", (long)child); /* of another container, for all we know */
    (void)snprintf(mine, sizeof mine, ".ddpm-%ld-3.tmp", (long)getpid());
    put_aged(gone, 4000), put_aged(young, 3000), put_aged(mine, 4000);
    cr_expect(file_is_temporary(gone) && file_is_temporary(mine));
    static const char *const others[] = {".ddpm-1-3.tmp~", ".ddpm--5-3.tmp", ".ddpm-x-3.tmp",
                                         "ddpm-9.tmp",     "000000.png.tmp", ".ddpm-007-3.tmp"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        put_aged(others[i], 4000);
        cr_expect_not(file_is_temporary(others[i]), "%s", others[i]);
    }
    dir_sweep_temporaries(folder);
    cr_expect_not(path_exists(in_folder(gone)));
    cr_expect(path_exists(in_folder(young)) && path_exists(in_folder(mine)));
    cr_expect_eq(entries(), (int)(sizeof others / sizeof *others) + 2);
}
