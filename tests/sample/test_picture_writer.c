/* The thread that writes the pictures of `ddpm sample`, by itself and at work for the command.
 *
 * Pictures pass a gate that the tests shut: what is asked of the caller meanwhile is asked while nothing can
 * be written, and not by the clock.  The gate opens as soon as the caller waits for the thread. */
#include "base/mem.h"
#include "data/image.h"
#include "sample/generator.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- what the files under test see in place of the real thing ---------------------------------------- */

enum { MOST = 64 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool shut;
    int written;              /* pictures */
    char name[MOST][16];      /* their files, in this order */
    bool deaf;                /* the thread takes no signals */
    int waits, joins;         /* of the caller's */
    int memory_left, refused; /* allocation that fails (0: none); threads that cannot be started */
} world = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};

static void open_gate(void)
{
    pthread_mutex_lock(&world.lock);
    world.shut = false;
    pthread_cond_broadcast(&world.opened);
    pthread_mutex_unlock(&world.lock);
}

static bool is_caller(void) { return getpid() == gettid(); }

static ddpm_status write_past_gate(const char *path, const image *img, err *e)
{
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    pthread_mutex_lock(&world.lock);
    while (world.shut) pthread_cond_wait(&world.opened, &world.lock);
    if (world.written < MOST) snprintf(world.name[world.written], sizeof world.name[0], "%s", strrchr(path, '/') + 1);
    world.written += !is_caller();
    world.deaf = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGUSR1);
    pthread_mutex_unlock(&world.lock);
    return image_write_png(path, img, e);
}

static int wait_and_open(pthread_cond_t *what, pthread_mutex_t *lock)
{
    if (is_caller()) {
        world.waits++;
        open_gate();
    }
    return pthread_cond_wait(what, lock);
}

static int join_and_open(pthread_t thread, void **result)
{
    world.joins++;
    open_gate();
    return pthread_join(thread, result);
}

static int create_or_not(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *context)
{
    return world.refused ? EAGAIN : pthread_create(thread, attr, body, context);
}

static ddpm_status array_or_not(void *out, size_t count, size_t size, const char *what, err *e)
{
    *(void **)out = NULL;
    if (world.memory_left && --world.memory_left == 0) return err_set(e, DDPM_ENOMEM, "%s: none left", what);
    return mem_array(out, count, size, what, e);
}

/* What the command calls instead of a network. */
static ddpm_status run_script(generator *g, const int64_t *ids, int n, uint8_t *pixels, err *e);
static void watch_script(generator *g, generator_tick *tick, void *context);

#define image_write_png   write_past_gate
#define pthread_cond_wait wait_and_open
#define pthread_join      join_and_open
#define pthread_create    create_or_not
#define mem_array         array_or_not
#include "cli/picture_writer.c"
#undef image_write_png
#undef pthread_cond_wait
#undef pthread_join
#undef pthread_create
#undef mem_array
#include "cli/sample_folder.c"
#define generator_run_bytes run_script
#define generator_watch     watch_script
#include "cli/cmd_sample.c"
#undef generator_run_bytes
#undef generator_watch
#include "cli/interrupt.c"
#include "cli/progress.c"

/* ---- folders and pictures ---------------------------------------------------------------------------- */

static char folder[PATH_CAP];
static err why;

static void make_folder(void) { scratch_make(folder); }
static void remove_folder(void) { scratch_remove(folder); }

TestSuite(picture_writer, .init = make_folder, .fini = remove_folder, .timeout = 60);
TestSuite(sample, .init = make_folder, .fini = remove_folder, .timeout = 300);

static const char *in_folder(const char *name) { return in_dir(folder, name); }

static int files_in_folder(void)
{
    int n = 0;
    DIR *d = opendir(folder);
    cr_assert_not_null(d);
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

/* A picture's file cannot be begun where a folder is in its way. */
static void block(const char *name) { cr_assert_eq(dir_make(in_folder(name), &why), DDPM_OK, "%s", why.text); }

enum { H = 5, W = 7, D = 3 * H * W };

/* Byte i of picture id. */
static uint8_t value(int64_t id, int i) { return (uint8_t)((id * 7919 + i * 104729) % 1009); }

static const uint8_t *pictures(const int64_t *ids, int n, int d)
{
    static uint8_t pixels[MOST * D];
    cr_assert_leq(n * d, MOST * D);
    for (int b = 0; b < n; b++)
        for (int i = 0; i < d; i++) pixels[b * d + i] = value(ids[b], i);
    return pixels;
}

/* Is picture `id` there, to the byte as image_write_png writes it, with these pixels? */
static bool is_whole(int64_t id, int c)
{
    const int d = c * H * W;
    uint8_t want[D], *bytes = NULL;
    char name[32], *file = NULL;
    image img = {.h = H, .w = W, .c = c, .pixel = want};
    size_t size, length;
    for (int i = 0; i < d; i++) want[i] = value(id, i);
    cr_assert_eq(image_encode_png(&img, &bytes, &size, &why), DDPM_OK, "%s", why.text);
    (void)snprintf(name, sizeof name, "%06lld.png", (long long)id);
    const bool whole = file_read(in_folder(name), 1 << 20, &file, &length, &why) == DDPM_OK && length == size &&
                       memcmp(file, bytes, size) == 0;
    mem_free(file);
    free(bytes);
    return whole;
}

static void expect_pictures(int64_t first, int64_t end)
{
    for (int64_t id = first; id < end; id++) cr_expect(is_whole(id, 3), "picture %lld", (long long)id);
}

/* ---- the writer -------------------------------------------------------------------------------------- */

static picture_writer *start(int batch, int c)
{
    picture_writer *w;
    const picture_writer_spec spec = {.folder = folder, .batch = batch, .h = H, .w = W, .c = c};
    cr_assert_eq(picture_writer_create(&spec, &w, &why), DDPM_OK, "%s", why.text);
    return w;
}

/* Pictures first, first + 1, ... */
static ddpm_status push(picture_writer *w, int64_t first, int n, int c, err *e)
{
    int64_t ids[MOST];
    for (int b = 0; b < n; b++) ids[b] = first + b;
    return picture_writer_push(w, ids, n, pictures(ids, n, c * H * W), e);
}

static void finish(picture_writer *w) { cr_assert_eq(picture_writer_finish(w, &why), DDPM_OK, "%s", why.text); }

static void expect_order(const int64_t *ids, int n)
{
    char name[16];
    cr_expect_eq(world.written, n);
    for (int i = 0; i < n && i < world.written; i++) {
        (void)snprintf(name, sizeof name, "%06lld.png", (long long)ids[i]);
        cr_expect_str_eq(world.name[i], name);
    }
}

Test(picture_writer, writes_every_picture_in_the_order_given)
{
    static const int64_t ids[] = {0, 1, 2, 7, 3, 1234567, 5, 9, 8, 42, 11};
    static const int sizes[] = {3, 3, 1, 3, 1};
    for (int c = 1; c <= 3; c += 2) {
        picture_writer *w = start(3, c);
        int at = 0;
        world.written = 0;
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; at += sizes[k++])
            cr_assert_eq(picture_writer_push(w, ids + at, sizes[k], pictures(ids + at, sizes[k], c * H * W), &why),
                         DDPM_OK, "%s", why.text);
        finish(w);
        expect_order(ids, at);
        for (int i = 0; i < at; i++) cr_expect(is_whole(ids[i], c), "picture %lld", (long long)ids[i]);
        cr_expect_eq(files_in_folder(), at, "nothing but the pictures");
        picture_writer_destroy(w);
    }
}

Test(picture_writer, two_batches_are_taken_while_nothing_can_be_written)
{
    picture_writer *w = start(4, 3);
    world.shut = true;
    cr_assert_eq(push(w, 0, 4, 3, NULL), DDPM_OK);
    cr_assert_eq(push(w, 4, 4, 3, NULL), DDPM_OK); /* into the buffer the first came from */
    cr_assert(world.shut && world.waits == 0 && files_in_folder() == 0);
    finish(w);
    expect_pictures(0, 8);
    picture_writer_destroy(w);
}

Test(picture_writer, the_third_waits_until_the_first_is_written)
{
    picture_writer *w = start(4, 3);
    world.shut = true;
    for (int64_t k = 0; k < 2; k++) cr_assert_eq(push(w, 4 * k, 4, 3, NULL), DDPM_OK);
    cr_assert_eq(push(w, 8, 4, 3, NULL), DDPM_OK);
    cr_expect_gt(world.waits, 0);
    expect_pictures(0, 4);
    for (int64_t k = 3; k < 16; k++) cr_assert_eq(push(w, 4 * k, 4, 3, NULL), DDPM_OK);
    finish(w);
    expect_pictures(0, 64);
    picture_writer_destroy(w);
}

Test(picture_writer, takes_no_signals)
{
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    picture_writer *w = start(1, 3);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int s = 1; s < 32; s++) cr_expect_eq(sigismember(&before, s), sigismember(&after, s), "signal %d", s);
    cr_assert_eq(push(w, 0, 1, 3, NULL), DDPM_OK);
    finish(w);
    cr_expect(world.deaf);
    picture_writer_destroy(w);
}

/* One line, with this status and these words, from whatever is called next. */
static void expect_failed(picture_writer *w, ddpm_status status, const char *said, bool pushing)
{
    err e = {0};
    const ddpm_status st = pushing ? push(w, 50, 1, 3, &e) : picture_writer_finish(w, &e);
    cr_expect_eq(st, status, "%s", err_name(st));
    cr_expect(e.status == status && strstr(e.text, said) && !strchr(e.text, '\n'), "%s", e.text);
    cr_expect_eq(picture_writer_status(w), status);
}

Test(picture_writer, the_first_failure_ends_the_writing_and_stays)
{
    picture_writer *w = start(3, 3);
    block("000004.png");
    world.shut = true;
    for (int64_t k = 0; k < 2; k++) cr_assert_eq(push(w, 3 * k, 3, 3, NULL), DDPM_OK);
    cr_assert_eq(picture_writer_status(w), DDPM_OK);
    open_gate();
    while (picture_writer_status(w) == DDPM_OK) (void)sched_yield();
    for (int again = 0; again < 3; again++) expect_failed(w, DDPM_EIO, "000004.png: cannot write: Is a ", true);
    for (int again = 0; again < 3; again++) expect_failed(w, DDPM_EIO, "000004.png: cannot write: Is a ", false);
    expect_pictures(0, 4);
    cr_expect_eq(files_in_folder(), 5, "nothing after the picture that failed");
    cr_expect_eq(world.joins, 1);
    picture_writer_destroy(w);
}

Test(picture_writer, a_caller_that_waits_learns_of_the_failure)
{
    picture_writer *w = start(2, 3);
    block("000001.png");
    world.shut = true;
    for (int64_t k = 0; k < 2; k++) cr_assert_eq(push(w, 2 * k, 2, 3, NULL), DDPM_OK);
    expect_failed(w, DDPM_EIO, "000001.png", true);
    cr_expect_gt(world.waits, 0);
    cr_expect_eq(world.written, 2);
    picture_writer_destroy(w);
}

static uint64_t batches_written(picture_writer *w)
{
    pthread_mutex_lock(&w->lock);
    const uint64_t n = w->written;
    pthread_mutex_unlock(&w->lock);
    return n;
}

Test(picture_writer, a_full_disk_is_said_and_leaves_whole_pictures)
{
    struct rlimit limit;
    picture_writer *w = start(8, 3);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const rlim_t before = limit.rlim_cur;
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(push(w, 0, 8, 3, NULL), DDPM_OK);
    while (batches_written(w) < 1) (void)sched_yield();
    limit.rlim_cur = 64; /* bytes */
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(push(w, 8, 8, 3, NULL), DDPM_OK);
    expect_failed(w, DDPM_EIO, "000008.png: cannot write: File too large", false);
    limit.rlim_cur = before;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_pictures(0, 8);
    cr_expect_eq(files_in_folder(), 8, "the one that was begun is removed");
    picture_writer_destroy(w);
}

Test(picture_writer, a_folder_that_is_not_there_is_named)
{
    char deep[PATH_CAP];
    picture_writer *w;
    picture_writer_spec spec = {.folder = in_folder("none"), .batch = 2, .h = H, .w = W, .c = 3};
    cr_assert_eq(picture_writer_create(&spec, &w, &why), DDPM_OK);
    cr_assert_eq(push(w, 0, 2, 3, NULL), DDPM_OK);
    expect_failed(w, DDPM_EIO, "none/000000.png: cannot create: No such file", false);
    picture_writer_destroy(w);

    memset(deep, 'd', sizeof deep);
    deep[sizeof deep - 4] = '\0';
    spec.folder = deep;
    cr_assert_eq(picture_writer_create(&spec, &w, &why), DDPM_OK);
    cr_assert_eq(push(w, 0, 2, 3, NULL), DDPM_OK);
    expect_failed(w, DDPM_EINVAL, "path too long", false);
    picture_writer_destroy(w);
}

Test(picture_writer, can_be_destroyed_at_any_moment)
{
    picture_writer_destroy(NULL);
    for (int k = 0; k < 200; k++) {
        picture_writer *w = start(2, 3);
        world.shut = k % 3 == 0;
        const int batches = k % (world.shut ? 3 : 5);
        for (int b = 0; b < batches; b++) cr_assert_eq(push(w, 2 * b, 2, 3, NULL), DDPM_OK);
        if (k % 7 == 0) finish(w);
        picture_writer_destroy(w);
        expect_pictures(0, 2 * batches); /* what was pushed is written */
        cr_assert_eq(files_in_folder(), 2 * batches);
        remove_folder();
        cr_assert_eq(dir_make(folder, &why), DDPM_OK);
    }
}

Test(picture_writer, what_it_lacks_at_the_start_is_said)
{
    picture_writer *w;
    picture_writer_spec spec = {.folder = folder, .batch = 4, .h = H, .w = W, .c = 4};
    cr_assert_eq(picture_writer_create(&spec, &w, &why), DDPM_EINVAL);
    cr_assert(strstr(why.text, "4 channels") && !w, "%s", why.text);
    spec.c = 3;
    world.refused = true;
    cr_assert_eq(picture_writer_create(&spec, &w, &why), DDPM_ENOMEM);
    cr_assert(strstr(why.text, "cannot start the thread that writes the pictures: Resource temp") && !w, "%s",
              why.text);
    cr_assert_eq(world.joins, 0);
    world.refused = false;
    for (int n = 1;; n++) {
        world.memory_left = n;
        const ddpm_status st = picture_writer_create(&spec, &w, &why);
        if (world.memory_left) {
            cr_assert(st == DDPM_OK && n > 3, "allocation %d", n);
            break;
        }
        cr_assert(st == DDPM_ENOMEM && !w && strstr(why.text, "none left"), "allocation %d: %s", n, why.text);
    }
    world.memory_left = 0;
    cr_assert_eq(push(w, 0, 4, 3, NULL), DDPM_OK);
    picture_writer_destroy(w);
    expect_pictures(0, 4);
}

/* ---- the command that uses it ------------------------------------------------------------------------ */

enum { TURNS = 4 }; /* ticks a batch */

static struct {
    generator_tick *tick;
    void *context;
    int runs, turn;
    int64_t first[MOST];               /* id of each run */
    int signal_in, fails_in, waits_in; /* run number from 1, 0 = none */
} script;

static void watch_script(generator *g, generator_tick *each, void *context)
{
    script.tick = each;
    script.context = context;
}

static ddpm_status run_script(generator *g, const int64_t *ids, int n, uint8_t *pixels, err *e)
{
    job *j = script.context;
    script.first[script.runs++] = ids[0];
    for (int turn = script.turn = 1; turn <= TURNS; script.turn = ++turn) {
        if (script.runs == script.signal_in && turn == 2) (void)raise(SIGINT);
        if (script.runs == script.fails_in && turn == 3) return err_set(e, DDPM_EBACKEND, "the device is gone");
        if (script.runs == script.waits_in)
            while (picture_writer_status(j->writer) == DDPM_OK) (void)sched_yield();
        if (script.tick(script.context, turn, TURNS)) return err_set(e, DDPM_ESAVED, "stopped at turn %d", turn);
    }
    memcpy(pixels, pictures(ids, n, D), (size_t)n * D);
    return DDPM_OK;
}

static ddpm_config config;

/* As prepare() leaves it, for 10 pictures in batches of 3 without a network. */
static job begin(void)
{
    static uint8_t pixels[3 * D];
    static int64_t ids[3];
    static const char description[] = "{\"format\": 2, \"weights\": \"none\"}";
    job j = {.config = &config, .h = H, .w = W, .c = 3, .batch = 3, .pixels = pixels, .ids = ids};
    const sample_folder_spec there = {.path = folder, .h = H, .w = W, .c = 3, .count = 10};
    const picture_writer_spec spec = {.folder = folder, .batch = 3, .h = H, .w = W, .c = 3};
    config.sample.count = 10;
    config.log.seconds = 1e9;
    script.runs = 0;
    cr_assert_eq(interrupt_install(&why), DDPM_OK, "%s", why.text);
    cr_assert_eq(sample_folder_open(&j.folder, &there, strdup(description), sizeof description - 1, &why), DDPM_OK,
                 "%s", why.text);
    cr_assert_eq(sample_folder_begin(&j.folder, &why), DDPM_OK, "%s", why.text);
    j.n_todo = 10 - j.folder.n_done;
    cr_assert_eq(picture_writer_create(&spec, &j.writer, &why), DDPM_OK, "%s", why.text);
    return j;
}

static void end(job *j)
{
    picture_writer_destroy(j->writer);
    sample_folder_close(&j->folder);
}

enum { BESIDE = 2 }; /* LOCK and sampling.json */

Test(sample, draws_on_while_pictures_are_written_and_then_has_them_all)
{
    job j = begin();
    image grid = {0}, want = {0};
    static uint8_t tiles[10 * D];
    world.shut = true;
    cr_assert_eq(draw_all(&j, &why), DDPM_OK, "%s", why.text);
    expect_pictures(0, 10);
    cr_expect_eq(world.joins, 1);
    cr_expect_eq(script.runs, 4);
    cr_expect_eq(j.bar.rate.last_step, 4 * TURNS);
    cr_assert_eq(write_grid(&j, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(image_load(in_folder("grid.png"), &grid, &why), DDPM_OK, "%s", why.text);
    for (int64_t id = 0; id < 10; id++) memcpy(tiles + id * D, pictures(&id, 1, D), D);
    cr_assert_eq(image_grid(tiles, 10, (int[]){H, W, 3}, 4, &want, &why), DDPM_OK);
    cr_assert(grid.h == want.h && grid.w == want.w && !memcmp(grid.pixel, want.pixel, (size_t)want.h * want.w * 3));
    image_free(&grid);
    image_free(&want);
    end(&j);
}

Test(sample, interrupted_it_has_every_finished_batch_and_goes_on_from_there)
{
    job j = begin();
    world.shut = true;
    script.signal_in = 3;
    cr_assert_eq(draw_all(&j, &why), DDPM_ESAVED);
    cr_expect_str_eq(why.text, "stopped: 4 pictures are left; the same command continues with them");
    expect_pictures(0, 6);
    cr_expect_eq(files_in_folder(), BESIDE + 6);
    end(&j);

    script.signal_in = 0;
    j = begin();
    cr_assert_eq(j.n_todo, 4);
    cr_assert_eq(draw_all(&j, &why), DDPM_OK, "%s", why.text);
    cr_expect(script.runs == 2 && script.first[0] == 6 && script.first[1] == 9);
    expect_pictures(0, 10);
    end(&j);
}

/* faults C5: a signal waited until a list of all pictures had been made. */
Test(sample, a_signal_is_answered_while_the_folder_is_looked_through)
{
    job j = begin();
    cr_assert_eq(draw_all(&j, &why), DDPM_OK, "%s", why.text);
    end(&j);
    const sample_folder_spec there = {.path = folder, .h = H, .w = W, .c = 3, .count = 10000000};
    cr_assert_eq(raise(SIGTERM), 0);
    cr_expect_eq(sample_folder_open(&j.folder, &there, strdup("{}"), 2, &why), DDPM_ESAVED);
    cr_expect_not_null(strstr(why.text, "the same command continues"), "%s", why.text);
    sample_folder_close(&j.folder);
    expect_pictures(0, 10);
}

Test(sample, a_picture_that_cannot_be_written_ends_it_within_the_batch)
{
    job j = begin();
    block("000004.png");
    script.waits_in = 3; /* until picture 4, of the second batch, has failed */
    cr_assert_eq(draw_all(&j, &why), DDPM_EIO);
    cr_expect(strstr(why.text, "000004.png: cannot write") && why.status == DDPM_EIO, "%s", why.text);
    cr_expect(script.runs == 3 && script.turn == 1);
    expect_pictures(0, 4);
    cr_expect_eq(files_in_folder(), BESIDE + 5);
    end(&j);
}

Test(sample, a_failure_after_the_last_batch_is_not_lost)
{
    job j = begin();
    block("000009.png");
    world.shut = true;
    cr_assert_eq(draw_all(&j, &why), DDPM_EIO);
    cr_expect(strstr(why.text, "000009.png: cannot write"), "%s", why.text);
    expect_pictures(0, 9);
    end(&j);
}

Test(sample, a_device_that_fails_keeps_the_finished_batches_and_its_own_message)
{
    job j = begin();
    world.shut = true;
    script.fails_in = 3;
    block("000005.png");
    cr_assert_eq(draw_all(&j, &why), DDPM_EBACKEND);
    cr_expect_str_eq(why.text, "the device is gone");
    expect_pictures(0, 5);
    end(&j);
}

/* The program itself, on a disk where no file may have more than a block: exit code 74 and one line. */
Test(sample, the_program_says_once_that_the_disk_is_full)
{
    char command[3 * PATH_CAP], line[1024] = "", more[16];
    (void)snprintf(
        command, sizeof command,
        "'%s' train out=%s/run train.steps=1 train.batch=1 data.kind=digits data.resolution=64 data.count=4"
        " model.kind=unet model.block_out_channels=4,4 model.down_block_types=DownBlock2D,DownBlock2D"
        " model.up_block_types=UpBlock2D,UpBlock2D model.layers_per_block=1 model.norm_num_groups=2 threads=1"
        " > /dev/null",
        DDPM_PROGRAM, folder);
    cr_assert_eq(system(command), 0);
    (void)snprintf(command, sizeof command,
                   "ulimit -f 4; exec '%s' sample %s/run out=%s/out count=8 batch=2 num_inference_steps=2 threads=1"
                   " 2>&1 > /dev/null",
                   DDPM_PROGRAM, folder, folder);
    FILE *said = popen(command, "r");
    cr_assert_not_null(said);
    cr_expect_not_null(fgets(line, sizeof line, said));
    cr_expect_null(fgets(more, sizeof more, said), "%s", more);
    const int status = pclose(said);
    cr_assert(WIFEXITED(status), "killed by signal %d", WTERMSIG(status));
    cr_expect_eq(WEXITSTATUS(status), DDPM_EIO);
    cr_expect(strstr(line, "out/000000.png: cannot write: File too large"), "%s", line);
    cr_expect(!path_exists(in_folder("out/000000.png")) && !path_exists(in_folder("out/grid.png")));
}
