#include "train/run_folder.h"
#include "base/mem.h"
#include "io/checkpoint_dir.h"
#include "io/checkpoint_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The longest path below the folder: a file of a checkpoint that is being written. */
static const char LONGEST[] =
    "/ckpt/.tmp-step_999999999999999999-abcdef/unet/diffusion_pytorch_model.safetensors.tmp-abcdef";

ddpm_status run_folder_file(const run_folder *r, const char *name, char *out, err *e)
{
    return path_join(out, r->path, name, e);
}

/* ---- ownership ----------------------------------------------------------------------------------- */

bool run_folder_is_input(const run_folder *r, const ddpm_config *config, const char *name)
{
    char path[PATH_CAP];
    if (run_folder_file(r, name, path, NULL) != DDPM_OK) return false;
    for (int i = 0; i < config->files; i++)
        if (path_same(path, config->file[i])) return true;
    return false;
}

/* Does the file begin with the pattern?  '0' matches any digit. */
static bool begins(const char *path, const char *pattern)
{
    char text[128] = "";
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    if (n < (ssize_t)strlen(pattern)) return false;
    for (size_t i = 0; pattern[i]; i++) {
        const bool digit = text[i] >= '0' && text[i] <= '9';
        if (pattern[i] == '0' ? !digit : text[i] != pattern[i]) return false;
    }
    return true;
}

static bool is_empty_file(const char *path)
{
    struct stat info;
    return !lstat(path, &info) && S_ISREG(info.st_mode) && info.st_size == 0;
}

/* No entries, or only those of a new file system (lost+found). */
static bool is_empty_folder(const char *path)
{
    bool empty = true;
    DIR *d = opendir(path);
    if (!d) return false;
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d))
        empty &= !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || !strcmp(entry->d_name, "lost+found");
    closedir(d);
    return empty;
}

/* Has a run written its first log line or a checkpoint here? */
static bool is_run(const run_folder *r)
{
    char path[PATH_CAP];
    int64_t *steps;
    int n;
    if (run_folder_file(r, "log.txt", path, NULL) == DDPM_OK && begins(path, "0000-00-00T00:00:00Z device: "))
        return true;
    if (checkpoint_list(r->ckpt, &steps, &n, NULL) != DDPM_OK) return false;
    mem_free(steps);
    return n > 0;
}

/* May this file exist in the folder of a run that has not begun? */
static bool may_be_there(const run_folder *r, const ddpm_config *config, const char *name)
{
    static const struct {
        const char *name, *begins;
    } begun[] = {
        {"log.txt", NULL}, {"metrics.jsonl", NULL}, {"autotune.txt", "ddpm autotune "}, {"plans.txt", "ddpm plans "}};
    char path[PATH_CAP];
    if (!strcmp(name, ".") || !strcmp(name, "..") || !strcmp(name, "lost+found") || file_is_temporary(name))
        return true;
    if (!strcmp(name, FOLDER_LOCK_FILE)) return folder_lock_is_ours(r->path);
    if (run_folder_file(r, name, path, NULL) != DDPM_OK) return false;
    for (size_t i = 0; i < sizeof begun / sizeof *begun; i++)
        if (!strcmp(name, begun[i].name))
            return is_empty_file(path) || (begun[i].begins && begins(path, begun[i].begins));
    if (!strcmp(name, "ckpt") || !strcmp(name, "samples")) return is_empty_folder(path);
    return run_folder_is_input(r, config, name);
}

static ddpm_status check_owner(const run_folder *r, const ddpm_config *config, err *e)
{
    ddpm_status st = DDPM_OK;
    if (is_run(r)) return DDPM_OK;
    DIR *d = opendir(r->path);
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", r->path);
    for (const struct dirent *entry = readdir(d); entry && st == DDPM_OK; entry = readdir(d))
        if (!may_be_there(r, config, entry->d_name))
            st = err_set(e, DDPM_EINVAL,
                         "%s: contains '%.100s', but no run; give a new or empty folder or the folder of a run as out=",
                         r->path, entry->d_name);
    closedir(d);
    return st;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static ddpm_status open_lines(const run_folder *r, const char *name, line_file *f, err *e)
{
    char path[PATH_CAP];
    TRY(run_folder_file(r, name, path, e));
    return line_file_open(f, path, e);
}

static ddpm_status open_all(run_folder *r, const ddpm_config *config, err *e)
{
    TRY(dir_make(r->path, e));
    TRY(check_owner(r, config, e));
    TRY(folder_lock_take(&r->lock, r->path, "training", e));
    dir_sweep_temporaries(r->path);
    TRY(dir_make(r->ckpt, e));
    if (access(r->ckpt, W_OK | X_OK)) return err_errno(e, DDPM_EIO, errno, "%s: cannot be written to", r->ckpt);
    TRY(open_lines(r, "log.txt", &r->log, e));
    return open_lines(r, "metrics.jsonl", &r->metrics, e);
}

ddpm_status run_folder_open(run_folder *r, const ddpm_config *config, err *e)
{
    *r = RUN_FOLDER_NONE;
    if (!config->out[0]) return err_set(e, DDPM_EINVAL, "out: empty; give the folder of the run, e.g. out=runs/first");
    if (strlen(config->out) + strlen(LONGEST) >= PATH_CAP)
        return err_set(e, DDPM_EINVAL, "out: path too long (at most %zu bytes): %.80s...",
                       PATH_CAP - 1 - strlen(LONGEST), config->out);
    TRY(checkpoint_refuse_inside(config->out, "out", e));
    (void)snprintf(r->path, sizeof r->path, "%s", config->out);
    TRY(path_join(r->ckpt, r->path, "ckpt", e));
    const ddpm_status st = open_all(r, config, e);
    if (st != DDPM_OK) run_folder_close(r);
    return st;
}

void run_folder_close(run_folder *r)
{
    line_file_close(&r->metrics);
    line_file_close(&r->log);
    folder_lock_release(&r->lock);
}

/* ---- rewinding ----------------------------------------------------------------------------------- */

/* Create the first ckpt/superseded_NNN that does not exist. */
static ddpm_status make_superseded(run_folder *r, err *e)
{
    if (r->superseded[0]) return DDPM_OK;
    for (int i = 1; i < 1000; i++) {
        char name[16], path[PATH_CAP];
        (void)snprintf(name, sizeof name, "superseded_%03d", i);
        TRY(path_join(path, r->ckpt, name, e));
        if (mkdir(path, 0777) == 0) {
            memcpy(r->superseded, path, sizeof path);
            return DDPM_OK;
        }
        if (errno != EEXIST) return err_errno(e, DDPM_EIO, errno, "%s: cannot create the folder", path);
    }
    return err_set(e, DDPM_EIO, "%s: superseded_001 to superseded_999 exist; remove those that are not needed",
                   r->ckpt);
}

ddpm_status run_folder_supersede(run_folder *r, int64_t step, err *e)
{
    char name[CHECKPOINT_NAME_CAP], from[PATH_CAP], to[PATH_CAP];
    TRY(make_superseded(r, e));
    TRY(path_join(from, r->ckpt, checkpoint_name(name, step), e));
    TRY(path_join(to, r->superseded, name, e));
    if (rename(from, to)) return err_errno(e, DDPM_EIO, errno, "%s: cannot be moved to %s", from, r->superseded);
    return DDPM_OK;
}

static ddpm_status keep_a_copy(run_folder *r, const char *path, err *e)
{
    char copy[PATH_CAP], *text;
    size_t size;
    TRY(make_superseded(r, e));
    TRY(path_join(copy, r->superseded, "metrics.jsonl", e));
    TRY(file_read(path, SIZE_MAX, &text, &size, e));
    const ddpm_status st = file_write(copy, text, size, true, e);
    mem_free(text);
    return st;
}

ddpm_status run_folder_past(run_folder *r, uint64_t step, bool again, run_metrics_past *past, notes *n, err *e)
{
    char path[PATH_CAP];
    TRY(run_folder_file(r, "metrics.jsonl", path, e));
    TRY(run_metrics_read(path, step, past, e));
    if (past->unreadable == 0 && (past->later == 0 || again)) return DDPM_OK;
    TRY(keep_a_copy(r, path, e));
    notes_add(n, "%s: %lld later and %lld unreadable lines removed; the complete file is in %s", path,
              (long long)past->later, (long long)past->unreadable, r->superseded);
    return DDPM_OK;
}

ddpm_status run_folder_rewind(run_folder *r, const run_metrics_past *past, err *e)
{
    char path[PATH_CAP];
    if (past->kept_bytes == past->bytes) return DDPM_OK;
    TRY(run_folder_file(r, "metrics.jsonl", path, e));
    TRY(file_replace(path, past->kept, past->kept_bytes, e));
    line_file_close(&r->metrics);
    return line_file_open(&r->metrics, path, e);
}

/* ---- the log ------------------------------------------------------------------------------------- */

void run_folder_log(run_folder *r, const char *text)
{
    char line[1200], stamp[40];
    const time_t now = time(NULL);
    struct tm parts;
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
    const int n = snprintf(line, sizeof line, "%s %s\n", stamp, text);
    if (n >= (int)sizeof line) line[sizeof line - 2] = '\n';
    (void)line_file_append(&r->log, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}
