#include "cli/output.h"

#include "base/mem.h"
#include "io/atomic_dir.h"
#include "io/checkpoint_place.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool output_is_json_of(const char *path, const char *first_key)
{
    enum { MOST = 1 << 26 };
    char first[80], *text;
    size_t size;
    const int n = snprintf(first, sizeof first, "{\n  \"%s\": ", first_key);
    if (file_read(path, MOST, &text, &size, NULL) != DDPM_OK) return false;
    const bool ours = !strncmp(text, first, (size_t)n);
    mem_free(text);
    return ours;
}

ddpm_status output_check(const char *path, const char *option, output_is_ours *ours, bool overwrite, err *e)
{
    struct stat info;
    if (!path[0]) return err_set(e, DDPM_EINVAL, "%s: empty; give the name of a file", option);
    TRY(checkpoint_refuse_inside(path, option, e));
    TRY(file_writable(path, e));
    if (overwrite || stat(path, &info) || !S_ISREG(info.st_mode) || info.st_size == 0 || ours(path)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "%s: exists and was not written by this command; give another %s=, or overwrite=true", path, option);
}

bool output_is_stdout(const char *path)
{
    struct stat file, out;
    return !stat(path, &file) && !fstat(STDOUT_FILENO, &out) && file.st_dev == out.st_dev &&
           file.st_ino == out.st_ino && !S_ISDIR(file.st_mode);
}

static bool is_part_of_pipeline(const char *name)
{
    static const char *const parts[] = {"model_index.json", "unet", "scheduler"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(name, parts[i])) return true;
    return false;
}

static ddpm_status judge_entry(const char *path, const char *name, const char *option, bool overwrite, err *e)
{
    if (!overwrite)
        return err_set(e, DDPM_EINVAL, "%s: is not empty (%s); give another %s=, or overwrite=true", path, name,
                       option);
    if (is_part_of_pipeline(name)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "%s/%s: is not part of a pipeline and would be lost; give another %s=", path, name,
                   option);
}

ddpm_status output_check_pipeline(const char *path, const char *option, bool overwrite, bool *replace, err *e)
{
    ddpm_status st = DDPM_OK;
    *replace = false;
    TRY(checkpoint_refuse_inside(path, option, e));
    if (!path_exists(path)) return DDPM_OK;
    DIR *d = opendir(path);
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", path);
    for (const struct dirent *entry = readdir(d); entry && st == DDPM_OK; entry = readdir(d)) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        *replace = true;
        st = judge_entry(path, entry->d_name, option, overwrite, e);
    }
    closedir(d);
    if (st == DDPM_OK && access(path, W_OK | X_OK))
        st = err_errno(e, DDPM_EIO, errno, "%s: cannot be written to", path);
    return st;
}

/* Replace an existing pipeline atomically by the new one, once the new one is complete. */
static ddpm_status replace_pipeline(const model *m, const char *dir, err *e)
{
    char real[PATH_MAX];
    atomic_dir t = {.path = ""};
    ddpm_status st = DDPM_OK;
    if (!realpath(dir, real)) return err_errno(e, DDPM_EIO, errno, "%s: cannot find the folder", dir);
    char *slash = strrchr(real, '/');
    *slash = '\0';
    TRY_GOTO(atomic_dir_begin(&t, slash == real ? "/" : real, slash + 1, e));
    TRY_GOTO(model_save(m, ARENA_PARAM, t.path, e));
    TRY_GOTO(atomic_dir_commit(&t, e));
done:
    atomic_dir_abort(&t);
    return st;
}

ddpm_status output_save_pipeline(const model *m, const char *dir, bool replace, err *e)
{
    if (replace) return replace_pipeline(m, dir, e);
    TRY(dir_make(dir, e));
    return model_save(m, ARENA_PARAM, dir, e);
}
