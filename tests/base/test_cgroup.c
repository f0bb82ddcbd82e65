/* What control groups leave a process, read from made-up trees of files as the kernel shows them. */
#include "base/cgroup.h"
#include "base/process.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char dir[PATH_CAP];

/* A file of the tree, with the folders it lies in. */
static void put(const char *name, const char *text)
{
    char path[PATH_CAP];
    err e = {0};
    (void)snprintf(path, sizeof path, "%s", in_dir(dir, name));
    *strrchr(path, '/') = '\0';
    cr_assert_eq(dir_make(path, &e), DDPM_OK, "%s", e.text);
    put_file(in_dir(dir, name), text);
}

static void begin(void)
{
    scratch_make(dir);
    put("proc/meminfo", "MemTotal:       24684000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n");
}
static void end(void) { scratch_remove(dir); }

TestSuite(cgroup, .init = begin, .fini = end);

#define V2       "sys/fs/cgroup/"
#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

static const int64_t mib = 1 << 20;

Test(cgroup, without_any_the_machine_alone_counts_faults_C1)
{
    cr_expect_eq(cgroup_memory_left(dir), INT64_MAX);
    cr_expect_eq(cgroup_processors(dir), INT32_MAX);
    cr_expect_eq(cgroup_memory_limit(dir), INT64_MAX);
    cr_expect_eq(machine_memory_left(dir), (int64_t)8000000 * 1024, "MemAvailable, not MemTotal");
    cr_expect_eq(machine_memory_available(dir), (int64_t)8000000 * 1024);
    cr_expect_eq(machine_memory_total(dir), (int64_t)24684000 * 1024);
    put("proc/self/cgroup", "0::/gone\n"); /* no such folder: nothing is limited */
    put("proc/self/mountinfo", "garbage\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT "1 - 2\n - cgroup2\n");
    cr_expect_eq(cgroup_memory_left(dir), INT64_MAX);
    cr_expect_eq(cgroup_processors(dir), INT32_MAX);
}

Test(cgroup, version_2_memory_of_all_groups_around_faults_C1)
{
    put("proc/self/cgroup", "0::/slice/job\n");
    put("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT);
    put(V2 "slice/job/memory.max", "max\n");
    put(V2 "slice/job/memory.current", "104857600\n");
    put(V2 "slice/job/memory.stat", "anon 1\ninactive_file 20971520\nactive_file 5\n");
    cr_expect_eq(cgroup_memory_left(dir), INT64_MAX);

    put(V2 "slice/job/memory.max", "734003200\n"); /* 700 MiB, 100 used, 20 of them can be dropped */
    cr_expect_eq(cgroup_memory_left(dir), 620 * mib);
    cr_expect_eq(machine_memory_left(dir), 620 * mib);
    put(V2 "slice/job/memory.high", "524288000\n"); /* beyond 500 MiB it would crawl */
    cr_expect_eq(cgroup_memory_left(dir), 420 * mib);
    cr_expect_eq(cgroup_memory_limit(dir), 500 * mib, "however much is taken");

    put(V2 "slice/memory.max", "419430400\n"); /* 400 MiB for this group and its neighbours, which use 300 */
    put(V2 "slice/memory.current", "314572800\n");
    cr_expect_eq(cgroup_memory_left(dir), 100 * mib);
    cr_expect_eq(cgroup_memory_limit(dir), 400 * mib);
    put(V2 "slice/memory.current", "500000000\n");
    cr_expect_eq(cgroup_memory_left(dir), 0);
    cr_expect_eq(machine_memory_left(dir), 1, "0 would say that nobody knows");
}

Test(cgroup, version_2_in_a_container_of_its_own_faults_C1_F12)
{
    put("proc/self/cgroup", "0::/\n");
    put("proc/self/mountinfo", V2_MOUNT);
    put(V2 "memory.max", "104857600\n");
    put(V2 "memory.current", "10485760\n");
    put(V2 "cpu.max", "150000 100000\n");
    cr_expect_eq(cgroup_memory_left(dir), 90 * mib);
    cr_expect_eq(cgroup_processors(dir), 2);
    put("proc/self/cgroup", "0::/../../outside\n"); /* moved out of its own namespace */
    cr_expect_eq(cgroup_memory_left(dir), 90 * mib);
}

Test(cgroup, version_1_as_docker_shows_it_faults_C1_F12)
{
    put("proc/self/cgroup", "11:memory:/docker/ab12\n4:cpu,cpuacct:/docker/ab12\n2:cpuset:/docker/ab12\n");
    put("proc/self/mountinfo", "40 30 0:30 /docker/ab12 /sys/fs/cgroup/memory ro master:9 - cgroup cgroup rw,memory\n"
                               "41 30 0:31 /docker/ab12 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
                               "42 30 0:32 /docker/ab12 /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "52428800\n");
    cr_expect_gt(cgroup_memory_left(dir), (int64_t)1 << 60);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "314572800\n");
    put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n");
    cr_expect_eq(cgroup_memory_left(dir), 260 * mib);
    cr_expect_eq(cgroup_memory_limit(dir), 300 * mib);
    put("proc/self/cgroup", "11:memory:/docker/ab12/inner\n4:cpu,cpuacct:/docker/ab12\n");
    put("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "104857600\n");
    put("sys/fs/cgroup/memory/inner/memory.usage_in_bytes", "1048576\n");
    cr_expect_eq(cgroup_memory_left(dir), 99 * mib);
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(cgroup_processors(dir), INT32_MAX);
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n");
    cr_expect_eq(cgroup_processors(dir), 4);
}

Test(cgroup, the_narrowest_quota_counts_rounded_up_faults_F12)
{
    static const struct {
        const char *inner, *outer;
        int processors;
    } quotas[] = {{"max 100000", "max 100000", INT32_MAX}, {"200000 100000", "max 100000", 2},
                  {"250000 100000", "max 100000", 3},      {"800000 100000", "150000 100000", 2},
                  {"10000 100000", "max 100000", 1},       {"100001 100000", "", 2},
                  {"nonsense", "0 0", INT32_MAX}};
    put("proc/self/cgroup", "1:name=systemd:/x\n0::/a b/c\n");
    put("proc/self/mountinfo", "30 23 0:26 / /sys/fs/c\\040group rw - cgroup2 cgroup2 rw\n");
    for (size_t i = 0; i < sizeof quotas / sizeof *quotas; i++) {
        put("sys/fs/c group/a b/c/cpu.max", quotas[i].inner);
        put("sys/fs/c group/a b/cpu.max", quotas[i].outer);
        cr_expect_eq(cgroup_processors(dir), quotas[i].processors, "%s, %s: %d", quotas[i].inner, quotas[i].outer,
                     cgroup_processors(dir));
    }
}

/* The limits of the process itself, beyond what a sanitizer maps. */
Test(cgroup, limits_of_the_process_count_faults_C1)
{
    const rlim_t tib = (rlim_t)1 << 40;
    put("proc/meminfo", "MemAvailable: 1000000000000 kB\n");
    put("proc/self/status", "VmSize:\t  102400 kB\nVmData:\t   51200 kB\n");
    struct rlimit data, space; /* without rights the upper limit can only fall */
    cr_assert_eq(getrlimit(RLIMIT_DATA, &data) | getrlimit(RLIMIT_AS, &space), 0);
    if (data.rlim_max < 100 * tib || space.rlim_max < 90 * tib) cr_skip_test("the limits are lower here");
    cr_assert_eq(setrlimit(RLIMIT_DATA, &(struct rlimit){100 * tib, data.rlim_max}), 0);
    cr_expect_eq(machine_memory_left(dir), (int64_t)(100 * tib) - 50 * mib);
    cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){90 * tib, space.rlim_max}), 0);
    cr_expect_eq(machine_memory_left(dir), (int64_t)(90 * tib) - 100 * mib);
}

Test(cgroup, the_version_of_the_nvidia_driver)
{
    static const struct {
        const char *file, *version;
    } known[] = {
        {"NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
         "GCC version:  gcc version 12.2.0 (Debian)\n",
         "550.54.15"},
        {"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n",
         "580.65.06"},
        {"NVRM version: unknown\n", ""},
        {"something else 1.2\n", ""},
    };
    char text[40] = "x";
    machine_nvidia_driver(dir, text, sizeof text);
    cr_expect_str_eq(text, "", "no such file");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        put("proc/driver/nvidia/version", known[i].file);
        machine_nvidia_driver(dir, text, sizeof text);
        cr_expect_str_eq(text, known[i].version);
    }
}

Test(cgroup, this_machine_says_something)
{
    const int64_t there = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE);
    cr_expect(machine_memory_left("") > 1 && machine_memory_left("") < there);
    cr_expect_geq(cgroup_processors(""), 1);
}
