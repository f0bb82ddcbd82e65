/* cmd_doctor.c - ddpm doctor: build options, resources of this machine, and requirements of a GPU. */
#include "cli/cli.h"
#include "cli/about.h"

#include "base/bytes.h"
#include "base/cgroup.h"
#include "base/instruction_set.h"
#include "base/process.h"
#include "base/threads.h"
#include "train/recipe.h"
#include "train/self_test.h"

#include <stdarg.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void say(const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%-14s ", what);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

static void say_program(const ddpm_config *c)
{
    char build[200], libraries[400], *rest = NULL;
    about_build(build, sizeof build);
    say("version", "%s, commit %s", DDPM_VERSION, about_commit());
    say("build", "%s", build);
    backend_libraries(c->cuda.libraries, libraries, sizeof libraries);
    for (char *line = strtok_r(libraries, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *colon = strchr(line, ':');
        *colon = '\0';
        say(line, "%s", colon + 1 + strspn(colon + 1, " "));
    }
}

static void say_processor(void)
{
    char name[200];
    const char *compiled = instruction_set_compiled(), *here = instruction_set_here();
    const int all = threads_affinity(), quota = cgroup_processors("");
    machine_processor(name, sizeof name);
    say("processor", "%s, with %s", name, here);
    if (strcmp(compiled, here) != 0)
        say("", "the program was compiled for %s; a build on this machine with -DNATIVE=ON would use %s", compiled,
            here);
    if (quota < all)
        say("processors", "%d available: the process may run on %d, and a control group's quota allows %d",
            threads_processors(), all, quota);
    else
        say("processors", "%d available, not limited by a control group", all);
}

static void say_memory(void)
{
    char there[BYTES_CAP], total[BYTES_CAP], limit[BYTES_CAP], left[BYTES_CAP];
    const int64_t most = cgroup_memory_limit(""), all = machine_memory_total("");
    say("memory", "%s available of the machine's %s", bytes_text(there, (size_t)machine_memory_available("")),
        bytes_text(total, (size_t)all));
    if (most < all) /* without a limit the kernel reports a number larger than the machine's memory */
        say("", "a control group allows %s, of which %s are left", bytes_text(limit, (size_t)most),
            bytes_text(left, (size_t)cgroup_memory_left("")));
    else
        say("", "not limited by a control group");
    say("", "a run can use %s", bytes_text(left, (size_t)machine_memory_left("")));
}

static void say_gpus(void)
{
    char driver[40], text[200];
    err why = {0};
    int count = 0;
    machine_nvidia_driver("", driver, sizeof driver);
    if (driver[0])
        say("NVIDIA driver", "%s", driver);
    else
        say("NVIDIA driver", "not loaded (no /proc/driver/nvidia/version)");
    const ddpm_status st = cuda_look(-1, text, sizeof text, &count, &why);
    if (count == 0) say("GPU", "none: %s", why.text);
    if (count == 0 && driver[0] && cuda_is_built())
        say("", "the kernel has the driver: if this is a container, start it with its GPUs (docker run --gpus all)");
    for (int i = 0; i < count; i++) {
        const bool good = (i ? cuda_look(i, text, sizeof text, &count, &why) : st) == DDPM_OK;
        say(i ? "" : "GPU", "%s", good ? text : why.text);
    }
}

/* Report the location of the autotune cache. */
static ddpm_status say_cache(const ddpm_config *c, err *e)
{
    char folder[PATH_CAP];
    autotune_files files;
    backend_spec spec;
    err why = {0};
    TRY(recipe_backend(c, NULL, &files, &spec, e));
    (void)snprintf(folder, sizeof folder, "%s", spec.autotune_cache);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    if (!spec.autotune_cache[0])
        say("cache", "none: neither HOME nor XDG_CACHE_HOME is set; set autotune_cache=FILE");
    else if (dir_writable(slash ? folder : ".", &why) == DDPM_OK)
        say("cache", "%s is writable", spec.autotune_cache);
    else
        say("cache", "%s: every run repeats autotuning; set autotune_cache=FILE", why.text);
    return DDPM_OK;
}

/* Upload some bytes to the device, download and compare them. */
static ddpm_status check_memory(backend *be, err *e)
{
    const char sent[] = "ddpm doctor";
    char back[sizeof sent] = "";
    void *memory = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(be->fn->alloc(be, sizeof sent, &memory, e));
    TRY_GOTO(be->fn->upload(be, memory, sent, sizeof sent, e));
    TRY_GOTO(be->fn->download(be, back, memory, sizeof back, e));
    if (memcmp(sent, back, sizeof sent) != 0)
        TRY_GOTO(err_set(e, DDPM_EBACKEND, "%s: data read back from device memory differ from the data written",
                         be->fn->name));
done:
    be->fn->release(be, memory);
    return st;
}

/* Compare a GPU with the CPU in each precision. */
static ddpm_status test_device(backend_spec spec, err *e)
{
    static const precision_kind precisions[] = {PRECISION_FP32, PRECISION_TF32, PRECISION_BF16};
    static const char *const names[] = {"fp32", "tf32", "bf16"};
    err why = {0};
    spec = self_test_spec(&spec);
    for (int i = 0; i < 3; i++) {
        backend *be = NULL;
        spec.precision = precisions[i];
        TRY(backend_create(&spec, &be, e));
        const ddpm_status st = self_test(be, precisions[i], &why);
        backend_destroy(be);
        if (st == DDPM_ENOMEM) return err_set(e, DDPM_EDEVICE, "self-test of the GPU: %s", why.text);
        if (st != DDPM_OK)
            return err_set(e, DDPM_EDEVICE, "self-test of the GPU in %s: %s: use device=cpu, and please report this",
                           names[i], why.text);
    }
    say("self-test", "passed: training and sampling in fp32, tf32 and bf16 agree with the CPU");
    return DDPM_OK;
}

static ddpm_status say_device(const ddpm_config *c, err *e)
{
    char text[400], note[THREADS_NOTE];
    backend *be = NULL;
    autotune_files files;
    backend_spec spec;
    int threads;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(threads_choose(c->threads, &threads, note, e));
    say("threads", "%d%s%s", threads, note[0] ? ": " : "", note);
    TRY_GOTO(recipe_backend(c, NULL, &files, &spec, e));
    spec.autotune_cache = spec.shared_autotune_cache = NULL; /* nothing is autotuned here */
    TRY_GOTO(backend_create(&spec, &be, e));
    TRY_GOTO(check_memory(be, e));
    be->fn->describe(be, text, sizeof text);
    say("device", "%s", text);
    if (be->remark) say("", "%s", be->remark);
    if (!be->fn->host_memory) TRY_GOTO(test_device(spec, e));
done:
    backend_destroy(be);
    return st;
}

ddpm_status cmd_doctor(const cli_args *args, err *e)
{
    say_program(&args->config);
    say_processor();
    say_memory();
    say_gpus();
    TRY(say_cache(&args->config, e));
    return say_device(&args->config, e);
}
