/* bench_files.c - pictures a second from noise to files, as `ddpm sample` makes them. */
#include "base/clock.h"
#include "base/mem.h"
#include "bench/bench.h"
#include "sample/picture_writer.h"
#include "sample/sampling_job.h"

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
    return generator_run_bytes(d->b->g, &(generator_batch){.n = n, .ids = ids}, pixels, e);
}

static bool never(void *context) { return (void)context, false; }

static ddpm_status run_job(bench_sample *b, picture_set *set, folder_lock *lock, double *per_second, err *e)
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
    *per_second = (double)(set->ids.count - b->batch) / (clock_seconds() - d.begun);
    return DDPM_OK;
}

ddpm_status bench_sample_files(bench_sample *b, int batches, double *per_second, err *e)
{
    const char *base = getenv("TMPDIR");
    folder_lock lock = FOLDER_LOCK_NONE;
    picture_set set = {.format = &format_png, .shard = format_png.shard, .c = b->m->net.unet.in_channels};
    err ignored = {0};
    *per_second = 0;
    if (set.c != 1 && set.c != 3) return DDPM_OK; /* no pictures */
    model_image_size(b->m, &set.h, &set.w);
    id_ranges_first(&set.ids, (int64_t)b->batch * (batches + 1));
    TRY(path_join(set.folder, base && base[0] ? base : "/tmp", "ddpm-bench-XXXXXX", e));
    if (!mkdtemp(set.folder))
        return err_set(e, DDPM_EIO, "%s: cannot be made; set TMPDIR to another folder", set.folder);
    const ddpm_status st = run_job(b, &set, &lock, per_second, e);
    folder_lock_release(&lock);
    if (dir_remove(set.folder, &ignored) != DDPM_OK && st == DDPM_OK) return err_set(e, DDPM_EIO, "%s", ignored.text);
    return st;
}
