#include "cli/tuning_lock.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int tuning_lock_take(const char *cache)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_CAP], folder[PATH_CAP];
    if (!cache || !cache[0] || snprintf(path, sizeof path, "%s.LOCK", cache) >= (int)sizeof path) return -1;
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = '\0';
        if (dir_make(folder, NULL) != DDPM_OK) return -1;
    }
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (file < 0 || !fcntl(file, F_OFD_SETLKW, &all)) return file;
    close(file);
    return -1;
}

void tuning_lock_release(int lock)
{
    if (lock >= 0) close(lock); /* and with it the lock */
}
