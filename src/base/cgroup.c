#include "base/cgroup.h"
#include "base/arith.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 2 * PATH_CAP };

/* A control group; truncating its path yields its ancestors. */
typedef struct group {
    char path[LINE];
    size_t top; /* bytes of the path that name the outermost group */
    bool unified;
} group;

/* The first line of a file of the group; false if there is none. */
static bool read_line(const group *g, const char *file, char line[LINE])
{
    char path[LINE + 64];
    (void)snprintf(path, sizeof path, "%s/%s", g->path, file);
    FILE *f = fopen(path, "re");
    const bool there = f && fgets(line, LINE, f);
    if (f) fclose(f);
    return there;
}

/* The number in a file, or -1 if there is none ("max", no file). */
static int64_t read_number(const group *g, const char *file)
{
    char line[LINE], *end;
    if (!read_line(g, file, line)) return -1;
    const long long n = strtoll(line, &end, 10);
    return end == line ? -1 : (int64_t)n;
}

/* The number after `key` in memory.stat; 0 if there is none. */
static int64_t read_stat(const group *g, const char *key)
{
    char path[LINE + 64], line[LINE];
    int64_t n = 0;
    (void)snprintf(path, sizeof path, "%s/memory.stat", g->path);
    FILE *f = fopen(path, "re");
    const size_t size = strlen(key);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, key, size) && line[size] == ' ') n = strtoll(line + size, NULL, 10);
    if (f) fclose(f);
    return n;
}

static int64_t memory_limit(const group *g)
{
    static const char *const limits[] = {"memory.limit_in_bytes", "memory.max", "memory.high"};
    int64_t limit = INT64_MAX;
    for (int i = g->unified ? 1 : 0; i < (g->unified ? 3 : 1); i++) {
        const int64_t n = read_number(g, limits[i]);
        if (n >= 0) limit = min_i64(limit, n);
    }
    return limit;
}

static int64_t memory_left(const group *g)
{
    const int64_t limit = memory_limit(g);
    const int64_t used = read_number(g, g->unified ? "memory.current" : "memory.usage_in_bytes");
    if (limit == INT64_MAX || used < 0) return INT64_MAX;
    const int64_t held = used - read_stat(g, g->unified ? "inactive_file" : "total_inactive_file");
    return limit > held ? limit - (held > 0 ? held : 0) : 0;
}

static int64_t processors(const group *g)
{
    char line[LINE];
    long long quota = -1, period = -1;
    if (!g->unified) {
        quota = read_number(g, "cpu.cfs_quota_us");
        period = read_number(g, "cpu.cfs_period_us");
    } else if (read_line(g, "cpu.max", line)) {
        (void)sscanf(line, "%lld %lld", &quota, &period); /* "max 100000": no number, no quota */
    }
    return quota > 0 && period > 0 ? ceil_div(quota, period) : INT32_MAX;
}

/* Is `word` in the comma-separated list? */
static bool is_listed(const char *list, const char *word)
{
    const size_t n = strlen(word);
    for (;; list++) {
        if (!strncmp(list, word, n) && (list[n] == ',' || list[n] == '\0')) return true;
        list = strchr(list, ',');
        if (!list) return false;
    }
}

/* Mount points are written with octal escapes: a blank is \040. */
static void decode(char *path)
{
    char *to = path;
    for (const char *from = path; *from; to++) {
        if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + from[3] - '0');
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* The process's group in the hierarchy of `controller`, from /proc/self/cgroup: "4:cpu,cpuacct:/docker/ab", "0::/x". */
static bool own_group(const char *root, bool unified, const char *controller, char out[LINE])
{
    char path[PATH_CAP + 64], line[LINE];
    bool found = false;
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *list = strchr(line, ':'), *name = list ? strchr(list + 1, ':') : NULL;
        if (!name) continue;
        *name++ = '\0';
        name[strcspn(name, "\n")] = '\0';
        found = unified ? !strncmp(line, "0:", 2) && !list[1] : is_listed(list + 1, controller);
        if (found) (void)snprintf(out, LINE, "%s", name);
    }
    if (f) fclose(f);
    return found;
}

/* A line of /proc/self/mountinfo: "id parent device ROOT POINT options [more] - TYPE source SUPER".  ROOT is the group
 * that is mounted at POINT: in a container its own group, whose ancestors are not visible. */
static bool read_mount(const char *root, const char *controller, char *line, group *g)
{
    char *field[5], *rest = NULL, *behind = strstr(line, " - "), own[LINE];
    if (!behind) return false;
    *behind = '\0';
    for (int i = 0; i < 5; i++)
        if (!(field[i] = strtok_r(i ? NULL : line, " ", &rest))) return false;
    char *type = strtok_r(behind + 3, " \n", &rest), *super = strtok_r(NULL, " \n", &rest);
    super = strtok_r(NULL, " \n", &rest);
    if (!type || !super) return false;
    g->unified = !strcmp(type, "cgroup2");
    if (!g->unified && (strcmp(type, "cgroup") != 0 || !is_listed(super, controller))) return false;
    if (!own_group(root, g->unified, controller, own)) return false;
    decode(field[3]), decode(field[4]);
    const size_t n = strcmp(field[3], "/") ? strlen(field[3]) : 0;
    const bool inside = !strncmp(own, field[3], n) && (own[n] == '/' || own[n] == '\0') && !strstr(own, "/..");
    g->top = strlen(root) + strlen(field[4]);
    const int size = snprintf(g->path, sizeof g->path, "%s%s%s", root, field[4], inside ? own + n : "");
    return size > 0 && size < (int)sizeof g->path;
}

/* The minimum of say() over the process's group and its ancestors. */
static int64_t least(const char *root, const char *controller, int64_t (*say)(const group *g), int64_t none)
{
    char path[PATH_CAP + 64], line[LINE];
    group g;
    (void)snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (!read_mount(root, controller, line, &g)) continue;
        for (;;) {
            none = min_i64(none, say(&g));
            if (strlen(g.path) <= g.top) break;
            char *slash = strrchr(g.path, '/');
            g.path[slash - g.path > (ptrdiff_t)g.top ? (size_t)(slash - g.path) : g.top] = '\0';
        }
    }
    if (f) fclose(f);
    return none;
}

int64_t cgroup_memory_left(const char *root) { return least(root, "memory", memory_left, INT64_MAX); }
int64_t cgroup_memory_limit(const char *root) { return least(root, "memory", memory_limit, INT64_MAX); }
int cgroup_processors(const char *root) { return (int)least(root, "cpu", processors, INT32_MAX); }
