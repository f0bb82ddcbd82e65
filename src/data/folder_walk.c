#include "data/folder_walk.h"

#include "base/file.h"
#include "data/image.h"
#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LINKS_MAX = 32, ENDINGS_SAID = 8 }; /* links can repeat folders without forming a cycle */

typedef struct walk_job {
    folder_walk *w;
    struct stat run, samples; /* the run folder and its samples folder; st_nlink = 0: none */
    bool has_samples;         /* does the root folder contain pictures of `ddpm sample`? */
} walk_job;

/* ---- names ------------------------------------------------------------------------------------ */

/* The extension of a name, in lower case with its dot; "" if there is none. */
static void ending_of(const char *name, char ending[WALK_ENDING])
{
    const char *dot = strrchr(name, '.');
    ending[0] = '\0';
    if (!dot || dot == name || !dot[1] || strlen(dot) >= WALK_ENDING) return;
    for (size_t i = 0; i <= strlen(dot); i++) ending[i] = (char)tolower((unsigned char)dot[i]);
}

static bool is_image(const FTSENT *entry, const char *ending)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif"};
    uint8_t head[8];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (!strcmp(ending, endings[i])) return true;
    return !ending[0] && entry->fts_info == FTS_F &&
           image_format(head, file_head(entry->fts_path, head, sizeof head)) != NULL;
}

static bool is_metadata(const char *name) { return !strcmp(name, "metadata.jsonl") || !strcmp(name, "metadata.csv"); }

static void count_other(folder_walk *w, const char *ending)
{
    int k = 0;
    w->others++;
    while (k < w->endings && strcmp(w->other[k].ending, ending) != 0) k++;
    if (k == WALK_ENDINGS) return;
    if (k == w->endings) strcpy(w->other[w->endings++].ending, ending);
    w->other[k].n++;
}

/* ---- folders ---------------------------------------------------------------------------------- */

static bool same_folder(const struct stat *a, const struct stat *b)
{
    return b->st_nlink && a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool holds(const char *dir, const char *name, bool folder)
{
    char path[PATH_CAP];
    struct stat info;
    return path_join(path, dir, name, NULL) == DDPM_OK && stat(path, &info) == 0 &&
           (folder ? S_ISDIR(info.st_mode) : S_ISREG(info.st_mode));
}

static bool is_of_run(const walk_job *job, const FTSENT *entry)
{
    return same_folder(entry->fts_statp, &job->run) || holds(entry->fts_path, "LOCK", false) ||
           holds(entry->fts_path, "sampling.json", false) || holds(entry->fts_path, "ckpt", true);
}

/* grid.png, or a preview of a training run in the same folder as its samples. */
static bool is_overview(const walk_job *job, const FTSENT *entry)
{
    return job->has_samples && entry->fts_level == 1 &&
           (!strcmp(entry->fts_name, "grid.png") || !fnmatch("step_[0-9]*.png", entry->fts_name, 0));
}

static ddpm_status visit_root(walk_job *job, const FTSENT *entry, err *e)
{
    job->has_samples = holds(entry->fts_path, "sampling.json", false);
    const bool is_run = same_folder(entry->fts_statp, &job->run);
    if (!is_run && !same_folder(entry->fts_statp, &job->samples)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "data.path=%s is %s this run: the model would be trained on its own samples; give another out=",
                   entry->fts_path, is_run ? "the folder of" : "the folder of the previews of");
}

static ddpm_status visit_folder(walk_job *job, FTS *walk, FTSENT *entry, err *e)
{
    struct stat info;
    if (entry->fts_level == 0) return visit_root(job, entry, e);
    entry->fts_number = entry->fts_parent->fts_number; /* number of links on the path */
    if (lstat(entry->fts_accpath, &info) == 0 && S_ISLNK(info.st_mode)) entry->fts_number++;
    if (entry->fts_number > LINKS_MAX)
        return err_set(e, DDPM_EDATA, "%s: more than %d links to folders in the path", entry->fts_path, LINKS_MAX);
    if (entry->fts_name[0] == '.') {
        (void)fts_set(walk, entry, FTS_SKIP);
    } else if (is_of_run(job, entry)) {
        (void)fts_set(walk, entry, FTS_SKIP);
        return file_list_add(&job->w->own, entry->fts_path, e);
    }
    return DDPM_OK;
}

static ddpm_status visit_entry(walk_job *job, FTS *walk, FTSENT *entry, err *e)
{
    char ending[WALK_ENDING];
    switch (entry->fts_info) {
    case FTS_D: return visit_folder(job, walk, entry, e);
    case FTS_DNR: return err_errno(e, DDPM_ENOINPUT, entry->fts_errno, "%s: cannot open the folder", entry->fts_path);
    case FTS_DC: /* a cycle: a link to a folder that contains it */
    case FTS_DP: return DDPM_OK;
    default:
        if (entry->fts_name[0] == '.') return DDPM_OK;
        if (is_overview(job, entry)) return file_list_add(&job->w->own, entry->fts_path, e);
        ending_of(entry->fts_name, ending);
        if (is_image(entry, ending)) return file_list_add(&job->w->images, entry->fts_path, e);
        if (is_metadata(entry->fts_name)) return file_list_add(&job->w->metadata, entry->fts_path, e);
        count_other(job->w, ending);
        return DDPM_OK;
    }
}

static ddpm_status walk_through(const char *root, walk_job *job, bool first_only, err *e)
{
    ddpm_status st = DDPM_OK;
    char *const roots[] = {(char *)root, NULL}; /* fts does not write to it */
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (!walk) return err_errno(e, DDPM_ENOINPUT, errno, "%s: cannot open the folder", root);
    errno = 0;
    for (FTSENT *entry = fts_read(walk); entry; errno = 0, entry = fts_read(walk)) {
        TRY_GOTO(visit_entry(job, walk, entry, e));
        if (first_only && job->w->images.n > 0) goto done;
    }
    if (errno) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot list the folder", root));
    file_list_sort(&job->w->images);
    file_list_sort(&job->w->metadata);
    file_list_sort(&job->w->own);
done:
    (void)fts_close(walk);
    return st;
}

/* ---- the interface ---------------------------------------------------------------------------- */

ddpm_status folder_walk_all(const char *root, const char *run, folder_walk *w, err *e)
{
    char samples[PATH_CAP];
    walk_job job = {.w = w};
    *w = (folder_walk){0};
    if (run && *run && path_join(samples, run, "samples", NULL) == DDPM_OK) {
        if (stat(run, &job.run)) job.run.st_nlink = 0;
        if (stat(samples, &job.samples)) job.samples.st_nlink = 0;
    }
    return walk_through(root, &job, false, e);
}

bool folder_walk_finds(const char *root)
{
    folder_walk w = {0};
    walk_job job = {.w = &w};
    const bool found = path_is_dir(root) && (walk_through(root, &job, true, NULL) != DDPM_OK || w.images.n > 0);
    folder_walk_free(&w);
    return found;
}

void folder_walk_free(folder_walk *w)
{
    file_list_free(&w->images);
    file_list_free(&w->metadata);
    file_list_free(&w->own);
    *w = (folder_walk){0};
}

/* The most frequent extension that is not yet listed, the first by name among equals.  -1: all are listed. */
static int next_ending(const folder_walk *w, const bool said[WALK_ENDINGS])
{
    int best = -1;
    for (int k = 0; k < w->endings; k++) {
        if (said[k]) continue;
        if (best < 0 || w->other[k].n > w->other[best].n ||
            (w->other[k].n == w->other[best].n && strcmp(w->other[k].ending, w->other[best].ending) < 0))
            best = k;
    }
    return best;
}

void folder_walk_say_others(const folder_walk *w, char *text, size_t cap)
{
    bool said[WALK_ENDINGS] = {false};
    int64_t rest = w->others;
    size_t used = 0;
    if (w->others == 0) {
        (void)snprintf(text, cap, "no other files");
        return;
    }
    used += (size_t)snprintf(text, cap, "%lld other file%s (", (long long)w->others, w->others == 1 ? "" : "s");
    for (int i = 0; i < ENDINGS_SAID; i++) {
        const int k = next_ending(w, said);
        if (k < 0 || used >= cap) break;
        const char *ending = w->other[k].ending;
        used += (size_t)snprintf(text + used, cap - used, "%s%lld %s", i ? ", " : "", (long long)w->other[k].n,
                                 ending[0] ? ending : "without an extension");
        rest -= w->other[k].n;
        said[k] = true;
    }
    if (used < cap && rest > 0) used += (size_t)snprintf(text + used, cap - used, ", %lld more", (long long)rest);
    if (used < cap) (void)snprintf(text + used, cap - used, ")");
}
