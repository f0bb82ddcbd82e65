/* A night of sampling: processes of `ddpm sample` that are killed at any moment, on any number of ranks, and the set that
 * they leave; what is refused, and what is found to be damaged.
 *
 * With DDPM_TEST_LONG, 200 kills for each format and number of processes instead of a few. */
#include "base/mem.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char root[PATH_CAP];
static err why;

/* A shell's line in the test's folder; `ddpm` is the program.  Its exit code; what it printed is in stdout and stderr. */
__attribute__((format(printf, 1, 2))) static int shell(const char *fmt, ...)
{
    char line[2 * PATH_CAP], command[4 * PATH_CAP];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    (void)snprintf(command, sizeof command, "cd %s && ddpm() { '%s' \"$@\"; } && { %s; } >stdout 2>stderr", root,
                   DDPM_PROGRAM, line);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The exit code is this, and these words are in the output: in its only line on stderr for a failure. */
static void expect(int code, const char *said, const char *line)
{
    const int got = shell("%s", line);
    char *text = get_text(in_dir(root, code ? "stderr" : "stdout")), *end = strchr(text, '\n');
    cr_expect_eq(got, code, "%s: exit %d: %s", line, got, text);
    cr_expect(strstr(text, said) && (code == 0 || (end && !end[1])), "%s: expected '%s', got: %s", line, said, text);
    mem_free(text);
}

static void make_root(void)
{
    static const char *const set_by_others[] = {"RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"};
    for (int i = 0; i < 4; i++) (void)unsetenv(set_by_others[i]);
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 1); /* where fsync is free */
    scratch_make(root);
    cr_assert_eq(shell("ddpm train out=run train.steps=1 train.batch=1 data.kind=digits data.resolution=8 data.count=4"
                       " data.channels=1 model.block_out_channels=4,4"
                       " model.down_block_types=DownBlock2D,DownBlock2D model.up_block_types=UpBlock2D,UpBlock2D"
                       " model.layers_per_block=1 model.norm_num_groups=2 threads=1 cpu.conv=direct"),
                 0);
}
static void remove_root(void) { scratch_remove(root); }
TestSuite(night, .init = make_root, .fini = remove_root, .timeout = 7000);

/* ---- kills ---- */

#define SAME   "num_inference_steps=2 threads=1 cpu.conv=direct shard=300"
#define LONGER "num_inference_steps=20 threads=1 cpu.conv=direct"
enum { PICTURES = 2000, RANKS = 3 };

static pid_t begin(const char *format, int rank, int ranks)
{
    char words[40], count[40], part[40], of[40];
    (void)snprintf(words, sizeof words, "format=%s", format);
    (void)snprintf(count, sizeof count, "count=%d", PICTURES);
    (void)snprintf(part, sizeof part, "rank=%d", rank);
    (void)snprintf(of, sizeof of, "ranks=%d", ranks);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child > 0) return child;
    if (chdir(root)) _exit(99);
    const int nothing = open("/dev/null", O_WRONLY), said = open("said", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (dup2(nothing, 1) < 0 || dup2(said, 2) < 0) _exit(99);
    execl(DDPM_PROGRAM, "ddpm", "sample", "run", "out=s", words, count, part, of, "num_inference_steps=2", "threads=1",
          "cpu.conv=direct", "shard=300", "batch=16", (char *)NULL);
    _exit(99);
}

static unsigned random_state;
static unsigned draw(unsigned n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* Ended by a signal, or with a code that says that there is more to do, or nothing. */
static bool ended_well(int status)
{
    if (WIFSIGNALED(status)) return WTERMSIG(status) != SIGSEGV && WTERMSIG(status) != SIGABRT;
    return WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == DDPM_ESAVED;
}

/* Begin all ranks, kill them at a random moment; the number of kills that met a process at work. */
static int kill_once(const char *format, int ranks)
{
    static const int signals[] = {SIGKILL, SIGKILL, SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGUSR1};
    pid_t child[RANKS];
    int hits = 0;
    for (int r = 0; r < ranks; r++) child[r] = begin(format, r, ranks);
    const struct timespec delay = {0, 20000000L + (long)draw(120000) * 1000};
    (void)nanosleep(&delay, NULL); /* the moment itself; nothing is waited for */
    for (int r = 0; r < ranks; r++) (void)kill(child[r], signals[draw(sizeof signals / sizeof *signals)]);
    for (int r = 0; r < ranks; r++) {
        int status;
        cr_assert_eq(waitpid(child[r], &status, 0), child[r]);
        cr_assert(ended_well(status), "%s, %d ranks: status %x", format, ranks, status);
        hits += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    return hits;
}

static void finish(const char *format, int ranks)
{
    pid_t child[RANKS];
    for (int r = 0; r < ranks; r++) child[r] = begin(format, r, ranks);
    for (int r = 0; r < ranks; r++) {
        int status;
        cr_assert_eq(waitpid(child[r], &status, 0), child[r]);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s, rank %d of %d", format, r, ranks);
    }
}

static void expect_whole(const char *format, int ranks)
{
    cr_assert_eq(shell("diff -r -x LOCK whole s"), 0, "%s, %d ranks: another set", format, ranks);
    cr_assert_eq(shell("ddpm sample run verify=true out=s && rm -r s"), 0);
}

static void survives(const char *format)
{
    const int kills = getenv("DDPM_TEST_LONG") ? 200 : 5;
    cr_assert_eq(shell("ddpm sample run out=whole format=%s count=%d batch=64 " SAME, format, PICTURES), 0);
    for (int ranks = 1; ranks <= RANKS; ranks++) {
        int hits = 0, sets = 0;
        random_state = (unsigned)ranks;
        while (hits < kills) {
            hits += kill_once(format, draw(5) ? ranks : 1 + (int)draw(RANKS));
            if (!path_exists(in_dir(root, "s/manifest.xxh128"))) continue;
            finish(format, 1); /* what is left of the work may be a folder to remove */
            expect_whole(format, ranks);
            sets++;
        }
        finish(format, ranks);
        expect_whole(format, ranks);
        if (getenv("DDPM_TEST_LONG"))
            fprintf(stderr, "%s, %d ranks: %d kills, %d sets of %d pictures, all the same\n", format, ranks, hits,
                    sets + 1, PICTURES);
    }
}

Test(night, png_files_survive_kills) { survives("png"); }
Test(night, shards_survive_kills) { survives("tar"); }
Test(night, an_npz_file_survives_kills) { survives("npz"); }

/* What dead processes left is finished by one, and the other way round. */
Test(night, the_parts_of_the_dead_are_drawn_by_others)
{
    cr_assert_eq(shell("ddpm sample run out=whole count=%d batch=64 format=tar " SAME, PICTURES), 0);
    expect(0, "s: 600 pictures (600 new) of rank 1 of 3; the set is not complete yet",
           "ddpm sample run out=s count=2000 batch=64 format=tar rank=1 ranks=3 " SAME);
    expect(0, "s: 2000 pictures (1400 new) and grid.png",
           "ddpm sample run out=s count=2000 batch=64 format=tar rank=0 ranks=1 " SAME);
    expect_whole("tar", 1);
    cr_assert_eq(shell("ddpm sample run out=s count=2000 batch=64 format=npz rank=0 ranks=3 " SAME), 0);
    cr_assert_eq(shell("test ! -e s/samples_2000x8x8x1.npz && for r in 0 1; do ddpm sample run out=s count=2000"
                       " batch=64 format=npz rank=$r ranks=2 " SAME "; done && test -e s/samples_2000x8x8x1.npz"),
                 0);
}

/* A disk that is full: exit 74, and with more room the same command goes on. */
Test(night, a_full_disk)
{
    char disk[PATH_CAP];
    cr_assert_eq(dir_make(in_dir(root, "disk"), &why), DDPM_OK);
    (void)snprintf(disk, sizeof disk, "%.4000s/disk", root);
    if (mount("tmpfs", disk, "tmpfs", 0, "size=128k")) cr_skip_test("no file system can be mounted here");
    static const char *const formats[] = {"png", "tar", "npz"};
    for (int f = 0; f < 3; f++) {
        char line[400];
        cr_expect_eq(shell("ddpm sample run out=whole format=%s count=%d " SAME, formats[f], PICTURES), 0);
        (void)snprintf(line, sizeof line, "ddpm sample run out=disk/s format=%s count=%d " SAME, formats[f], PICTURES);
        expect(DDPM_EIO, "No space left", line);
        expect(DDPM_EIO, "No space left", line);
        cr_expect_eq(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=40m"), 0);
        cr_expect_eq(shell("%s && diff -r -x LOCK whole disk/s && rm -r disk/s whole", line), 0, "%s", formats[f]);
        cr_expect_eq(mount("tmpfs", disk, "tmpfs", MS_REMOUNT, "size=128k"), 0);
    }
    (void)umount(disk);
}

/* A limit on the size of files, by which a write fails half-way. */
Test(night, files_that_may_not_grow)
{
    static const char *const formats[] = {"png", "tar", "npz"};
    for (int f = 0; f < 3; f++) {
        char line[400];
        cr_expect_eq(shell("rm -rf whole s; ddpm sample run out=whole format=%s count=900 " SAME, formats[f]), 0);
        (void)snprintf(line, sizeof line, "ulimit -f 40; ddpm sample run out=s format=%s count=900 " SAME, formats[f]);
        expect(DDPM_EIO, "File too large", line); /* the journal of a unit of PNG files, too, has more */
        cr_expect_eq(shell("ddpm sample run out=s format=%s count=900 " SAME " && diff -r -x LOCK whole s", formats[f]),
                     0, "%s", formats[f]);
    }
}

/* ---- what is refused ---- */

Test(night, bad_options_are_refused_in_one_line)
{
    static const struct {
        int code;
        const char *options, *said;
    } bad[] = {
        {DDPM_EINVAL, "ids=5-3", "ids: '5-3' runs backwards"},
        {DDPM_EINVAL, "ids=0-9,5", "ids: 5 is named twice"},
        {DDPM_EINVAL, "ids=4294967296", "ids are less than 4294967296"},
        {DDPM_EINVAL, "seeds=a", "ids: 'a' is not a list"},
        {DDPM_EINVAL, "ids=0-9 count=10", "ids=0-9 and count=10: give one of them"},
        {DDPM_EINVAL, "rank=3 ranks=3", "rank=3 ranks=3: ranks count from 0 to 2"},
        {DDPM_EINVAL, "rank=1", "rank=1 needs ranks="},
        {DDPM_EINVAL, "ranks=4", "ranks=4 needs rank="},
        {DDPM_EINVAL, "format=jpeg", "one of png, tar, npz"},
        {DDPM_EINVAL, "shard=0", "out of range (1 to 1000000)"},
        {DDPM_EIO, "format=npz ids=0-4294967295", "are free"},
        {DDPM_EINVAL, "out=run/ckpt/step_00000001/x", "is inside a checkpoint"},
        {DDPM_ENOINPUT, "verify=true", "sampling.json: cannot open: No such file"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char line[300];
        (void)snprintf(line, sizeof line, "ddpm sample run num_inference_steps=1 out=x %s", bad[i].options);
        expect(bad[i].code, bad[i].said, line);
        cr_expect_not(path_exists(in_dir(root, "x")), "%s", bad[i].options);
    }
}

Test(night, another_set_is_refused_and_may_be_overwritten)
{
    static const char *const formats[] = {"png", "tar", "npz"};
    for (int f = 0; f < 3; f++) {
        const char *next = formats[(f + 1) % 3];
        char line[300];
        cr_assert_eq(shell("rm -rf s && ddpm sample run out=s count=30 format=%s shard=10 " SAME "; touch s/notes.txt",
                           formats[f]),
                     0);
        (void)snprintf(line, sizeof line, "ddpm sample run out=s count=30 format=%s " SAME, next);
        expect(DDPM_EINVAL, "s/set.json: format ", line);
        cr_expect_eq(shell("ddpm sample run verify=true out=s"), 0);
        cr_expect_eq(shell("%s overwrite=true && ddpm sample run verify=true out=s && test -e s/notes.txt", line), 0);
    }
    expect(DDPM_EINVAL, "s/sampling.json: seed 0, not 1", "ddpm sample run out=s count=30 seed=1 " SAME);
    /* others' files of any format, without a description */
    static const char *const names[] = {"00000.tar", "samples_10x8x8x3.npz", "000/000001.png", "manifest.xxh128"};
    for (int i = 0; i < 4; i++) {
        char said[100];
        cr_assert_eq(shell("rm -rf mine && mkdir -p mine/000 && echo mine > mine/%s", names[i]), 0);
        (void)snprintf(said, sizeof said, "mine/%s: exists without a sampling.json", names[i]);
        expect(DDPM_EINVAL, said, "ddpm sample run out=mine count=3 " SAME);
        cr_expect_eq(shell("test \"$(cat mine/%s)\" = mine && test ! -e mine/LOCK", names[i]), 0);
        cr_expect_eq(shell("touch mine/000/x && ddpm sample run out=mine count=3 overwrite=true " SAME
                           " && test -e mine/000/x && ddpm sample run verify=true out=mine"),
                     0);
    }
    cr_assert_eq(shell("mkdir other && echo '{\"a\": 1}' > other/set.json"), 0);
    expect(DDPM_EINVAL, "other/set.json: was not written by ddpm sample", "ddpm sample run out=other count=3 " SAME);
}

/* Another cut of the set, the same part of it, other pictures: who is there first goes on. */
Test(night, a_part_is_drawn_once)
{
    char line[400];
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        execl("/bin/sh", "sh", "-c",
              "cd \"$1\" && exec \"$2\" sample run out=s format=tar count=1000000 rank=0 ranks=2 batch=4 threads=1"
              " num_inference_steps=20 > said",
              "sh", root, DDPM_PROGRAM, (char *)NULL);
        _exit(99);
    }
    while (!path_exists(in_dir(root, "s/.ddpm-sampling/0000000.journal"))) (void)sched_yield();
    (void)snprintf(line, sizeof line,
                   "ddpm sample run out=s format=tar count=1000000 rank=0 ranks=2 num_inference_steps=20");
    expect(DDPM_ELOCKED, "s: another sampling is writing to this folder as rank 0 of 2 (process ", line);
    (void)snprintf(line, sizeof line,
                   "ddpm sample run out=s format=tar count=1000 num_inference_steps=20 overwrite=true");
    expect(DDPM_ELOCKED, "s: another sampling is writing other pictures to this folder (process ", line);
    (void)kill(child, SIGUSR1);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == DDPM_ESAVED, "%x", status);
}

/* ---- verify=true ---- */

Test(night, verify_finds_a_bit)
{
    cr_assert_eq(shell("ddpm sample run out=s count=40 " SAME), 0);
    expect(0, "s: all 40 pictures are as the manifest says", "ddpm sample run verify=true out=s");
    cr_assert_eq(shell("cp s/000007.png good && printf '\\1' | dd of=s/000007.png bs=1 seek=60 conv=notrunc &&"
                       " ! cmp good s/000007.png && rm s/000009.png && cp good s/000099.png"),
                 0);
    expect(DDPM_EDATA, "s: of 40 pictures 1 are missing and 1 damaged; 1 unknown files",
           "ddpm sample nothing verify=true out=s device=cuda"); /* neither a model nor a device is needed */
    char *text = get_text(in_dir(root, "stdout"));
    cr_expect_str_eq(text, "damaged: 000007.png\nmissing: 000009.png\nunknown: 000099.png\n");
    mem_free(text);
    expect(0, "(2 new)", "ddpm sample run out=s count=40 " SAME);
    cr_expect_eq(shell("cmp good s/000007.png && rm s/000099.png && ddpm sample run verify=true out=s"), 0);
    cr_assert_eq(shell("rm s/manifest.xxh128"), 0);
    expect(DDPM_ENOINPUT, "s/manifest.xxh128: no such file", "ddpm sample run verify=true out=s");
    expect(0, "(0 new)", "ddpm sample run out=s count=40 " SAME);
    expect(0, "s: all 40", "ddpm sample run verify=true out=s");
}

/* ---- who says which rank it is ---- */

Test(night, ranks_by_the_environment)
{
    static const char *const by[] = {"RANK=1 WORLD_SIZE=2", "SLURM_PROCID=1 SLURM_NTASKS=2",
                                     "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", "PMI_RANK=1 PMI_SIZE=2"};
    for (int i = 0; i < 4; i++) {
        char line[400], said[100];
        (void)snprintf(line, sizeof line,
                       "export %s; rm -rf s; ddpm sample run out=s count=20 format=tar shard=5 num_inference_steps=1",
                       by[i]);
        expect(0, "s: 10 pictures (10 new) of rank 1 of 2", line);
        (void)snprintf(said, sizeof said, "rank 1 of 2, by %.*s;", (int)strcspn(by[i], "="), by[i]);
        expect(0, said, line);
        (void)snprintf(line, sizeof line,
                       "export %s; rm -r s; ddpm sample run out=s count=20 rank=0 ranks=1"
                       " num_inference_steps=1",
                       by[i]);
        expect(0, "s: 20 pictures (20 new) and grid.png", line);
    }
}

/* Algorithms that are chosen by timing: the first process's choices are those of all, and of the next. */
Test(night, ranks_choose_the_same_algorithms)
{
    (void)setenv("XDG_CACHE_HOME", in_dir(root, "cache"), 1);
    cr_assert_eq(shell("ddpm train out=wide train.steps=1 train.batch=1 data.kind=digits data.resolution=8 data.count=4"
                       " data.channels=1 model.block_out_channels=16,32"
                       " model.down_block_types=DownBlock2D,DownBlock2D model.up_block_types=UpBlock2D,UpBlock2D"
                       " model.layers_per_block=1 model.norm_num_groups=2 threads=1 cpu.conv=direct && rm -rf cache"),
                 0);
    cr_assert_eq(shell("for r in 0 1 2; do ddpm sample wide out=s count=90 shard=10 format=tar threads=1 cpu.conv=auto"
                       " num_inference_steps=2 rank=$r ranks=3 & done; wait; test -s cache/ddpm/autotune.txt &&"
                       " cp cache/ddpm/autotune.txt first"),
                 0);
    cr_assert_eq(
        shell("ddpm sample wide out=whole count=90 shard=10 format=tar threads=1 cpu.conv=auto num_inference_steps=2 &&"
              " cmp first cache/ddpm/autotune.txt"),
        0);
    cr_expect_eq(shell("diff -r -x LOCK whole s"), 0);
}

/* ---- tools/night ---- */

#define NIGHT "export DDPM='" DDPM_PROGRAM "' PAUSE=0; tools='" DDPM_SOURCE "/tools/night'; "

Test(night, the_script_for_gpus)
{
    cr_assert_eq(shell("ddpm sample run out=whole count=%d format=tar " SAME, PICTURES), 0);
    for (int ranks = 1; ranks <= RANKS; ranks++) {
        static const char *const gpus[] = {"", "0", "0 1", "0 1 2"};
        cr_expect_eq(shell(NIGHT "export GPUS='%s'; { \"$tools/gpus.sh\" run s count=%d format=tar batch=8 " SAME
                                 " & night=$!; until test -d s/.ddpm-sampling; do :; done; kill -TERM $night; wait "
                                 "$night; }; \"$tools/gpus.sh\" run s"
                                 " count=%d format=tar batch=8 " SAME,
                           gpus[ranks], PICTURES, PICTURES),
                     0);
        expect_whole("tar", ranks);
    }
    cr_expect_eq(shell(NIGHT "GPUS='0 1' \"$tools/gpus.sh\" run s count=9 ids=3 " SAME), DDPM_EINVAL);
}

/* Slurm's array as the script sees it; what requeues a task is a script here. */
Test(night, the_script_for_slurm)
{
    cr_assert_eq(shell("ddpm sample run out=whole count=%d format=npz " LONGER, PICTURES), 0);
    cr_assert_eq(shell("mkdir bin && printf '#!/bin/sh\\necho \"$@\" >> requeued\\n' > bin/scontrol && chmod +x"
                       " bin/scontrol"),
                 0);
    for (int rank = 0; rank < 2; rank++) {
        const char *task = NIGHT "export PATH=$PWD/bin:$PATH SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_COUNT=2"
                                 " SLURM_ARRAY_TASK_MIN=4 SLURM_ARRAY_TASK_ID=%d; \"$tools/slurm.sh\" run s format=npz"
                                 " count=%d batch=4 " LONGER " %s";
        cr_expect_eq(shell(task, 4 + rank, PICTURES,
                           "& night=$!;"
                           " until test -s s/.ddpm-sampling/000000$((SLURM_ARRAY_TASK_ID - 4)).journal; do :; done;"
                           " kill -USR1 $night; wait $night"),
                     0);
        cr_expect_eq(shell(task, 4 + rank, PICTURES, ""), 0);
    }
    char *text = get_text(in_dir(root, "requeued"));
    cr_expect_str_eq(text, "requeue 7_4\nrequeue 7_5\n");
    mem_free(text);
    expect_whole("npz", 2);
}
