/* The program as a user meets it: its commands end to end, its exit codes, its one line of error. */
#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[] = "/tmp/ddpm-program-XXXXXX";
static err why;

static void make_root(void) { cr_assert_not_null(mkdtemp(root)); }
static void remove_root(void) { cr_assert_eq(dir_remove(root, &why), DDPM_OK, "%s", why.text); }

TestSuite(program, .init = make_root, .fini = remove_root, .timeout = 300);

enum { MAX_WORDS = 40, OUTPUT = 65536 };

typedef struct result {
    int code; /* exit code, or 128 + signal */
    char out[OUTPUT], error[OUTPUT];
} result;

static char *slurp(const char *path, char *to)
{
    FILE *f = fopen(path, "r");
    const size_t n = f ? fread(to, 1, OUTPUT - 1, f) : 0;
    to[n] = '\0';
    if (f) fclose(f);
    return to;
}

/* Start the program with these words, split at blanks; @ stands for the test's folder. */
static pid_t start(const char *words)
{
    static char text[4096];
    char *argv[MAX_WORDS] = {(char *)DDPM_PROGRAM}, out[PATH_CAP], error[PATH_CAP];
    int argc = 1;
    size_t n = 0;
    for (const char *c = words; *c; c++) {
        if (*c == '@')
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", root);
        else
            text[n++] = *c;
    }
    text[n] = '\0';
    for (char *word = strtok(text, " "); word && argc < MAX_WORDS - 1; word = strtok(NULL, " ")) argv[argc++] = word;
    (void)snprintf(out, sizeof out, "%s/stdout", root);
    (void)snprintf(error, sizeof error, "%s/stderr", root);
    const pid_t child = fork();
    if (child != 0) return child;
    if (!freopen(out, "w", stdout) || !freopen(error, "w", stderr)) _exit(126);
    (void)signal(SIGINT, SIG_DFL); /* a shell's background may have handed it down as ignored */
    static const char *const theirs[] = {"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++) unsetenv(theirs[i]);
    execv(DDPM_PROGRAM, argv);
    _exit(127);
}

static result *finish(pid_t child)
{
    static result r;
    char path[PATH_CAP];
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    (void)snprintf(path, sizeof path, "%s/stdout", root);
    slurp(path, r.out);
    (void)snprintf(path, sizeof path, "%s/stderr", root);
    slurp(path, r.error);
    return &r;
}

static result *ddpm(const char *words) { return finish(start(words)); }

/* Fails with this code and exactly one line on stderr, in which these words stand. */
static void expect_failure(const char *words, int code, const char *said)
{
    const result *r = ddpm(words);
    const char *line = strchr(r->error, '\n');
    cr_expect_eq(r->code, code, "ddpm %s: exit %d instead of %d: %s", words, r->code, code, r->error);
    cr_expect(line && line[1] == '\0' && strstr(r->error, said), "ddpm %s: expected one line with '%s', got: %s", words,
              said, r->error);
}

static void expect_success(const char *words)
{
    const result *r = ddpm(words);
    cr_assert_eq(r->code, 0, "ddpm %s: exit %d: %s", words, r->code, r->error);
}

static const char *in_root(const char *name)
{
    static char path[4][PATH_CAP];
    static int next;
    next = (next + 1) % 4;
    (void)snprintf(path[next], PATH_CAP, "%s/%s", root, name);
    return path[next];
}

#define TINY                                                                                                           \
    " data.kind=digits data.resolution=8 data.channels=1 data.count=40 model.block_out_channels=8,16"                  \
    " model.down_block_types=DownBlock2D,AttnDownBlock2D model.up_block_types=AttnUpBlock2D,UpBlock2D"                 \
    " model.layers_per_block=1 model.norm_num_groups=4 train.batch=4 train.lr_warmup_steps=1 ckpt.every=5 threads=1 "  \
    "sample.every=0 "

static int pictures_differ(const char *a, const char *b, int *most)
{
    image x = {0}, y = {0};
    int differing = 0;
    cr_assert_eq(image_load(a, &x, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(image_load(b, &y, &why), DDPM_OK, "%s", why.text);
    cr_assert(x.h == y.h && x.w == y.w && x.c == y.c);
    *most = 0;
    for (int i = 0; i < x.h * x.w * x.c; i++) {
        const int d = abs(x.pixel[i] - y.pixel[i]);
        differing += d > 0;
        if (d > *most) *most = d;
    }
    image_free(&x);
    image_free(&y);
    return differing;
}

Test(program, trains_samples_and_inspects)
{
    char name[32];
    expect_success("train out=@/run train.steps=10" TINY);
    const result *r = ddpm("sample @/run count=7 batch=3 seed=5 num_inference_steps=10 out=@/a");
    cr_assert_eq(r->code, 0, "%s", r->error);
    cr_assert(path_exists(in_root("a/000006.png")) && !path_exists(in_root("a/000007.png")));
    cr_assert(path_exists(in_root("a/grid.png")));

    /* another batch: the same pictures, but for the last bit of a sum */
    expect_success("sample @/run count=7 batch=7 seed=5 num_inference_steps=10 out=@/b");
    for (int i = 0; i < 7; i++) {
        char a[PATH_CAP], b[PATH_CAP];
        int most;
        (void)snprintf(name, sizeof name, "%06d.png", i);
        (void)snprintf(a, sizeof a, "%s/a/%s", root, name);
        (void)snprintf(b, sizeof b, "%s/b/%s", root, name);
        (void)pictures_differ(a, b, &most);
        cr_assert_leq(most, 1, "picture %d", i);
    }
    int most;
    cr_assert_gt(pictures_differ(in_root("a/000000.png"), in_root("a/000001.png"), &most), 10);

    r = ddpm("inspect @/run batch=2");
    cr_assert_eq(r->code, 0, "%s", r->error);
    static const char *const said[] = {"down_blocks.1.attentions.0.to_q", "parameters in", "training, batch 2",
                                       "sampling, batch 2"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) cr_assert_not_null(strstr(r->out, said[i]), "%s", said[i]);
}

Test(program, trains_samples_and_inspects_by_class)
{
    int most;
    expect_success("train out=@/run train.steps=20 train.lr=1e-2 ema.decay=0 model.num_class_embeds=-1 "
                   "train.label_dropout=0.2" TINY);
    expect_success("sample @/run count=1 labels=3 num_inference_steps=10 out=@/three");
    expect_success("sample @/run count=1 labels=7 num_inference_steps=10 out=@/seven");
    expect_success("sample @/run count=2 labels=3 guidance=3 num_inference_steps=10 out=@/guided");
    cr_assert_gt(pictures_differ(in_root("three/000000.png"), in_root("seven/000000.png"), &most), 10);
    cr_assert_gt(pictures_differ(in_root("three/000000.png"), in_root("guided/000000.png"), &most), 10);
    const result *r = ddpm("inspect @/run batch=2");
    cr_assert_eq(r->code, 0, "%s", r->error);
    static const char *const said[] = {"class_embed ", "training, batch 2", "sampling, batch 2"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) cr_assert_not_null(strstr(r->out, said[i]), "%s", r->out);
    expect_failure("train out=@/other model.num_class_embeds=9" TINY, DDPM_EINVAL, "the images have 10 classes");
}

Test(program, takes_up_a_sampling_where_it_was_interrupted)
{
    expect_success("train out=@/run train.steps=5" TINY);
    expect_success("sample @/run count=6 batch=2 seed=1 num_inference_steps=5 out=@/whole");
    expect_success("sample @/run count=3 batch=2 seed=1 num_inference_steps=5 out=@/parts");
    const result *r = ddpm("sample @/run count=6 batch=2 seed=1 num_inference_steps=5 out=@/parts");
    cr_assert_not_null(strstr(r->out, "(3 new)"), "%s", r->out);
    for (int i = 0; i < 6; i++) {
        char a[PATH_CAP], b[PATH_CAP];
        int most;
        (void)snprintf(a, sizeof a, "%s/whole/%06d.png", root, i);
        (void)snprintf(b, sizeof b, "%s/parts/%06d.png", root, i);
        (void)pictures_differ(a, b, &most);
        cr_assert_leq(most, 1);
    }
}

/* Until the training in the folder `run` has done its first steps; a minute at the most. */
static void wait_for_steps(void)
{
    for (int tries = 0; tries < 6000; tries++) {
        char *text = NULL;
        size_t size = 0;
        const bool done = file_read(in_root("run/metrics.jsonl"), 1 << 24, &text, &size, &why) == DDPM_OK && size > 0;
        mem_free(text);
        if (done) return;
        usleep(10000);
    }
}

Test(program, ctrl_c_saves_and_resume_goes_on)
{
    static char environment[64], words[OUTPUT];
    (void)unsetenv("OMP_WAIT_POLICY"), (void)unsetenv("GOMP_SPINCOUNT"); /* as most users' shells */
    const pid_t child = start("train out=@/run train.steps=1000000 log.every=1" TINY);
    wait_for_steps();
    (void)snprintf(environment, sizeof environment, "/proc/%ld/environ", (long)child);
    cr_assert_not_null(slurp(environment, words));
    for (size_t i = 0; i + 1 < sizeof words; i++) words[i] = words[i] ? words[i] : ' ';
    cr_expect(strstr(words, "GOMP_SPINCOUNT="), "the threads spin for long");
    kill(child, SIGINT);
    const result *r = finish(child);
    cr_assert_eq(r->code, DDPM_ESAVED, "%d: %s", r->code, r->error);
    cr_assert_not_null(strstr(r->error, "resume=auto"), "%s", r->error);
    expect_failure("train out=@/run train.steps=1000000" TINY, DDPM_EINVAL, "resume=auto");
    r = ddpm("train out=@/run train.steps=1 resume=auto" TINY);
    cr_assert_eq(r->code, 0, "%s", r->error);
    cr_assert_not_null(strstr(r->out, "resume: "), "%s", r->out);
}

Test(program, shows_the_noising_of_a_picture)
{
    image strip = {0};
    expect_success("train out=@/run train.steps=1" TINY);
    expect_success("sample @/run count=1 num_inference_steps=2 out=@/a");
    expect_success("noise @/a/000000.png out=@/strip.png t=0,200,400,600,800,999");
    cr_assert_eq(image_load(in_root("strip.png"), &strip, &why), DDPM_OK, "%s", why.text);
    cr_assert(strip.h == 8 + 4 && strip.w == 6 * 10 + 2, "%dx%d", strip.w, strip.h);
    image_free(&strip);
    expect_failure("noise @/a/000000.png out=@/s.png t=1000", DDPM_EINVAL, "1000 is not in [0, 999]");
    expect_failure("noise @/none.png", DDPM_ENOINPUT, "none.png");
    expect_failure("noise @/a/000000.png diffusion.clip_sample=false", DDPM_EINVAL, "not an option of 'ddpm noise'");
    expect_failure("sample @/run every=5", DDPM_EINVAL, "every: not an option of 'ddpm sample'");
    /* eight of them side by side are over the limit of an image: in two rows */
    image wide;
    cr_assert_eq(image_create(&wide, 8, 2100, 1, "wide", &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(image_write_png(in_root("wide.png"), &wide, &why), DDPM_OK, "%s", why.text);
    image_free(&wide);
    expect_success("noise @/wide.png out=@/strip.png t=0,1,2,3,4,5,6,7");
    cr_assert_eq(image_load(in_root("strip.png"), &strip, &why), DDPM_OK, "%s", why.text);
    cr_expect(strip.w == 7 * 2102 + 2 && strip.h == 2 * 10 + 2, "%dx%d", strip.w, strip.h);
    image_free(&strip);
    /* its own strip it replaces, and nothing else (faults A10) */
    expect_success("noise @/a/000000.png out=@/strip.png t=0,200");
    expect_failure("noise @/a/000000.png out=@/a/grid.png t=0", DDPM_EINVAL, "a/grid.png: exists");
    expect_failure("noise @/strip.png out=@/strip.png t=0", DDPM_EINVAL, "strip.png: is the input image");
    expect_success("noise @/a/000000.png out=@/a/grid.png t=0 overwrite=true");
    expect_success("noise @/a/000000.png out=/dev/null t=0");
    expect_failure("noise @/a/000000.png out=@/no/strip.png t=0", DDPM_EIO, "no/strip.png: cannot write");
    expect_failure("noise @/run/config.yaml", DDPM_EDATA, "config.yaml");
}

static void write_text(const char *name, const char *text)
{
    cr_assert_eq(file_write(in_root(name), text, strlen(text), false, &why), DDPM_OK, "%s", why.text);
}

Test(program, bad_input_gets_one_line_and_its_code)
{
    expect_failure("", DDPM_EINVAL, "--help");
    expect_failure("trian", DDPM_EINVAL, "train");
    expect_failure("train train.bacth=3", DDPM_EINVAL, "train.batch");
    expect_failure("train train.batch=many", DDPM_EINVAL, "train.batch");
    expect_failure("train @/missing.yaml", DDPM_ENOINPUT, "missing.yaml");
    expect_failure("train out=@/x data.kind=folder data.path=@/nothing", DDPM_ENOINPUT, "nothing");
    cr_assert_eq(dir_make(in_root("empty"), &why), DDPM_OK);
    expect_failure("train out=@/x data.kind=folder data.path=@/empty", DDPM_ENOINPUT, "empty");
    write_text("lying-idx3-ubyte", "\x00\x00\x08\x03");
    expect_failure("train out=@/x data.kind=idx data.path=@/lying-idx3-ubyte", DDPM_EDATA, "lying-idx3-ubyte");
    expect_failure("sample @/empty", DDPM_ENOINPUT, "empty");
    expect_failure("sample", DDPM_EINVAL, "RUN");
    expect_failure("inspect @/nowhere", DDPM_ENOINPUT, "nowhere");
    expect_failure("train out=@/x" TINY "model.norm_num_groups=3", DDPM_EINVAL, "norm_num_groups");
    expect_failure("train device=abacus", DDPM_EINVAL, "device");
    /* whether it is the device, the driver or the backend that is missing */
    expect_failure("train out=@/x device=cuda:99" TINY, DDPM_EDEVICE, "device=cuda:99: ");
    expect_failure("train out=@/x device=cuda:99" TINY, DDPM_EDEVICE, "device=cpu");
    write_text("a-file", "x");
    expect_failure("train out=@/a-file train.steps=1" TINY, DDPM_EIO, "a-file");
}

Test(program, a_full_disk_loses_nothing_that_was_saved)
{
    expect_success("train out=@/run train.steps=5" TINY);
    const pid_t child = fork();
    if (child == 0) { /* no file may grow beyond 4 KiB: checkpoints no longer fit */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, 1), dup2(null, 2);
        char out[PATH_CAP + 8];
        (void)snprintf(out, sizeof out, "out=%s/run", root);
        execl(DDPM_PROGRAM, "ddpm", "train", out, "train.steps=30", "resume=auto", "data.kind=digits",
              "data.resolution=8", "data.channels=1", "data.count=40", "model.block_out_channels=8,16",
              "model.down_block_types=DownBlock2D,AttnDownBlock2D", "model.up_block_types=AttnUpBlock2D,UpBlock2D",
              "model.layers_per_block=1", "model.norm_num_groups=4", "train.batch=4", "train.lr_warmup_steps=1",
              "ckpt.every=5", "threads=1", (char *)NULL);
        _exit(127);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), DDPM_EIO);
    cr_assert(path_exists(in_root("run/ckpt/step_00000005/training/integrity.json")));
    expect_success("sample @/run count=1 num_inference_steps=2 out=@/a");
    expect_success("train out=@/run train.steps=6 resume=auto" TINY);
}

Test(program, two_trainings_in_one_folder_are_one_too_many)
{
    const pid_t child = start("train out=@/run train.steps=1000000 log.every=1" TINY);
    wait_for_steps();
    const pid_t second = fork();
    if (second == 0) {
        const int null = open("/dev/null", O_WRONLY);
        dup2(null, 1), dup2(null, 2);
        char out[PATH_CAP + 8];
        (void)snprintf(out, sizeof out, "out=%s/run", root);
        execl(DDPM_PROGRAM, "ddpm", "train", out, "data.kind=digits", "resume=auto", (char *)NULL);
        _exit(127);
    }
    int status;
    cr_assert_eq(waitpid(second, &status, 0), second);
    kill(child, SIGKILL);
    (void)finish(child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == DDPM_ELOCKED);
    expect_success("train out=@/run train.steps=5 resume=auto" TINY);
}
