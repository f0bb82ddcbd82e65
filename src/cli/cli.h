/* cli.h - shared declarations of the program's commands.
 *
 *   ddpm COMMAND [ARGUMENT ...] [key=value ...]
 *
 * A command is a function and a line in main.c's table.  It receives the parsed arguments and returns a
 * ddpm_status, which becomes the exit code.  A command prints its results; main() prints errors. */
#ifndef DDPM_CLI_H
#define DDPM_CLI_H
#include "config/config.h"
#include <stdio.h>

enum { CLI_ARGUMENTS = CONFIG_FILES }; /* most arguments of a command, not counting key=value */

/* The action that the command line requests. */
typedef enum cli_action { CLI_RUN, CLI_HELP, CLI_VERSION, CLI_PRINT_CONFIG } cli_action;

typedef struct cli_command cli_command;

typedef struct cli_args {
    cli_action action;
    const cli_command *command; /* NULL for `ddpm --help` and `ddpm --version` */
    int count;                  /* of argument[] */
    const char *argument[CLI_ARGUMENTS];
    ddpm_config config; /* defaults, then files, then key=value; .origin[OPTION_x].source says which */
    err note;           /* a remark to print before the command begins; .text "": none */
    int argc;           /* the whole command line, for the run's log */
    char **argv;
} cli_args;

/* Which arguments of a command are configuration files, or folders that contain one. */
typedef enum cli_config {
    CLI_NO_CONFIG,
    CLI_CONFIG_ARGUMENTS, /* each one is a file */
    /* The last one is a file (.yaml, .yml), or a folder that may contain config.yaml, written by any version on any
     * machine, or by another program.  Options in a folder's config.yaml that cannot be used are no error. */
    CLI_CONFIG_OF_RUN
} cli_config;

typedef ddpm_status cli_function(const cli_args *args, err *e);

struct cli_command {
    const char *name, *summary;
    const char *arguments; /* as shown: "RUN"; "": none */
    int least, most;       /* number of arguments */
    cli_config configs;
    const char *options; /* the options it accepts: see config_scope */
    cli_function *run;
    const char *more;    /* further lines of --help, with examples */
    const char *closing; /* its last lines, after the options; NULL: none */
};

/* The commands, each in cmd_<name>.c. */
cli_function cmd_train, cmd_sample, cmd_ema, cmd_eval, cmd_noise, cmd_inspect, cmd_bench, cmd_doctor;

/* Parse argv into *args for one of commands[count], and read the configuration files.
 * DDPM_EINVAL: no or unknown command, unknown flag (names the nearest), wrong number of arguments, and
 * the errors of config_read(), config_assign() and config_check(). */
DDPM_MUST_CHECK ddpm_status cli_parse(const cli_command *commands, int count, int argc, char **argv, cli_args *args,
                                      err *e);

/* The options a command accepts, which are those that config_write() saves for a run. */
config_scope cli_scope(const cli_command *command);

/* May existing files be replaced?  Only if overwrite=true is on the command line; in a file it has no effect. */
static inline bool cli_may_overwrite(const cli_args *args)
{
    return args->config.overwrite && args->config.origin[OPTION_overwrite].source == CONFIG_ARGUMENT;
}

/* Is the argument by its name a configuration file (.yaml, .yml) rather than a run? */
bool cli_is_config_file(const char *path);

/* usage.c: the texts of --help and --print-config. */
void usage_program(FILE *out, const cli_command *commands, int count);
void usage_command(FILE *out, const cli_command *command);
DDPM_MUST_CHECK ddpm_status usage_config(FILE *out, const cli_args *args, err *e);

#endif
