#include "support/sampling_script.h"
#include "sample/set_check.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

char root[PATH_CAP];
err why;
picture_set set;
sampling_script script;

void script_begin(void) { scratch_make(root); }
void script_end(void) { scratch_remove(root); }

void script_clear(void)
{
    scratch_remove(root);
    cr_assert_eq(dir_make(root, &why), DDPM_OK);
}

uint8_t value(int64_t id, int i) { return (uint8_t)((id * 7919 + i * 104729 + (id * i) % 31) % 1009); }

static ddpm_status draw(void *context, sampling_job *job, const int64_t *ids, int n, uint8_t *pixels, err *e)
{
    (void)context;
    script.calls++;
    if (script.meanwhile && script.calls == 1) script.meanwhile();
    if (script.calls == script.fails_in) return err_set(e, DDPM_EBACKEND, "the device is gone");
    script.stop |= script.calls == script.stops_in;
    if (sampling_job_stops(job)) return err_set(e, DDPM_ESAVED, "stopped");
    for (int b = 0; b < n; b++)
        for (int i = 0; i < D; i++) pixels[b * D + i] = value(ids[b], i);
    script.drawn += n;
    return DDPM_OK;
}

static bool stop(void *context)
{
    (void)context;
    return script.stop || (script.stops_at && script.pauses >= script.stops_at);
}
int64_t label(const void *context, int64_t id) { return (void)context, id * id % 1000; }

void make_set(const char *name, const picture_format *format, const char *ids)
{
    set = (picture_set){.format = format, .h = H, .w = W, .c = C, .stamp = 7};
    set.shard = format->shard ? format->shard : 300;
    (void)snprintf(set.folder, sizeof set.folder, "%s", in_dir(root, name));
    cr_assert_eq(id_ranges_parse(&set.ids, ids, &why), DDPM_OK, "%s", why.text);
    set.subfolders = format == &format_png && set.ids.count >= 1500;
    cr_assert_eq(dir_make(set.folder, &why), DDPM_OK, "%s", why.text);
}

ddpm_status run(int rank, int ranks, int batch, sampling_tally *t)
{
    folder_lock lock;
    const sampling_job_spec spec = {.set = &set,
                                    .lock = &lock,
                                    .rank = rank,
                                    .ranks = ranks,
                                    .batch = batch,
                                    .threads = 3,
                                    .draw = draw,
                                    .stop = stop};
    script.drawn = script.calls = 0;
    script.stop = false;
    cr_assert_eq(folder_lock_join(&lock, set.folder, "sampling", &why), DDPM_OK, "%s", why.text);
    const ddpm_status st = sampling_job_run(&spec, t, &why);
    folder_lock_release(&lock);
    return st;
}

void draw_set(int64_t expected)
{
    sampling_tally t;
    cr_assert_eq(run(0, 1, 64, &t), DDPM_OK, "%s", why.text);
    cr_assert(t.complete && t.seen && t.drawn == expected && script.drawn == expected, "%lld drawn, %lld expected",
              (long long)t.drawn, (long long)expected);
    cr_assert_eq(t.done, t.total);
}

bool same_folders(const char *a, const char *b)
{
    char command[4 * PATH_CAP];
    (void)snprintf(command, sizeof command, "diff -r -x LOCK %s %s", in_dir(root, a), in_dir(root, b));
    return system(command) == 0;
}

void flip(const char *name, long at)
{
    char path[PATH_CAP];
    cr_assert_eq(path_join(path, set.folder, name, &why), DDPM_OK);
    FILE *f = fopen(path, "r+");
    cr_assert(f && fseek(f, at, SEEK_SET) == 0, "%s", name);
    const int c = fgetc(f);
    cr_assert(fseek(f, at, SEEK_SET) == 0 && fputc(c ^ 4, f) != EOF && fclose(f) == 0);
}

int64_t faults(set_fault fault)
{
    set_result r;
    cr_assert_eq(set_check(&set, NULL, NULL, NULL, &r, &why), DDPM_OK, "%s", why.text);
    return r.fault[fault];
}
