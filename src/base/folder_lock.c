#include "base/folder_lock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { HOLDER_CAP = FOLDER_LOCK_HOLDER };
static const char HOLDER[] = "process %ld on %s";

/* The holder named in LOCK, "" if none is named. */
static void read_holder(int file, char holder[HOLDER_CAP])
{
    const ssize_t n = pread(file, holder, HOLDER_CAP - 1, 0);
    holder[n > 0 ? n : 0] = '\0';
    holder[strcspn(holder, "\n")] = '\0';
}

static void host_name(char host[64])
{
    memset(host, 0, 64);
    if (gethostname(host, 63)) (void)snprintf(host, 64, "?");
}

/* Is the holder another live process of this machine? */
static bool is_alive(const char *holder)
{
    char host[64], there[64];
    long process;
    host_name(host);
    if (sscanf(holder, "process %ld on %63s", &process, there) != 2 || strcmp(host, there)) return false;
    return process > 0 && process != (long)getpid() && (!kill((pid_t)process, 0) || errno == EPERM);
}

/* This process's name, without a newline. */
static int own_name(char name[HOLDER_CAP])
{
    char host[64];
    host_name(host);
    return snprintf(name, HOLDER_CAP, HOLDER, (long)getpid(), host);
}

/* Write this process's name, for the message of a second process; failures are harmless. */
static void write_holder(int file)
{
    char holder[HOLDER_CAP];
    const int n = own_name(holder);
    holder[n] = '\n';
    if (ftruncate(file, 0) || pwrite(file, holder, (size_t)n + 1, 0) != n + 1) return;
}

/* Remove this process's name, unless another one that shares the folder is named now. */
static void remove_holder(int file)
{
    char holder[HOLDER_CAP], own[HOLDER_CAP];
    read_holder(file, holder);
    (void)own_name(own);
    if (!strcmp(holder, own) && ftruncate(file, 0)) return;
}

static ddpm_status open_file(int *file, const char *folder, err *e)
{
    char path[PATH_CAP];
    struct stat info;
    TRY(path_join(path, folder, FOLDER_LOCK_FILE, e));
    *file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666); /* never blocks on a FIFO */
    if (*file < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open", path);
    if (fstat(*file, &info) || !S_ISREG(info.st_mode)) return err_set(e, DDPM_EIO, "%s: not a regular file", path);
    return DDPM_OK;
}

static ddpm_status refuse(const char *folder, const char *what, const char *holder, err *e)
{
    return err_set(e, DDPM_ELOCKED,
                   "%s: another %s is writing to this folder (%s); wait for it to end, or give another out=", folder,
                   what, holder[0] ? holder : "unknown");
}

static ddpm_status open_both(folder_lock *l, const char *folder, err *e)
{
    l->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l->folder < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", folder);
    return open_file(&l->file, folder, e);
}

static ddpm_status take(folder_lock *l, const char *folder, const char *what, err *e)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char holder[HOLDER_CAP];
    TRY(open_both(l, folder, e));
    const int by_folder = flock(l->folder, LOCK_EX | LOCK_NB) ? errno : 0;
    bool taken = by_folder == EWOULDBLOCK; /* then LOCK is not touched: it belongs to the first process */
    const int by_file = !taken && fcntl(l->file, F_OFD_SETLK, &all) ? errno : 0;
    read_holder(l->file, holder);
    taken |= by_file == EAGAIN || by_file == EACCES || (by_folder && by_file && is_alive(holder));
    if (taken) return refuse(folder, what, holder, e);
    l->alone = true;
    folder_lock_name(l);
    return DDPM_OK;
}

/* ---- parts ---- */

/* errno of the lock, 0: it is held. */
static int lock_bytes(int file, short type, int64_t first, int64_t count)
{
    struct flock part = {.l_type = type, .l_whence = SEEK_SET, .l_start = first, .l_len = count};
    return fcntl(file, F_OFD_SETLK, &part) ? errno : 0;
}

static bool is_held(int error) { return error == EAGAIN || error == EACCES; }

/* Open LOCK, and create it only while no other process is in the folder: a LOCK that was removed must not let in a
 * second writer, whose locks would be those of another file.  errno of the lock on the folder, 0: LOCK is open. */
static ddpm_status open_shared(folder_lock *l, const char *folder, int *by_folder, err *e)
{
    char path[PATH_CAP];
    *by_folder = 0;
    TRY(path_join(path, folder, FOLDER_LOCK_FILE, e));
    if (!path_exists(path) && flock(l->folder, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        *by_folder = errno;
        return DDPM_OK;
    }
    return open_file(&l->file, folder, e);
}

/* A byte behind all parts tells whether another process holds the whole folder, and whether bytes can be locked.
 * *by_file and *by_folder: errno of the two locks. */
static ddpm_status try_join(folder_lock *l, const char *folder, int *by_file, int *by_folder, err *e)
{
    *by_file = *by_folder = 0;
    if (l->file < 0) TRY(open_shared(l, folder, by_folder, e));
    if (*by_folder) return DDPM_OK;
    *by_file = lock_bytes(l->file, F_RDLCK, FOLDER_LOCK_PARTS, 1);
    l->alone = *by_file && !is_held(*by_file);
    *by_folder = flock(l->folder, (l->alone ? LOCK_EX : LOCK_SH) | LOCK_NB) ? errno : 0;
    return DDPM_OK;
}

/* Who creates LOCK has the folder for a moment, so a folder that is in use is tried again for a second. */
static ddpm_status join(folder_lock *l, const char *folder, const char *what, err *e)
{
    enum { TRIES = 200 };
    static const struct timespec pause = {0, 5000000};
    char holder[HOLDER_CAP] = "";
    int by_file, by_folder;
    l->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (l->folder < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", folder);
    TRY(try_join(l, folder, &by_file, &by_folder, e));
    for (int i = 0; i < TRIES && by_folder == EWOULDBLOCK && !is_held(by_file) && !l->alone; i++) {
        (void)nanosleep(&pause, NULL);
        TRY(try_join(l, folder, &by_file, &by_folder, e));
    }
    if (l->file >= 0) read_holder(l->file, holder);
    if (is_held(by_file) || by_folder == EWOULDBLOCK || (l->alone && by_folder && is_alive(holder)))
        return refuse(folder, what, holder, e);
    if (l->alone) folder_lock_name(l); /* where flock() fails, too, the name alone excludes others */
    return DDPM_OK;
}

ddpm_status folder_lock_part(const folder_lock *l, int64_t first, int64_t count, bool shared, err *e)
{
    const int error = l->alone ? 0 : lock_bytes(l->file, shared ? F_RDLCK : F_WRLCK, first, count);
    if (!error) return DDPM_OK;
    return is_held(error) ? DDPM_ELOCKED : err_errno(e, DDPM_EIO, error, FOLDER_LOCK_FILE ": cannot lock a part of it");
}

void folder_lock_leave(const folder_lock *l, int64_t first, int64_t count)
{
    if (!l->alone) (void)lock_bytes(l->file, F_UNLCK, first, count);
}

bool folder_lock_is_held(const folder_lock *l, int64_t first, int64_t count)
{
    struct flock part = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = count};
    return !l->alone && !fcntl(l->file, F_OFD_GETLK, &part) && part.l_type != F_UNLCK;
}

void folder_lock_holder(const folder_lock *l, char holder[FOLDER_LOCK_HOLDER]) { read_holder(l->file, holder); }

void folder_lock_name(folder_lock *l)
{
    write_holder(l->file);
    l->named = true;
}

bool folder_lock_is_ours(const char *folder)
{
    char path[PATH_CAP], holder[HOLDER_CAP] = "";
    if (path_join(path, folder, FOLDER_LOCK_FILE, NULL) != DDPM_OK || !path_exists(path)) return true;
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) return true; /* folder_lock_take() will report the error */
    read_holder(file, holder);
    close(file);
    return !holder[0] || !strncmp(holder, HOLDER, strcspn(HOLDER, "%"));
}

typedef ddpm_status taker(folder_lock *l, const char *folder, const char *what, err *e);

static ddpm_status take_or_close(taker *take_it, folder_lock *l, const char *folder, const char *what, err *e)
{
    *l = FOLDER_LOCK_NONE;
    const ddpm_status st = take_it(l, folder, what, e);
    if (st == DDPM_OK) return st;
    if (l->file >= 0) close(l->file); /* without changing the holder's name in LOCK */
    if (l->folder >= 0) close(l->folder);
    *l = FOLDER_LOCK_NONE;
    return st;
}

ddpm_status folder_lock_take(folder_lock *l, const char *folder, const char *what, err *e)
{
    return take_or_close(take, l, folder, what, e);
}

ddpm_status folder_lock_join(folder_lock *l, const char *folder, const char *what, err *e)
{
    return take_or_close(join, l, folder, what, e);
}

void folder_lock_release(folder_lock *l)
{
    if (l->file >= 0) {
        if (l->named) remove_holder(l->file);
        close(l->file);
    }
    if (l->folder >= 0) close(l->folder);
    *l = FOLDER_LOCK_NONE;
}
