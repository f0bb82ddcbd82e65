/* main.c - the program ddpm: table of commands, exit code, and the one-line error message. */
#include "cli/about.h"
#include "cli/cli.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* Options of `ddpm sample` that no other command takes. */
#define NOT_OF_A_RUN                                                                                                   \
    "-sample.ids -sample.format -sample.shard -sample.rank -sample.ranks -sample.verify "                              \
    "-sample.from -sample.strength -sample.mask -sample.jump_length -sample.jump_n_sample -sample.between "            \
    "-ema.out -ema.at"

/* The last lines of `ddpm sample --help`: the table of docs/usage.md, which has the sources. */
#define WHICH_SAMPLER                                                                                                  \
    "Which sampler (docs/usage.md says why, and describes all of them):\n"                                             \
    "  evaluations   use\n"                                                                                            \
    "           10   sampler=unipc num_inference_steps=10\n"                                                           \
    "           20   sampler=unipc num_inference_steps=20\n"                                                           \
    "           50   sampler=dpm_3s num_inference_steps=48 timestep_spacing=logsnr\n"                                  \
    "          100   as for 50, or sampler=ddim num_inference_steps=100 timestep_spacing=quadratic\n"                  \
    "         1000   sampler=ddpm variance_type=fixed_large\n"

static const cli_command commands[] = {
    {"train", "Train a model", "[CONFIG.yaml ...]", 0, CLI_ARGUMENTS, CLI_CONFIG_ARGUMENTS,
     "out seed resume rewind device precision threads autotune_cache cpu cuda data model diffusion train ema ckpt log "
     "sample " NOT_OF_A_RUN,
     cmd_train,
     "A later file overrides an earlier one, and key=value overrides every file.  The signals INT, TERM, HUP,\n"
     "XCPU and USR1 save a checkpoint and end the run (exit code 85: the same command continues with\n"
     "resume=auto), or end it at once before the first step; USR2 saves a checkpoint.\n\n"
     "  ddpm train configs/quickstart.yaml\n"
     "  ddpm train configs/cifar10.yaml out=runs/cifar batch=64 model.dropout=0 resume=auto\n",
     NULL},
    {"sample", "Sample pictures from a model", "RUN", 1, 1, CLI_CONFIG_OF_RUN,
     "sample -sample.every overwrite device precision threads autotune_cache cpu cuda", cmd_sample,
     "RUN is the folder of a run, a checkpoint, or a diffusers pipeline.  Killed at any moment, the same command\n"
     "draws what is missing; started for every rank, on any number of machines, each draws its part, and the last\n"
     "one to end writes manifest.xxh128 and grid.png.  The files are the same in each case.\n\n"
     "  ddpm sample runs/cifar count=1000 seed=0 batch=64 out=pictures\n"
     "  ddpm sample runs/cifar ids=0-49999 format=npz batch=512 out=fid\n"
     "  ddpm sample runs/cifar ids=0-49999 format=tar shard=1000 rank=0 ranks=8 out=shards\n"
     "  ddpm sample runs/cifar verify=true out=shards    # compare with the manifest; draws nothing\n"
     "  ddpm sample runs/cifar sampler=unipc num_inference_steps=10\n"
     "  ddpm sample runs/cifar sampler=ddim num_inference_steps=100 timestep_spacing=quadratic\n"
     "  ddpm sample runs/cifar sampler=unipc num_inference_steps=20 from=cat.png strength=0.5    # SDEdit\n"
     "  ddpm sample PIPELINE sampler=unipc num_inference_steps=20 guidance=2 labels=3,7    # a network with classes\n",
     WHICH_SAMPLER},
    {"eval", "Measure the bits per dimension of images under a model", "RUN", 1, 1, CLI_CONFIG_OF_RUN,
     "eval overwrite data -data.flip -data.shuffle -data.prefetch -data.resident device precision threads "
     "autotune_cache cpu cuda log.seconds",
     cmd_eval,
     "RUN is the folder of a run, a checkpoint, or a diffusers pipeline; the images are those of its training unless\n"
     "data.path= names others.  Each image takes an evaluation of the network for every timestep.  The result is the\n"
     "variational bound, which says how probable the images are, not how good the samples look.  --json FILE writes\n"
     "all of it (- = standard output).  Interrupted, it leaves nothing behind (exit code 130 for Ctrl-C).\n\n"
     "  ddpm eval runs/cifar data.path=data/cifar10/test_batch.bin count=1000 batch=256\n"
     "  ddpm eval runs/cifar num_inference_steps=100 variance_type=fixed_large --json bits.json\n",
     NULL},
    {"ema", "Make an average of other width of a run's snapshots", "RUN", 1, 1, CLI_NO_CONFIG,
     "ema.sigma_rel ema.out ema.at overwrite", cmd_ema,
     "RUN is the folder of a run that was trained with ema.sigma_rel=[0.05,0.1] and ema.snapshot_every=N.  The result\n"
     "is a pipeline folder, from which ddpm sample and diffusers sample.\n\n"
     "  ddpm ema runs/cifar sigma_rel=0.15 out=averaged\n"
     "  ddpm ema runs/cifar sigma_rel=0.08 at=50000 out=averaged\n",
     NULL},
    {"noise", "Show the forward process on a picture", "IMAGE.png", 1, 1, CLI_NO_CONFIG,
     "noise overwrite diffusion -diffusion.variance_type -diffusion.clip_sample -diffusion.clip_sample_range "
     "-diffusion.rho",
     cmd_noise,
     "  ddpm noise cat.png out=strip.png t=0,200,400\n"
     "  ddpm noise cat.png out=strip.png diffusion.parameterization=flow diffusion.shift=3\n",
     NULL},
    {"inspect", "Show a model's layers, parameters and memory", "RUN|CONFIG.yaml", 1, 1, CLI_CONFIG_OF_RUN,
     "inspect device precision threads autotune_cache cpu cuda data model diffusion train ema sample " NOT_OF_A_RUN,
     cmd_inspect,
     "RUN is the folder of a run, a checkpoint, or a diffusers pipeline.\n\n"
     "  ddpm inspect configs/cifar10.yaml batch=64\n"
     "  ddpm inspect runs/cifar timesteps=true sample.num_inference_steps=50\n",
     NULL},
    {"bench", "Measure the speed of training, sampling and reading images",
     "train|sample|ops|data|weights CONFIG.yaml|RUN", 2, 2, CLI_CONFIG_OF_RUN,
     "bench overwrite seed device precision threads autotune_cache cpu cuda data model diffusion train ema "
     "sample " NOT_OF_A_RUN,
     cmd_bench,
     "train    training steps: images/s, memory, and the share of the machine's measured peak\n"
     "sample   network evaluations, and the whole sampling loop if the time limit allows it\n"
     "ops      each op of a step separately, compared with the roofline, most time above it first\n"
     "data     the loader alone\n"
     "weights  write the initial weights as a pipeline folder, for other programs to start from\n\n"
     "Results are medians without the warm-up.  --json FILE writes all results (- = standard output).\n"
     "RUN is the folder of a run, a checkpoint, or a diffusers pipeline.\n\n"
     "  ddpm bench train configs/quickstart.yaml threads=2\n"
     "  ddpm bench sample runs/cifar sample.batch=16 sample.num_inference_steps=100\n"
     "  ddpm bench ops configs/cifar10.yaml train.batch=16 top=40 --json ops.json\n"
     "  ddpm bench data configs/mnist.yaml data=real data.path=DIR data.cache_mb=0\n",
     NULL},
    {"doctor", "Show processor, memory and GPUs, and what is missing to use a GPU", "", 0, 0, CLI_NO_CONFIG,
     "device precision threads autotune_cache cuda", cmd_doctor,
     "The exit code is 0 if training can run here, and 69 if the requested device cannot be used.\n\n"
     "  ddpm doctor\n"
     "  ddpm doctor device=cuda\n",
     NULL},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static ddpm_status dispatch(int argc, char **argv, err *e)
{
    cli_args args;
    TRY(cli_parse(commands, COMMANDS, argc, argv, &args, e));
    const char *renamed = args.config.renamed, *ignored;
    if (renamed)
        fprintf(stderr, "ddpm: note: %s has been renamed to %s; the old name works in this version only\n", renamed,
                config_options[config_find_renamed(renamed, &ignored)].key);
    if (args.note.text[0]) fprintf(stderr, "ddpm: note: %s\n", args.note.text);
    switch (args.action) {
    case CLI_HELP:
        if (args.command)
            usage_command(stdout, args.command);
        else
            usage_program(stdout, commands, COMMANDS);
        return DDPM_OK;
    case CLI_VERSION: about_version(stdout); return DDPM_OK;
    case CLI_PRINT_CONFIG: return usage_config(stdout, &args, e);
    case CLI_RUN: break;
    }
    return args.command->run(&args, e);
}

/* The parent process may have closed any of the descriptors 0 to 2.  The next opened file would get such a number, and
 * with it the program's output.  The descriptors stay open across the exec() in spin_briefly(). */
static void fill_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) /* gets the lowest free number, fd */
            (void)open("/", O_RDONLY | O_DIRECTORY);                 /* not writable either */
}

/* A closed pipe (`ddpm --help | head -1`) is no error; a full disk is. */
static ddpm_status finish_output(err *e)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return DDPM_OK;
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (poll(&output, 1, 0) == 1 && output.revents & (POLLERR | POLLHUP)) return DDPM_OK;
    return err_set(e, DDPM_EIO, "standard output: cannot write");
}

/* OpenMP threads that wait by spinning use up the time slices of the threads they wait for if several programs share
 * the cores; short spins cost little otherwise (bench/RESULTS.md).
 * OpenMP's runtime reads its environment only when it is loaded, so the program executes itself again.  Not if the
 * runtime binds threads: the main thread is already bound to one processor, and all new threads would inherit that. */
static void spin_briefly(char **argv)
{
    static const char *const said[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "OMP_PLACES",
                                       "GOMP_CPU_AFFINITY"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (getenv(said[i])) return;
    if (setenv("GOMP_SPINCOUNT", "3000", 0) == 0) (void)execv("/proc/self/exe", argv); /* else go on without it */
}

int main(int argc, char **argv)
{
    err e = {0};
    fill_descriptors();
    spin_briefly(argv);
    (void)signal(SIGPIPE, SIG_IGN); /* failed writes are reported by their return value, */
    (void)signal(SIGXFSZ, SIG_IGN); /* so that incomplete output can be removed */
    ddpm_status st = dispatch(argc, argv, &e);
    if (st == DDPM_OK) st = finish_output(&e);
    const char *kind = st == DDPM_ESAVED ? "" : "error: ";
    if (st != DDPM_OK) fprintf(stderr, "ddpm: %s%s\n", kind, e.text[0] ? e.text : err_meaning(st));
    return (int)st;
}
