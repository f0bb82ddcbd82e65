#include "cli/sample_folder.h"

#include "cli/interrupt.h"
#include "base/mem.h"
#include "io/checkpoint_place.h"
#include "sample/film.h"
#include "sample/manifest.h"
#include "sample/picture_format.h"
#include "sample/sampling_end.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define INSTEAD "give another out=, or overwrite=true to replace the pictures"

enum { DESCRIPTION_BYTES = 1 << 17, DIFFERENCES = 3 };
enum { SETUP = 0, WRITERS = 1 }; /* bytes of the lock; those of the ranks follow far behind */

/* ---- default folder ---- */

/* Remove the last path component if it is `name` (NULL: a checkpoint's name). */
static bool cut_last(char *path, const char *name)
{
    char *slash = strrchr(path, '/');
    if (!slash || slash == path || (name ? strcmp(slash + 1, name) != 0 : !checkpoint_is_name(slash + 1))) return false;
    *slash = '\0';
    return true;
}

/* Is it a run's folder of checkpoints, not a run or model that is named ckpt? */
static bool is_ckpt(const char *path)
{
    static const char *const others[] = {"ckpt", "config.json", "unet"};
    char inside[PATH_CAP];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (path_join(inside, path, others[i], NULL) != DDPM_OK || path_exists(inside)) return false;
    return true;
}

ddpm_status sample_folder_default(const char *path, char out[PATH_CAP], err *e)
{
    char real[PATH_MAX];
    if (realpath(path, real)) {
        const char *last = cut_last(real, NULL) ? strrchr(real, '/') : NULL;
        if (last && checkpoint_is_superseded(last + 1))
            (void)cut_last(real, last + 1); /* contains later checkpoints of a rewound run */
        if (is_ckpt(real) && cut_last(real, "ckpt")) return path_join(out, real, "samples", e);
    }
    return path_join(out, path, "samples", e);
}

/* ---- survey of the folder ---- */

typedef enum kind {
    NOT_OURS,
    A_PICTURE,   /* a file of a set, in any format */
    A_SUBFOLDER, /* may hold pictures */
    A_DESCRIPTION,
    A_SET,
    ANOTHER /* manifest, overview, film strip */
} kind;

static kind kind_of(const char *name)
{
    for (int i = 0; picture_formats[i]; i++)
        if (picture_formats[i]->owns(name)) return A_PICTURE;
    if (picture_name_is(name, 3, "")) return A_SUBFOLDER;
    if (!strcmp(name, SAMPLE_DESCRIPTION)) return A_DESCRIPTION;
    if (!strcmp(name, SAMPLE_SET)) return A_SET;
    return !strcmp(name, OVERVIEW) || !strcmp(name, MANIFEST) || !strcmp(name, FILM_STRIP) ? ANOTHER : NOT_OURS;
}

typedef struct survey {
    char first[PATH_CAP]; /* the first of the files that are pictures, by name within the folder; "" none */
    const char *other;    /* overview or manifest; NULL: neither */
    bool description, set;
} survey;

/* Called for each entry of the folder or of a subfolder, with its name within the folder; a failure ends the walk. */
typedef ddpm_status visitor(sample_folder *f, const char *name, kind k, void *context, err *e);

/* Only regular files and links may be read, replaced or removed. */
static ddpm_status expect_file(const sample_folder *f, const char *name, err *e)
{
    char path[PATH_CAP];
    struct stat info;
    TRY(path_join(path, f->path, name, e));
    if (lstat(path, &info) || S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) return DDPM_OK;
    return err_set(e, DDPM_EIO, "%s: is not a file and cannot be replaced by one; give another out=", path);
}

static ddpm_status walk(sample_folder *f, const char *subfolder, visitor *visit, void *context, err *e)
{
    ddpm_status st = DDPM_OK;
    char path[PATH_CAP], name[PATH_CAP];
    struct stat info;
    if (subfolder)
        TRY(path_join(path, f->path, subfolder, e));
    else
        strcpy(path, f->path);
    if (subfolder && (lstat(path, &info) || !S_ISDIR(info.st_mode))) return DDPM_OK; /* a link may lead elsewhere */
    DIR *d = opendir(path);
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", path);
    for (const struct dirent *entry = readdir(d); entry && st == DDPM_OK; entry = readdir(d)) {
        const kind k = kind_of(entry->d_name);
        if (k == NOT_OURS || (subfolder && picture_id(entry->d_name) < 0)) continue;
        st = subfolder ? path_join(name, subfolder, entry->d_name, e) : (strcpy(name, entry->d_name), DDPM_OK);
        if (st == DDPM_OK && k == A_SUBFOLDER) st = walk(f, name, visit, context, e);
        if (st == DDPM_OK) st = visit(f, name, k, context, e);
        if (st == DDPM_OK && interrupt_stop() != 0)
            st = err_set(e, DDPM_ESAVED,
                         "%s: stopped while the existing pictures were being listed; the same command continues",
                         f->path);
    }
    closedir(d);
    return st;
}

static ddpm_status note_one(sample_folder *f, const char *name, kind k, void *context, err *e)
{
    survey *s = context;
    if (k == A_SUBFOLDER) return DDPM_OK;
    TRY(expect_file(f, name, e));
    if (k == A_PICTURE && (!s->first[0] || strcmp(name, s->first) < 0)) strcpy(s->first, name);
    s->description |= k == A_DESCRIPTION;
    s->set |= k == A_SET;
    if (k == ANOTHER) s->other = !strcmp(name, OVERVIEW) ? OVERVIEW : !strcmp(name, MANIFEST) ? MANIFEST : FILM_STRIP;
    return DDPM_OK;
}

/* ---- description ---- */

static void say_value(const json_t *v, char text[80])
{
    char *dump = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    (void)snprintf(text, 80, "%.79s", dump ? dump : "not given");
    free(dump);
}

/* "seed 0, not 1; num_inference_steps 10, not 20": old and requested values. */
static int list_differences(const json_t *was, json_t *now, char *text, size_t cap)
{
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach(now, key, value)
    {
        char before[80], after[80];
        const json_t *old = json_object_get(was, key);
        if (json_equal(old, value)) continue;
        if (json_is_object(value) && json_is_object(old)) {
            n += list_differences(old, value, text, cap);
            continue;
        }
        const size_t used = strlen(text);
        say_value(old, before);
        say_value(value, after);
        if (n++ < DIFFERENCES)
            (void)snprintf(text + used, cap - used, "%s%s %s, not %s", used ? "; " : "", key, before, after);
    }
    return n;
}

/* One of the two files: as it is, NULL if it is no JSON, and as requested. */
typedef struct pair {
    json_t *was, *now;
} pair;

static void forget(pair *p)
{
    json_decref(p->was);
    json_decref(p->now);
}

static ddpm_status load(const sample_folder *f, const char *name, const char *requested, pair *p, err *e)
{
    char path[PATH_CAP], *text = NULL;
    size_t size;
    err unread = {0};
    TRY(path_join(path, f->path, name, e));
    const ddpm_status st = file_read(path, DESCRIPTION_BYTES, &text, &size, &unread);
    if (st == DDPM_ENOMEM || st == DDPM_EIO) return err_set(e, st, "%s", unread.text);
    *p = (pair){st == DDPM_OK ? json_loadb(text, size, 0, NULL) : NULL, json_loads(requested, 0, NULL)};
    mem_free(text);
    return DDPM_OK;
}

/* Does sampling.json equal the requested description?  If not, *why names the differences: "seed 0, not 1". */
static ddpm_status compare(const sample_folder *f, bool *same, char *why, size_t cap, err *e)
{
    pair p;
    *why = '\0';
    TRY(load(f, SAMPLE_DESCRIPTION, f->spec.description, &p, e));
    *same = p.was && json_equal(p.was, p.now);
    const bool ours = json_is_string(json_object_get(p.was, "weights"));
    if (!ours)
        (void)snprintf(why, cap, "was not written by ddpm sample");
    else if (!json_equal(json_object_get(p.was, "format"), json_object_get(p.now, "format")))
        (void)snprintf(why, cap, "written by another version of this program");
    else if (!*same && list_differences(p.was, p.now, why, cap) == 0)
        (void)snprintf(why, cap, "contains entries unknown to this version");
    forget(&p);
    return DDPM_OK;
}

/* Does set.json describe a file for each picture? */
static bool has_files(const json_t *set)
{
    const picture_format *format = picture_format_named(json_string_value(json_object_get(set, "format")));
    return format && format->files;
}

/* Does set.json equal the requested one?  *why: a difference that excludes the files from being of one set. */
static ddpm_status compare_sets(const sample_folder *f, bool *same, char *why, size_t cap, err *e)
{
    pair p;
    *why = '\0';
    TRY(load(f, SAMPLE_SET, f->spec.set, &p, e));
    *same = p.was && json_equal(p.was, p.now);
    if (!*same && has_files(p.was) && has_files(p.now)) json_object_del(p.was, "ids"), json_object_del(p.now, "ids");
    if (!json_is_string(json_object_get(p.was, "format")))
        (void)snprintf(why, cap, "was not written by ddpm sample");
    else
        (void)list_differences(p.was, p.now, why, cap);
    forget(&p);
    return DDPM_OK;
}

/* Pictures of earlier versions have no set.json: PNG files without subfolders. */
static ddpm_status compare_old(sample_folder *f, char *why, size_t cap, err *e)
{
    survey s = {0};
    json_t *now = json_loads(f->spec.set, 0, NULL);
    const bool fits = has_files(now) && json_is_false(json_object_get(now, "subfolders"));
    json_decref(now);
    if (fits) return DDPM_OK;
    TRY(walk(f, NULL, note_one, &s, e));
    if (s.first[0]) (void)snprintf(why, cap, "PNG files without subfolders are there (%.60s)", s.first);
    return DDPM_OK;
}

/* Survey a folder that has no description, or another one. */
static ddpm_status refuse_others(sample_folder *f, const char *why, err *e)
{
    survey s = {0};
    char differences[300] = "";
    bool same = false;
    TRY(walk(f, NULL, note_one, &s, e));
    if (f->spec.overwrite) return DDPM_OK;
    if (s.description) return err_set(e, DDPM_EINVAL, "%s/" SAMPLE_DESCRIPTION ": %s; " INSTEAD, f->path, why);
    if (s.first[0] || s.other)
        return err_set(e, DDPM_EINVAL, "%s/%s: exists without a " SAMPLE_DESCRIPTION " that describes it; " INSTEAD,
                       f->path, s.first[0] ? s.first : s.other);
    if (s.set) TRY(compare_sets(f, &same, differences, sizeof differences, e));
    if (!strncmp(differences, "was not", 7))
        return err_set(e, DDPM_EINVAL, "%s/" SAMPLE_SET ": %s; " INSTEAD, f->path, differences);
    return DDPM_OK;
}

/* Look at the folder; pictures with another description are an error unless they may be overwritten. */
static ddpm_status look(sample_folder *f, err *e)
{
    char why[300] = "", path[PATH_CAP];
    f->described = f->same_set = false;
    TRY(path_join(path, f->path, SAMPLE_DESCRIPTION, e));
    if (path_exists(path)) {
        TRY(expect_file(f, SAMPLE_DESCRIPTION, e));
        TRY(compare(f, &f->described, why, sizeof why, e));
    }
    if (!f->described) return refuse_others(f, why, e);
    TRY(path_join(path, f->path, SAMPLE_SET, e));
    if (path_exists(path))
        TRY(compare_sets(f, &f->same_set, why, sizeof why, e));
    else
        TRY(compare_old(f, why, sizeof why, e));
    if (!why[0]) return DDPM_OK;
    if (!f->spec.overwrite) return err_set(e, DDPM_EINVAL, "%s/" SAMPLE_SET ": %s; " INSTEAD, f->path, why);
    f->described = f->same_set = false;
    return DDPM_OK;
}

/* ---- the lock ---- */

/* The byte of a rank of so many ranks. */
static int64_t rank_byte(const sample_folder *f)
{
    return ((int64_t)1 << 45) + ((int64_t)f->spec.ranks << 21) + f->spec.rank;
}

static ddpm_status refuse_locked(const sample_folder *f, const char *what, err *e)
{
    char holder[FOLDER_LOCK_HOLDER], part[64] = "";
    folder_lock_holder(&f->lock, holder);
    if (f->spec.ranks > 1) (void)snprintf(part, sizeof part, " as rank %d of %d", f->spec.rank, f->spec.ranks);
    return err_set(e, DDPM_ELOCKED,
                   "%s: another sampling is writing %sto this folder%s (%s); wait for it to end, or give "
                   "another out=",
                   f->path, what, what[0] ? "" : part, holder[0] ? holder : "unknown");
}

/* Lock a byte; `what` says whom it may exclude, for the message. */
static ddpm_status lock_byte(const sample_folder *f, int64_t byte, bool shared, const char *what, err *e)
{
    const ddpm_status st = folder_lock_part(&f->lock, byte, 1, shared, e);
    return st == DDPM_ELOCKED ? refuse_locked(f, what, e) : st;
}

/* Wait until no other process looks at the folder or changes it: moments, or as long as it takes to remove a set. */
static ddpm_status enter_setup(const sample_folder *f, err *e)
{
    static const struct timespec pause = {0, 10000000};
    for (;;) {
        const ddpm_status st = folder_lock_part(&f->lock, SETUP, 1, false, e);
        if (st != DDPM_ELOCKED) return st;
        if (interrupt_stop() != 0)
            return err_set(e, DDPM_ESAVED, "%s: stopped before anything was drawn; the same command continues",
                           f->path);
        (void)nanosleep(&pause, NULL);
    }
}

static void leave_setup(const sample_folder *f) { folder_lock_leave(&f->lock, SETUP, 1); }

/* Become one of the writers of the described set. */
static ddpm_status join(sample_folder *f, err *e)
{
    TRY(lock_byte(f, WRITERS, true, "other pictures ", e));
    f->joined = true;
    return DDPM_OK;
}

/* ---- opening and overwriting ---- */

static ddpm_status check_place(const sample_folder *f, err *e)
{
    char lock[PATH_CAP];
    TRY(checkpoint_refuse_inside(f->path, "out", e));
    TRY(path_join(lock, f->path, FOLDER_LOCK_FILE, e));
    if (folder_lock_is_ours(f->path)) return DDPM_OK;
    return err_set(
        e, DDPM_EINVAL,
        "%s: was not written by this program, and the name is needed for the lock file; give another out=", lock);
}

static ddpm_status open_locked(sample_folder *f, err *e)
{
    TRY(lock_byte(f, rank_byte(f), false, "", e));
    TRY(look(f, e));
    if (access(f->path, W_OK | X_OK)) return err_errno(e, DDPM_EIO, errno, "%s: cannot be written to", f->path);
    dir_sweep_temporaries(f->path);
    folder_lock_name(&f->lock);
    if (f->described && f->same_set) return join(f, e);
    /* found early: the description will have to be changed */
    TRY(lock_byte(f, WRITERS, false, "other pictures ", e));
    folder_lock_leave(&f->lock, WRITERS, 1);
    return DDPM_OK;
}

ddpm_status sample_folder_open(sample_folder *f, const sample_folder_spec *spec, err *e)
{
    char lock[PATH_CAP];
    *f = (sample_folder){.lock = FOLDER_LOCK_NONE, .spec = *spec};
    if (strlen(spec->path) + PICTURE_NAME + sizeof PICTURE_WORK + FILE_TEMPORARY >= PATH_CAP)
        return err_set(e, DDPM_EINVAL, "path too long: %.80s... (at most %d bytes including the names of the pictures)",
                       spec->path, PATH_CAP - 1);
    strcpy(f->path, spec->path);
    f->spec.path = f->path;
    TRY(check_place(f, e));
    TRY(path_join(lock, f->path, FOLDER_LOCK_FILE, e));
    if (path_is_dir(f->path) && !path_exists(lock)) TRY(look(f, e)); /* fails before changing the folder */
    TRY(dir_make(f->path, e));
    TRY(folder_lock_join(&f->lock, f->path, "sampling", e));
    TRY(enter_setup(f, e));
    const ddpm_status st = open_locked(f, e);
    leave_setup(f);
    return st;
}

static ddpm_status remove_one(sample_folder *f, const char *name, kind k, void *context, err *e)
{
    int64_t *removed = context;
    char path[PATH_CAP];
    TRY(path_join(path, f->path, name, e));
    if (k == A_SUBFOLDER) {
        if (!rmdir(path)) ++*removed; /* it stays if something else is in it */
        return DDPM_OK;
    }
    if (unlink(path) && errno != ENOENT) return err_errno(e, DDPM_EIO, errno, "%s: cannot remove", path);
    ++*removed;
    return DDPM_OK;
}

/* Each stage is fsynced before the next begins, so that a power loss between them is harmless. */
static ddpm_status remove_pictures(sample_folder *f, const char *description, err *e)
{
    int64_t removed;
    if (unlink(description) && errno != ENOENT) return err_errno(e, DDPM_EIO, errno, "%s: cannot remove", description);
    TRY(dir_sync(f->path, e));
    do { /* readdir() may skip entries while others are removed */
        removed = 0;
        TRY(walk(f, NULL, remove_one, &removed, e));
    } while (removed > 0);
    return dir_sync(f->path, e);
}

/* What is unfinished is of another set. */
static ddpm_status change_set(sample_folder *f, err *e)
{
    const sample_folder_spec *s = &f->spec;
    char description[PATH_CAP];
    TRY(path_join(description, f->path, SAMPLE_DESCRIPTION, e));
    if (!f->described) TRY(remove_pictures(f, description, e));
    picture_work_remove(f->path);
    TRY(picture_work_make(f->path, e));
    TRY(picture_work_replace(f->path, SAMPLE_SET, s->set, s->set_size, e));
    if (!f->described) TRY(picture_work_replace(f->path, SAMPLE_DESCRIPTION, s->description, s->description_size, e));
    TRY(dir_sync(f->path, e));
    f->described = f->same_set = true;
    return DDPM_OK;
}

static ddpm_status begin_locked(sample_folder *f, err *e)
{
    TRY(look(f, e)); /* again: another rank may have begun */
    if (!f->described || !f->same_set) {
        TRY(lock_byte(f, WRITERS, false, "other pictures ", e));
        TRY(change_set(f, e));
    }
    return join(f, e);
}

ddpm_status sample_folder_begin(sample_folder *f, err *e)
{
    if (f->joined) return DDPM_OK;
    TRY(enter_setup(f, e));
    const ddpm_status st = begin_locked(f, e);
    leave_setup(f);
    return st;
}

void sample_folder_close(sample_folder *f)
{
    folder_lock_release(&f->lock);
    free(f->spec.description);
    free(f->spec.set);
    *f = (sample_folder){.lock = FOLDER_LOCK_NONE};
}
