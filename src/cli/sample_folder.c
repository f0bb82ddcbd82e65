#include "cli/sample_folder.h"

#include "cli/interrupt.h"
#include "cli/picture_writer.h"
#include "base/mem.h"
#include "data/image.h"
#include "io/checkpoint_place.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DESCRIPTION "sampling.json"
#define OVERVIEW    "grid.png"
#define INSTEAD     "give another out=, or overwrite=true to replace the pictures"

enum { DESCRIPTION_BYTES = 1 << 16, DIFFERENCES = 3, MANY = 10000 };

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

typedef struct survey {
    int64_t pictures, least; /* number of pictures with any description; smallest id */
    bool overview, description;
} survey;

/* Called for each entry of the folder; a failure ends the walk. */
typedef ddpm_status visitor(sample_folder *f, const struct dirent *entry, void *context, err *e);

static ddpm_status walk(sample_folder *f, visitor *visit, void *context, err *e)
{
    ddpm_status st = DDPM_OK;
    DIR *d = opendir(f->path);
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", f->path);
    for (const struct dirent *entry = readdir(d); entry && st == DDPM_OK; entry = readdir(d)) {
        st = visit(f, entry, context, e);
        if (st == DDPM_OK && interrupt_stop() != 0)
            st = err_set(e, DDPM_ESAVED,
                         "%s: stopped while the existing pictures were being checked; the same command continues",
                         f->path);
    }
    closedir(d);
    return st;
}

/* Only regular files and links may be read, replaced or removed. */
static ddpm_status expect_file(const sample_folder *f, const struct dirent *entry, err *e)
{
    char path[PATH_CAP];
    struct stat info;
    if (entry->d_type == DT_REG || entry->d_type == DT_LNK) return DDPM_OK;
    TRY(path_join(path, f->path, entry->d_name, e));
    if (lstat(path, &info) || S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) return DDPM_OK;
    return err_set(e, DDPM_EIO, "%s: is not a file and cannot be replaced by one; give another out=", path);
}

static ddpm_status count_one(sample_folder *f, const struct dirent *entry, void *context, err *e)
{
    survey *s = context;
    const int64_t id = picture_id(entry->d_name);
    const bool overview = !strcmp(entry->d_name, OVERVIEW), description = !strcmp(entry->d_name, DESCRIPTION);
    if (id < 0 && !overview && !description) return DDPM_OK;
    TRY(expect_file(f, entry, e));
    if (id >= 0 && (s->pictures++ == 0 || id < s->least)) s->least = id;
    s->overview |= overview;
    s->description |= description;
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

/* Does sampling.json equal the requested description?  If not, *why names the differences: "seed 0, not 1". */
static ddpm_status compare(const sample_folder *f, bool *same, char *why, size_t cap, err *e)
{
    char path[PATH_CAP], *text = NULL;
    size_t size;
    err unread = {0};
    *why = '\0';
    TRY(path_join(path, f->path, DESCRIPTION, e));
    const ddpm_status st = file_read(path, DESCRIPTION_BYTES, &text, &size, &unread);
    if (st == DDPM_ENOMEM || st == DDPM_EIO) return err_set(e, st, "%s", unread.text);
    json_t *was = st == DDPM_OK ? json_loadb(text, size, 0, NULL) : NULL, *now = json_loads(f->description, 0, NULL);
    *same = was && json_equal(was, now);
    const bool ours = json_is_string(json_object_get(was, "weights"));
    if (!ours)
        (void)snprintf(why, cap, "was not written by ddpm sample");
    else if (!json_equal(json_object_get(was, "format"), json_object_get(now, "format")))
        (void)snprintf(why, cap, "written by another version of this program");
    else if (!*same && list_differences(was, now, why, cap) == 0)
        (void)snprintf(why, cap, "contains entries unknown to this version");
    json_decref(was);
    json_decref(now);
    mem_free(text);
    return DDPM_OK;
}

/* Survey the folder; pictures with another description are an error unless they may be overwritten. */
static ddpm_status look(sample_folder *f, survey *s, err *e)
{
    char why[300];
    *s = (survey){0};
    TRY(walk(f, count_one, s, e));
    f->described = false;
    if (s->description) TRY(compare(f, &f->described, why, sizeof why, e));
    if (f->described || f->spec.overwrite) return DDPM_OK;
    if (s->description) return err_set(e, DDPM_EINVAL, "%s/" DESCRIPTION ": %s; " INSTEAD, f->path, why);
    if (s->pictures == 0 && !s->overview) return DDPM_OK;
    char name[PATH_CAP] = OVERVIEW;
    if (s->pictures > 0) picture_name(s->least, name);
    return err_set(e, DDPM_EINVAL, "%s/%s: exists without a " DESCRIPTION " that describes it; " INSTEAD, f->path,
                   name);
}

/* ---- which pictures are done ---- */

/* Pictures for the overview are decoded, too, because writing the overview decodes them. */
static bool picture_is_whole(const sample_folder *f, int64_t id, const char *path)
{
    const sample_folder_spec *s = &f->spec;
    image one;
    if (!image_png_is_whole(path, s->h, s->w, s->c)) return false;
    if (id >= OVERVIEW_MAX) return true;
    const bool good = image_load(path, &one, NULL) == DDPM_OK;
    if (good) image_free(&one);
    return good;
}

static ddpm_status check_one(sample_folder *f, const struct dirent *entry, void *context, err *e)
{
    const int64_t id = picture_id(entry->d_name);
    char path[PATH_CAP];
    if (id < 0 || id >= f->spec.count) return DDPM_OK;
    TRY(path_join(path, f->path, entry->d_name, e));
    if (!picture_is_whole(f, id, path) || sample_folder_has(f, id)) return DDPM_OK;
    f->done[id / 8] = (uint8_t)(f->done[id / 8] | 1 << id % 8);
    f->n_done++;
    return DDPM_OK;
}

bool sample_folder_has(const sample_folder *f, int64_t id) { return f->done[id / 8] >> id % 8 & 1; }

static ddpm_status take_stock(sample_folder *f, err *e)
{
    survey s;
    TRY(folder_lock_take(&f->lock, f->path, "sampling", e));
    TRY(look(f, &s, e));
    if (access(f->path, W_OK | X_OK)) return err_errno(e, DDPM_EIO, errno, "%s: cannot be written to", f->path);
    dir_sweep_temporaries(f->path);
    TRY(mem_array(&f->done, (size_t)f->spec.count / 8 + 1, 1, "list of pictures", e));
    if (!f->described) return DDPM_OK;
    if (s.pictures > MANY) printf("%s: checking %lld existing pictures\n", f->path, (long long)s.pictures);
    (void)fflush(stdout);
    return walk(f, check_one, NULL, e);
}

/* ---- opening and overwriting ---- */

ddpm_status sample_folder_open(sample_folder *f, const sample_folder_spec *spec, char *description, size_t size, err *e)
{
    char lock[PATH_CAP];
    survey s;
    *f = (sample_folder){.lock = FOLDER_LOCK_NONE, .description = description, .description_size = size, .spec = *spec};
    if (strlen(spec->path) + FILE_TEMPORARY >= PATH_CAP)
        return err_set(e, DDPM_EINVAL, "path too long: %.80s... (at most %d bytes including the names of the pictures)",
                       spec->path, PATH_CAP - 1);
    strcpy(f->path, spec->path);
    f->spec.path = f->path;
    TRY(checkpoint_refuse_inside(f->path, "out", e));
    TRY(path_join(lock, f->path, FOLDER_LOCK_FILE, e));
    if (!folder_lock_is_ours(f->path))
        return err_set(
            e, DDPM_EINVAL,
            "%s: was not written by this program, and the name is needed for the lock file; give another out=", lock);
    if (path_is_dir(f->path) && !path_exists(lock)) TRY(look(f, &s, e)); /* fails before changing the folder */
    TRY(dir_make(f->path, e));
    return take_stock(f, e);
}

static ddpm_status remove_one(sample_folder *f, const struct dirent *entry, void *context, err *e)
{
    int64_t *removed = context;
    char path[PATH_CAP];
    if (picture_id(entry->d_name) < 0 && strcmp(entry->d_name, OVERVIEW) != 0) return DDPM_OK;
    TRY(path_join(path, f->path, entry->d_name, e));
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
        TRY(walk(f, remove_one, &removed, e));
    } while (removed > 0);
    return dir_sync(f->path, e);
}

ddpm_status sample_folder_begin(sample_folder *f, err *e)
{
    char path[PATH_CAP];
    if (f->described) return DDPM_OK;
    TRY(path_join(path, f->path, DESCRIPTION, e));
    TRY(remove_pictures(f, path, e));
    TRY(file_replace(path, f->description, f->description_size, e));
    TRY(dir_sync(f->path, e));
    f->described = true;
    return DDPM_OK;
}

void sample_folder_close(sample_folder *f)
{
    folder_lock_release(&f->lock);
    free(f->description);
    mem_free(f->done);
    *f = (sample_folder){.lock = FOLDER_LOCK_NONE};
}
