/* `ddpm doctor` and `ddpm --version`: every line of what they say, and the exit codes. */
#include "backend/backend.h"
#include "base/bytes.h"
#include "base/instruction_set.h"
#include "base/process.h"
#include "base/threads.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char output[1 << 14];

/* The exit code of the program with these arguments, after `setting` of the shell; what it prints, errors too. */
static int run(const char *setting, const char *arguments)
{
    char line[2 * PATH_CAP];
    if (access(DDPM_PROGRAM, X_OK) != 0) cr_skip_test("the program has not been built: " DDPM_PROGRAM);
    (void)snprintf(line, sizeof line, "%s '" DDPM_PROGRAM "' %s 2>&1", setting, arguments);
    FILE *pipe = popen(line, "r");
    cr_assert(pipe);
    output[fread(output, 1, sizeof output - 1, pipe)] = 0;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What stands behind the label, up to the end of the line; "" where there is no such line. */
static const char *said(const char *label)
{
    static char text[2 * PATH_CAP];
    const size_t n = strlen(label);
    text[0] = '\0';
    for (const char *at = output; at && *at; at = strchr(at, '\n'), at += at != NULL) {
        if (strncmp(at, label, n) != 0 || at[n] != ' ') continue;
        at += n + strspn(at + n, " ");
        (void)snprintf(text, sizeof text, "%.*s", (int)strcspn(at, "\n"), at);
        break;
    }
    return text;
}

static void expect_begin(const char *label, const char *begin)
{
    cr_expect(begin[0] && !strncmp(said(label), begin, strlen(begin)), "%s: '%s', not '%s...'", label, said(label),
              begin);
}

static void expect_matches(const char *pattern)
{
    char line[300];
    (void)snprintf(line, sizeof line, "--version | grep -cE '%s'", pattern);
    cr_expect_eq(run("", line), 0, "no line is like %s", pattern);
    cr_expect_str_eq(output, "1\n", "%s", pattern);
}

Test(doctor, version_says_what_was_built)
{
    expect_matches("^ddpm [0-9]+\\.[0-9]+\\.[0-9]+$");
    expect_matches("^commit: ([0-9a-f]{12,}(-dirty)?|unknown)$");
    expect_matches("^build: [A-Za-z]+ by (GCC|Clang) [0-9.]+.* for [A-Z]");
    expect_matches("^cpu: oneDNN [23]\\.[0-9]+\\.[0-9]+, [A-Za-z]");
    expect_matches("^cuda: (CUDA [0-9]+\\.[0-9]+, cuDNN [0-9.]+, cuBLASLt [0-9.]+|not in this build)$");
    char line[80];
    (void)snprintf(line, sizeof line, "^processor: %s$", instruction_set_here());
    expect_matches(line);
}

Test(doctor, says_what_the_machine_gives)
{
    char text[400], total[BYTES_CAP];
    cr_expect_eq(run("", "doctor device=cpu threads=1"), 0, "%s", output);
    expect_begin("version", DDPM_VERSION ", commit ");
    cpu_libraries(text, sizeof text);
    cr_expect_str_eq(said("cpu"), text);
    machine_processor(text, sizeof text);
    expect_begin("processor", text);
    (void)snprintf(text, sizeof text, "%d available", threads_processors());
    expect_begin("processors", text);
    (void)snprintf(text, sizeof text, " available of the machine's %s",
                   bytes_text(total, (size_t)machine_memory_total("")));
    cr_expect(strstr(said("memory"), text), "%s", said("memory"));
    cr_expect_str_eq(said("threads"), "1");
    expect_begin("device", "cpu: 1 thread, oneDNN ");
    cr_expect(said("NVIDIA driver")[0] && said("GPU")[0] && said("cuda")[0] && said("build")[0], "%s", output);
}

Test(doctor, without_a_device_asked_for_there_is_always_one)
{
    cr_expect_eq(run("OMP_THREAD_LIMIT=1", "doctor"), 0, "%s", output);
    expect_begin("device", cuda_usable(&(backend_spec){.device = "auto"}, &(err){0}) ? "cuda:0 " : "cpu: 1 thread, ");
    expect_begin("threads", "1");
}

Test(doctor, a_gpu_that_does_not_answer_is_69_and_says_what_is_missing)
{
    char text[400], error[700];
    int count = 0;
    err why = {0};
    const ddpm_status st = cuda_look(-1, text, sizeof text, &count, &why);
    cr_expect_eq(run("", "doctor device=cuda"), st == DDPM_OK ? 0 : 69, "%s", output);
    if (st == DDPM_OK) {
        cr_expect_str_eq(said("GPU"), text);
        expect_begin("device", "cuda:0 ");
        return;
    }
    if (count == 0) (void)snprintf(error, sizeof error, "none: %s", why.text);
    cr_expect_str_eq(said("GPU"), count ? why.text : error);
    cr_expect_str_eq(said("device"), "", "none was made");
    cr_expect(strstr(output, "ddpm: error: device=cuda: "), "%s", output);
    cr_expect(said("memory")[0] && said("cache")[0], "all else is said before: %s", output);
    cr_expect_eq(run("", "doctor device=cuda:99"), 69, "%s", output);
}

Test(doctor, says_whether_the_cache_can_be_written)
{
    char dir[PATH_CAP], setting[PATH_CAP + 40], text[PATH_CAP + 80];
    scratch_make(dir);
    (void)snprintf(setting, sizeof setting, "XDG_CACHE_HOME='%s'", dir);
    cr_expect_eq(run(setting, "doctor device=cpu threads=1"), 0, "%s", output);
    (void)snprintf(text, sizeof text, "%s/ddpm/autotune.txt is writable", dir);
    cr_expect_str_eq(said("cache"), text);
    cr_expect_not(path_exists(in_dir(dir, "ddpm")), "nothing is made");
    put_file(in_dir(dir, "ddpm"), "a file in the folder's place");
    cr_expect_eq(run(setting, "doctor device=cpu threads=1"), 0, "a run goes on without: %s", output);
    (void)snprintf(text, sizeof text, "%s/ddpm is not a folder: every run repeats autotuning", dir);
    cr_expect(strstr(said("cache"), text), "%s", said("cache"));
    cr_expect_eq(run("env -u HOME -u XDG_CACHE_HOME", "doctor device=cpu threads=1"), 0, "%s", output);
    expect_begin("cache", "none: neither HOME nor XDG_CACHE_HOME is set");
    (void)snprintf(text, sizeof text, "doctor device=cpu threads=1 autotune_cache='%s/x/plans'", dir);
    cr_expect_eq(run("", text), 0, "%s", output);
    (void)snprintf(text, sizeof text, "%s/x/plans is writable", dir);
    cr_expect_str_eq(said("cache"), text);
    scratch_remove(dir);
}

Test(doctor, takes_options_and_no_file)
{
    cr_expect_eq(run("", "doctor configs/quickstart.yaml"), 2);
    cr_expect(strstr(output, "ddpm doctor takes 0 arguments besides key=value"), "%s", output);
    cr_expect_eq(run("", "doctor train.batch=3"), 2);
    cr_expect_eq(run("", "doctor device=cpu precision=bf16"), 2, "%s", output);
    cr_expect_eq(run("", "doctor --help"), 0);
    cr_expect(strstr(output, "\n  ddpm doctor [key=value ...]\n"), "%s", output);
}
