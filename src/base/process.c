#include "base/process.h"
#include "base/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 1024 };

/* The value of the first line of `path` that begins with `key`, after its colon and blanks. */
static const char *value_of(const char *path, const char *key, char line[LINE])
{
    FILE *f = fopen(path, "r");
    const char *found = NULL;
    while (f && !found && fgets(line, LINE, f)) {
        if (strncmp(line, key, strlen(key)) != 0) continue;
        found = strchr(line, ':');
        if (found) found += 1 + strspn(found + 1, " \t");
    }
    if (f) fclose(f);
    return found;
}

int64_t process_peak_bytes(void)
{
    char line[LINE];
    const char *kib = value_of("/proc/self/status", "VmHWM", line);
    return kib ? 1024 * (int64_t)strtoll(kib, NULL, 10) : 0;
}

/* Field 22 of /proc/self/stat is the process's start time in clock ticks after boot; field 2, the program's
 * name, ends at the last parenthesis. */
double process_age_seconds(void)
{
    char line[LINE] = "";
    struct timespec now;
    FILE *f = fopen("/proc/self/stat", "r");
    const size_t n = f ? fread(line, 1, sizeof line - 1, f) : 0;
    if (f) fclose(f);
    line[n] = '\0';
    const char *at = strrchr(line, ')');
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    if (!at || clock_gettime(CLOCK_BOOTTIME, &now)) return -1;
    const double began = (double)strtoll(at, NULL, 10) / (double)sysconf(_SC_CLK_TCK);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - began;
}

/* The number of a line "KEY: 123 kB" in a system file, in bytes; -1 if there is none. */
static int64_t bytes_in(const char *root, const char *file, const char *key)
{
    char path[LINE], line[LINE];
    (void)snprintf(path, sizeof path, "%s%s", root, file);
    const char *kib = value_of(path, key, line);
    return kib ? 1024 * (int64_t)strtoll(kib, NULL, 10) : -1;
}

/* The rest of a resource limit: the limit minus the usage in the line `key` of /proc/self/status. */
static int64_t left_of_limit(const char *root, int limit, const char *key)
{
    struct rlimit most;
    if (getrlimit((__rlimit_resource_t)limit, &most) || most.rlim_cur >= INT64_MAX) return INT64_MAX;
    const int64_t used = bytes_in(root, "/proc/self/status", key);
    return (int64_t)most.rlim_cur - (used > 0 ? used : 0);
}

int64_t machine_memory_total(const char *root)
{
    const int64_t bytes = bytes_in(root, "/proc/meminfo", "MemTotal:");
    return bytes > 0 ? bytes : 0;
}

int64_t machine_memory_available(const char *root)
{
    const int64_t bytes = bytes_in(root, "/proc/meminfo", "MemAvailable:");
    return bytes > 0 ? bytes : 0;
}

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 ...", or "... UNIX Open Kernel Module for
 * x86_64  580.65.06  Release Build ...": the first word that begins with a digit and contains a dot. */
void machine_nvidia_driver(const char *root, char *text, size_t cap)
{
    char path[LINE], line[LINE], *rest = NULL;
    (void)snprintf(path, sizeof path, "%s/proc/driver/nvidia/version", root);
    text[0] = '\0';
    if (!value_of(path, "NVRM version", line)) return;
    for (char *word = strtok_r(line, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
        if (!strspn(word, "0123456789") || !strchr(word, '.')) continue;
        (void)snprintf(text, cap, "%s", word);
        return;
    }
}

int64_t machine_memory_left(const char *root)
{
    const int64_t available = bytes_in(root, "/proc/meminfo", "MemAvailable:");
    const int64_t all[] = {available >= 0 ? available : (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE),
                           cgroup_memory_left(root), left_of_limit(root, RLIMIT_AS, "VmSize:"),
                           left_of_limit(root, RLIMIT_DATA, "VmData:")};
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] < least) least = all[i];
    return least > 1 ? least : 1;
}

void machine_processor(char *text, size_t cap)
{
    char line[LINE];
    const char *name = value_of("/proc/cpuinfo", "model name", line);
    (void)snprintf(text, cap, "%s", name ? name : "unknown");
    text[strcspn(text, "\n")] = '\0';
}

int64_t machine_cache_bytes(void)
{
    const long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return l3 > 0 ? l3 : l2 > 0 ? l2 : 0;
}
