#include "io/checkpoint_dir.h"
#include "base/mem.h"
#include "io/atomic_dir.h"
#include "io/json_in.h"
#include "io/json_out.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static const char SEAL[] = "training/integrity.json";
enum { HASH_CAP = 33, CHUNK = 1 << 20 };

/* ---- listing ---- */

const char *checkpoint_name(char out[CHECKPOINT_NAME_CAP], int64_t step)
{
    (void)snprintf(out, CHECKPOINT_NAME_CAP, "step_%08lld", (long long)step);
    return out;
}

/* Accepts exactly the names that checkpoint_name() makes. */
static bool step_of(const char *name, int64_t *step)
{
    char again[CHECKPOINT_NAME_CAP];
    if (strncmp(name, "step_", 5) || strlen(name) > 23) return false;
    *step = strtoll(name + 5, NULL, 10);
    return *step >= 0 && !strcmp(checkpoint_name(again, *step), name);
}

static int newest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

ddpm_status checkpoint_list(const char *ckpt, int64_t **steps, int *n, err *e)
{
    int capacity = 0;
    ddpm_status st = DDPM_OK;
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(ckpt);
    if (!d && errno == ENOENT) return DDPM_OK;
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", ckpt);
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        char path[PATH_CAP];
        int64_t step;
        if (!step_of(entry->d_name, &step)) continue;
        TRY_GOTO(path_join(path, ckpt, entry->d_name, e));
        if (!path_is_dir(path)) continue;
        TRY_GOTO(mem_grow(steps, &capacity, *n + 1, sizeof **steps, "list of checkpoints", e));
        (*steps)[(*n)++] = step;
    }
    if (*n > 0) qsort(*steps, (size_t)*n, sizeof **steps, newest_first);
done:
    closedir(d);
    if (st != DDPM_OK) {
        free(*steps);
        *steps = NULL;
        *n = 0;
    }
    return st;
}

/* ---- hashing ---- */

/* Does errno mean that a file is lost or damaged, rather than that this process could not access it? */
static bool is_loss(int errnum)
{
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == EISDIR || errnum == EIO ||
           errnum == ENXIO;
}

static ddpm_status hash_fd(int fd, const char *path, XXH3_state_t *state, char *chunk, int64_t *bytes, err *e)
{
    *bytes = 0;
    for (;;) {
        const ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, is_loss(errno) ? DDPM_EDATA : DDPM_EIO, errno, "%s: cannot read", path);
        if (n == 0) return DDPM_OK;
        if (XXH3_128bits_update(state, chunk, (size_t)n) != XXH_OK)
            return err_set(e, DDPM_EBACKEND, "%s: the checksum could not be computed", path);
        *bytes += n;
    }
}

/* Size and XXH3-128 (canonical, as xxh128sum prints it) of a regular file. */
static ddpm_status hash_file(const char *path, char hex[HASH_CAP], int64_t *bytes, err *e)
{
    char *chunk = NULL;
    struct stat info;
    XXH128_canonical_t digest;
    ddpm_status st = DDPM_OK;
    XXH3_state_t *state = XXH3_createState();
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) TRY_GOTO(err_errno(e, is_loss(errno) ? DDPM_EDATA : DDPM_EIO, errno, "%s: cannot open", path));
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) TRY_GOTO(err_set(e, DDPM_EDATA, "%s: not a regular file", path));
    if (!state || XXH3_128bits_reset(state) != XXH_OK) TRY_GOTO(err_set(e, DDPM_ENOMEM, "%s: out of memory", path));
    TRY_GOTO(mem_array(&chunk, CHUNK, 1, path, e));
    TRY_GOTO(hash_fd(fd, path, state, chunk, bytes, e));
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state));
    for (int i = 0; i < 16; i++) (void)snprintf(hex + 2 * i, 3, "%02x", digest.digest[i]);
done:
    if (fd >= 0) close(fd);
    mem_free(chunk);
    XXH3_freeState(state);
    return st;
}

/* ---- the seal ---- */

/* Is the name allowed in a seal?  It must not lead out of the folder, nor need escapes in JSON. */
static bool plain_name(const char *name)
{
    if (!name[0] || name[0] == '/') return false;
    for (const char *c = name; *c; c++)
        if (*c <= ' ' || *c > '~' || *c == '"' || *c == '\\') return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        const size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.')) return false;
    }
    return true;
}

static int is_not_dot(const struct dirent *entry) { return strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."); }

static bool is_folder(const char *path) /* not a link to one */
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Called for each file of a folder; `path` is dir/name; a failure ends the walk. */
typedef ddpm_status visit(void *data, const char *path, const char *name, err *e);

/* Visit all files below dir/below ("" for dir itself) except the seal, sorted within each folder. */
static ddpm_status walk_tree(const char *dir, const char *below, visit *each, void *data, err *e)
{
    struct dirent **entries = NULL;
    char here[PATH_CAP];
    ddpm_status st = DDPM_OK;
    TRY(path_join(here, dir, below, e));
    const int n = scandir(here, &entries, is_not_dot, alphasort);
    if (n < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot list the folder", here);
    for (int i = 0; i < n; i++) {
        char name[PATH_CAP], path[PATH_CAP];
        if (below[0])
            TRY_GOTO(path_join(name, below, entries[i]->d_name, e));
        else
            (void)snprintf(name, sizeof name, "%s", entries[i]->d_name);
        TRY_GOTO(path_join(path, dir, name, e));
        if (!strcmp(name, SEAL)) continue;
        TRY_GOTO(is_folder(path) ? walk_tree(dir, name, each, data, e) : each(data, path, name, e));
    }
done:
    for (int i = 0; i < n; i++) free(entries[i]);
    free(entries);
    return st;
}

static ddpm_status seal_file(void *json, const char *path, const char *name, err *e)
{
    char hex[HASH_CAP];
    int64_t bytes;
    json_out *j = json;
    if (!plain_name(name))
        return err_set(e, DDPM_EINVAL, "%s: a checkpoint must not contain a file of this name", path);
    TRY(hash_file(path, hex, &bytes, e));
    json_out_open(j, name, '{');
    json_out_int(j, "bytes", bytes);
    json_out_text(j, "xxh3_128", hex);
    json_out_close(j, '}');
    return DDPM_OK;
}

ddpm_status checkpoint_seal(const char *dir, err *e)
{
    char path[PATH_CAP], *text = NULL;
    size_t size;
    TRY(path_join(path, dir, "training", e));
    TRY(dir_make(path, e));
    TRY(path_join(path, dir, SEAL, e));
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_open(&j, "files", '{');
    const ddpm_status st = walk_tree(dir, "", seal_file, &j, e);
    if (st == DDPM_OK) {
        json_out_close(&j, '}');
        json_out_int(&j, "format", 1);
        json_out_close(&j, '}');
        return json_out_finish_file(&j, path);
    }
    const ddpm_status dropped = json_out_finish(&j, &text, &size);
    (void)dropped; /* st is the first failure */
    free(text);
    return st;
}

static ddpm_status verify_file(const char *dir, const char *name, const json_t *info, err *e)
{
    char path[PATH_CAP], hex[HASH_CAP];
    int64_t bytes;
    const char *hash = json_string_value(json_object_get(info, "xxh3_128"));
    const json_t *size = json_object_get(info, "bytes");
    if (!plain_name(name) || !hash || !json_is_integer(size))
        return err_set(e, DDPM_EDATA, "%s/%s: damaged entry '%.80s'", dir, SEAL, name);
    TRY(path_join(path, dir, name, e));
    TRY(hash_file(path, hex, &bytes, e));
    if (bytes != json_integer_value(size))
        return err_set(e, DDPM_EDATA, "%s: damaged: the file has %lld bytes, but %lld were saved", path,
                       (long long)bytes, (long long)json_integer_value(size));
    if (strcmp(hex, hash))
        return err_set(e, DDPM_EDATA, "%s: damaged: its contents have changed since it was saved", path);
    return DDPM_OK;
}

ddpm_status checkpoint_verify(const char *dir, err *e)
{
    char path[PATH_CAP], hex[HASH_CAP];
    const char *name;
    json_t *info;
    struct stat info_of_seal;
    int64_t bytes;
    if (!path_is_dir(dir)) return err_set(e, DDPM_ENOINPUT, "%s: not a folder", dir);
    TRY(path_join(path, dir, SEAL, e));
    if (lstat(path, &info_of_seal) && errno == ENOENT)
        return err_set(e, DDPM_EDATA, "%s: not a complete checkpoint: no %s", dir, SEAL);
    TRY(hash_file(path, hex, &bytes, e)); /* distinguishes lost files from inaccessible ones */
    json_in j = json_in_file(path, e);
    const json_t *files = json_in_get(&j, "files");
    const int format = json_in_int(&j, "format", 0, 1, 1);
    if (!json_is_object(files) || json_object_size(files) == 0 || format != 1)
        json_in_fail(&j, "damaged, or written by a later version");
    ddpm_status st = j.st;
    json_object_foreach((json_t *)(uintptr_t)files, name, info)
    {
        if (st == DDPM_OK) st = verify_file(dir, name, info, e);
    }
    const ddpm_status closed = json_in_close(&j, NULL);
    return st != DDPM_OK ? st : closed;
}

/* ---- choosing and removing ---- */

/* Verify the checkpoints, newest first, until one is undamaged.  *gone: one was removed meanwhile.  A checkpoint that
 * cannot be read (too many open files, no permission) does not count as damaged: that is an error. */
static ddpm_status search(const char *ckpt, char *out, notes *n, bool *gone, err *e)
{
    char name[CHECKPOINT_NAME_CAP];
    int64_t *steps;
    int count;
    ddpm_status st = DDPM_EDATA;
    err why = {DDPM_OK, ""};
    *gone = false;
    TRY(checkpoint_list(ckpt, &steps, &count, e));
    for (int i = 0; i < count && st == DDPM_EDATA && !*gone; i++) {
        st = path_join(out, ckpt, checkpoint_name(name, steps[i]), &why);
        if (st == DDPM_OK) st = checkpoint_verify(out, &why);
        *gone = st != DDPM_OK && !path_exists(out);
        if (st == DDPM_EDATA && !*gone) notes_add(n, "skipped %s: %s", name, why.text);
    }
    if (st == DDPM_OK && why.status != DDPM_OK) notes_add(n, "fell back to %s", name);
    mem_free(steps);
    if (st == DDPM_OK) return DDPM_OK;
    if (st != DDPM_EDATA) return err_set(e, st, "%s", why.text);
    if (count == 0) return err_set(e, DDPM_ENOINPUT, "%s: no checkpoints (step_XXXXXXXX) in this folder", ckpt);
    return err_set(e, DDPM_EDATA, "%s: all %d checkpoints are damaged; the last error: %s", ckpt, count, why.text);
}

ddpm_status checkpoint_newest_good(const char *ckpt, char *out, notes *n, err *e)
{
    enum { ATTEMPTS = 100 }; /* each restart means that a newer checkpoint was saved meanwhile */
    ddpm_status st = DDPM_OK;
    bool gone = true;
    for (int i = 0; i < ATTEMPTS && gone; i++) {
        notes found = {.text = ""};
        st = search(ckpt, out, &found, &gone, e);
        if (!gone && found.text[0]) notes_add(n, "%s", found.text);
    }
    return st;
}

static ddpm_status refuse_unlisted(void *files, const char *path, const char *name, err *e)
{
    if (json_object_get(files, name)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL, "%s: was not written by this program", path);
}

/* DDPM_EINVAL names a file in `dir` that its seal does not list.  Without a readable seal the check passes. */
static ddpm_status refuse_strangers(const char *dir, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, dir, SEAL, e));
    json_in j = json_in_file(path, NULL);
    json_t *files = (json_t *)(uintptr_t)json_in_get(&j, "files");
    const ddpm_status st = json_is_object(files) ? walk_tree(dir, "", refuse_unlisted, files, e) : DDPM_OK;
    return json_in_close(&j, NULL) == DDPM_OK ? st : DDPM_OK;
}

static checkpoint_entry *known_find(checkpoint_known *k, int64_t step, err *e)
{
    for (int i = 0; i < k->n; i++)
        if (k->entry[i].step == step) return &k->entry[i];
    if (mem_grow(&k->entry, &k->capacity, k->n + 1, sizeof *k->entry, "list of checkpoints", e) != DDPM_OK) return NULL;
    k->entry[k->n] = (checkpoint_entry){.step = step};
    return &k->entry[k->n++];
}

ddpm_status checkpoint_known_add(checkpoint_known *k, int64_t step, err *e)
{
    checkpoint_entry *c = known_find(k, step, e);
    if (!c) return e ? e->status : DDPM_ENOMEM;
    c->whole = true;
    return DDPM_OK;
}

void checkpoint_known_free(checkpoint_known *k)
{
    free(k->entry);
    *k = (checkpoint_known){.n = 0};
}

static ddpm_status prune_one(const char *ckpt, const char *name, const char *path, err *e)
{
    TRY(refuse_strangers(path, e));
    return atomic_dir_delete(ckpt, name, e);
}

ddpm_status checkpoint_prune(const char *ckpt, int64_t newest, int keep, checkpoint_known *known, notes *left, err *e)
{
    int64_t *steps;
    int n, whole = 0;
    ddpm_status st = DDPM_OK;
    if (keep < 1) return err_set(e, DDPM_EINVAL, "%s: at least 1 checkpoint must be kept, not %d", ckpt, keep);
    TRY(checkpoint_list(ckpt, &steps, &n, e));
    for (int i = 0; i < n; i++) {
        char name[CHECKPOINT_NAME_CAP], path[PATH_CAP];
        err why = {0};
        if (steps[i] > newest) continue;
        checkpoint_entry *c = known_find(known, steps[i], e);
        if (!c) TRY_GOTO(DDPM_ENOMEM);
        TRY_GOTO(path_join(path, ckpt, checkpoint_name(name, steps[i]), e));
        if (whole < keep) {
            c->whole = c->whole || checkpoint_verify(path, NULL) == DDPM_OK;
            whole += c->whole;
        } else if (prune_one(ckpt, name, path, &why) != DDPM_OK && !c->noted) {
            notes_add(left, "%s", why.text);
            c->noted = true;
        }
    }
done:
    mem_free(steps);
    return st;
}
