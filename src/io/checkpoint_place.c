#include "io/checkpoint_place.h"
#include "base/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool checkpoint_is_name(const char *name)
{
    static const char prefix[] = "step_";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return false;
    const size_t digits = strspn(name + sizeof prefix - 1, "0123456789");
    const char end = name[sizeof prefix - 1 + digits];
    return digits > 0 && (end == '\0' || end == '/');
}

bool checkpoint_is_superseded(const char *name)
{
    static const char now[] = "superseded_", before[] = "aside_";
    return !strncmp(name, now, sizeof now - 1) || !strncmp(name, before, sizeof before - 1);
}

/* Resolve links in the existing part of `path`. */
static ddpm_status resolve(const char *path, char out[PATH_CAP], err *e)
{
    char head[PATH_CAP], real[PATH_MAX];
    (void)snprintf(head, sizeof head, "%s", path);
    while (!realpath(head[0] ? head : ".", real)) {
        char *slash = strrchr(head, '/');
        if (!head[0] || !strcmp(head, "/")) return path_join(out, head, path, e);
        if (slash == head) slash++; /* keep the root */
        *(slash ? slash : head) = '\0';
    }
    const char *rest = path + strlen(head);
    return path_join(out, real, rest + strspn(rest, "/"), e);
}

/* Does the path up to `end` end in ckpt or superseded_NNN? */
static bool holds_checkpoints(const char *path, const char *end)
{
    static const char ckpt[] = "ckpt";
    const char *slash = memrchr(path, '/', (size_t)(end - path));
    if (!slash) return false;
    const size_t n = (size_t)(end - slash) - 1;
    return (n == sizeof ckpt - 1 && !memcmp(slash + 1, ckpt, n)) || checkpoint_is_superseded(slash + 1);
}

ddpm_status checkpoint_refuse_inside(const char *path, const char *option, err *e)
{
    char real[PATH_CAP];
    TRY(resolve(path, real, e));
    for (const char *at = real; (at = strchr(at, '/')) != NULL; at++)
        if (checkpoint_is_name(at + 1) && holds_checkpoints(real, at))
            return err_set(e, DDPM_EINVAL,
                           "%s: is inside a checkpoint and would be removed with it; give another %s=", path, option);
    return DDPM_OK;
}
