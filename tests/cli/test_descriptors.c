/* The program where whoever started it closed standard input, output or error: nothing of what it prints may get into a
 * file that it writes. */
#include "base/mem.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[PATH_CAP];

static void begin(void)
{
    scratch_make(dir);
    cr_assert_eq(chdir(dir), 0);
}
static void end(void) { scratch_remove(dir); }

TestSuite(descriptors, .init = begin, .fini = end, .timeout = 300);

#define BENCH                                                                                                          \
    "threads=1 data.kind=digits data.resolution=8 data.channels=1 data.count=16 model.block_out_channels=8"            \
    " model.down_block_types=DownBlock2D model.up_block_types=UpBlock2D model.layers_per_block=1"                      \
    " model.norm_num_groups=4 diffusion.num_train_timesteps=20 train.batch=4 train.steps=3 train.lr_warmup_steps=0"
#define TINY BENCH " log.seconds=0.1"

/* The shell's `ddpm WORDS` in the test's folder; its exit code. */
static int ddpm(const char *words)
{
    char line[4096]; /* without these variables the program starts itself once more */
    (void)snprintf(line, sizeof line, "unset GOMP_SPINCOUNT OMP_WAIT_POLICY; '" DDPM_PROGRAM "' %s", words);
    const int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *text_of(const char *name) { return get_text(in_dir(dir, name)); }

/* Of every choice of closed descriptors: the run's files are those of a run where all are open. */
Test(descriptors, closed_ones_take_no_file_of_a_training_faults_B9_F20)
{
    static const char *const closed[] = {">&-", "<&- >&-", ">&- 2>&-", "<&- 2>&- >/dev/null", "<&- >&- 2>&-"};
    char words[2048];
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++) {
        (void)snprintf(words, sizeof words, "train " TINY " out=run%zu %s", i, closed[i]);
        cr_expect_eq(ddpm(words), 0, "%s", closed[i]);
        (void)snprintf(words, sizeof words, "run%zu/LOCK", i);
        char *lock = text_of(words);
        cr_expect(!lock[0] || (!strncmp(lock, "process ", 8) && !strstr(lock, "step")), "%s: %s", words, lock);
        mem_free(lock);
        (void)snprintf(words, sizeof words, "run%zu/log.txt", i);
        char *log = text_of(words), *once = strstr(log, "start: seed");
        cr_expect(once && !strstr(once + 1, "start: seed"), "%s: printed there as well: %s", words, log);
        cr_expect_null(strstr(log, "done:"), "%s: %s", words, log);
        mem_free(log);
    }
}

Test(descriptors, closed_ones_take_no_picture_faults_B9)
{
    cr_assert_eq(ddpm("train " TINY " out=run >open.txt"), 0);
    cr_assert_eq(ddpm("sample run count=6 batch=1 out=open >open.txt"), 0);
    cr_assert_eq(ddpm("sample run count=6 batch=1 out=closed <&- >&- 2>&-"), 0);
    for (int i = 0; i < 6; i++) {
        char a[64], b[64];
        (void)snprintf(a, sizeof a, "open/%06d.png", i);
        (void)snprintf(b, sizeof b, "closed/%06d.png", i);
        cr_expect(same_bytes(in_dir(dir, a), in_dir(dir, b)), "%s", b);
    }
    cr_expect(same_bytes(in_dir(dir, "open/sampling.json"), in_dir(dir, "closed/sampling.json")));
}

Test(descriptors, what_only_prints_is_done_where_nobody_listens_faults_F20)
{
    cr_expect_eq(ddpm("--help >&-"), 0);
    cr_expect_eq(ddpm("--version <&- >&- 2>&-"), 0);
    cr_expect_eq(ddpm("train --print-config >&-"), 0);
    cr_expect_eq(ddpm("--help | true"), 0);
    cr_expect_eq(ddpm("trian >&- 2>&-"), DDPM_EINVAL);
    cr_expect_eq(ddpm("--help >/dev/full 2>&-"), DDPM_EIO, "a full disk is a failure");
}

Test(descriptors, a_closed_input_is_an_empty_one_faults_F20)
{
    cr_expect_eq(ddpm("bench train nothing.yaml <&- 2>&-"), DDPM_ENOINPUT);
    put_file("tiny.yaml", "threads: 1\n");
    cr_expect_eq(ddpm("bench train tiny.yaml " BENCH " serve=true warmup=1 <&- >served.json"), 0);
    char *served = text_of("served.json");
    cr_expect_not_null(strstr(served, "\"ready\""), "%s", served);
    mem_free(served);
    cr_expect_eq(ddpm("bench train tiny.yaml " BENCH " serve=true warmup=1 </ >served.json 2>&-"), DDPM_EIO);
}
