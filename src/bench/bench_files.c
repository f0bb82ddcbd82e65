/* bench_files.c - pictures a second from noise to files, as `ddpm sample` makes them. */
#include "base/clock.h"
#include "base/mem.h"
#include "bench/bench.h"
#include "sample/picture_writer.h"
#include "sample/sampling_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct drawer {
    bench_sample *b;
    double begun; /* clock at the first batch that counts */
    int batches;  /* drawn so far */
} drawer;

/* The first batch, with its start-up, does not count. */
static ddpm_status draw(void *context, sampling_job *job, const int64_t *ids, int n, uint8_t *pixels, err *e)
{
    drawer *d = context;
    (void)job;
    if (d->batches++ == 1) d->begun = clock_seconds();
    const generator_batch batch = bench_sample_batch(d->b, ids, n);
    return generator_run_bytes(d->b->g, &batch, pixels, e);
}

static bool never(void *context) { return (void)context, false; }

static ddpm_status run_job(bench_sample *b, picture_set *set, folder_lock *lock, double *seconds, err *e)
{
    drawer d = {.b = b};
    sampling_tally t;
    const sampling_job_spec spec = {.set = set,
                                    .lock = lock,
                                    .ranks = 1,
                                    .batch = b->batch,
                                    .threads = picture_writer_threads(),
                                    .draw = draw,
                                    .stop = never,
                                    .context = &d};
    TRY(folder_lock_join(lock, set->folder, "a benchmark", e));
    TRY(sampling_job_run(&spec, &t, e));
    *seconds = clock_seconds() - d.begun;
    return DDPM_OK;
}

/* The same batches without files. */
static ddpm_status run_loops(bench_sample *b, int batches, double *seconds, err *e)
{
    uint8_t *pixels;
    int h, w;
    model_image_size(b->m, &h, &w);
    const size_t picture = (size_t)h * (size_t)w * (size_t)b->m->net.unet.in_channels;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&pixels, (size_t)b->batch, picture, "pictures", e));
    const generator_batch batch = bench_sample_batch(b, b->ids, b->batch);
    const double begin = clock_seconds();
    for (int i = 0; i < batches && st == DDPM_OK; i++) st = generator_run_bytes(b->g, &batch, pixels, e);
    *seconds = clock_seconds() - begin;
    mem_free(pixels);
    return st;
}

/* Round `i`: loops alone, then with files in a folder of their own.  All folders are removed at the end: ext4 is slow to
 * create files where it has deleted many within the last minutes. */
static ddpm_status run_round(bench_sample *b, const char *folder, int i, int batches, double seconds[2], err *e)
{
    folder_lock lock = FOLDER_LOCK_NONE;
    picture_set set = {.format = &format_png, .shard = format_png.shard, .c = b->m->net.unet.in_channels};
    char name[16];
    model_image_size(b->m, &set.h, &set.w);
    id_ranges_first(&set.ids, (int64_t)b->batch * (batches + 1));
    (void)snprintf(name, sizeof name, "%d", i);
    TRY(path_join(set.folder, folder, name, e));
    TRY(dir_make(set.folder, e));
    TRY(run_loops(b, batches, &seconds[0], e));
    const ddpm_status st = run_job(b, &set, &lock, &seconds[1], e);
    folder_lock_release(&lock);
    return st;
}

ddpm_status bench_sample_files(bench_sample *b, int batches, timing *per_second, timing *share, err *e)
{
    const char *base = getenv("TMPDIR");
    char folder[PATH_CAP];
    double rate[BENCH_FILE_ROUNDS], ratio[BENCH_FILE_ROUNDS], seconds[2];
    err ignored = {0};
    ddpm_status st = DDPM_OK;
    *per_second = *share = (timing){.n = 0};
    if (b->m->net.unet.in_channels != 1 && b->m->net.unet.in_channels != 3) return DDPM_OK; /* no pictures */
    TRY(path_join(folder, base && base[0] ? base : "/tmp", "ddpm-bench-XXXXXX", e));
    if (!mkdtemp(folder)) return err_set(e, DDPM_EIO, "%s: cannot be made; set TMPDIR to another folder", folder);
    for (int i = 0; i < BENCH_FILE_ROUNDS; i++) {
        st = run_round(b, folder, i, batches, seconds, e);
        if (st != DDPM_OK) break;
        rate[i] = (double)batches * b->batch / seconds[1];
        ratio[i] = seconds[0] / seconds[1];
    }
    if (dir_remove(folder, &ignored) != DDPM_OK && st == DDPM_OK) return err_set(e, DDPM_EIO, "%s", ignored.text);
    TRY(st);
    *per_second = timing_of(rate, BENCH_FILE_ROUNDS);
    *share = timing_of(ratio, BENCH_FILE_ROUNDS);
    return DDPM_OK;
}
