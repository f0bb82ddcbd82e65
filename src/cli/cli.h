/* cli.h - what the program's commands have in common.
 *
 *   ddpm COMMAND [ARGUMENT ...] [key=value ...]
 *
 * A command is a function and a line in main.c's table; it gets its arguments parsed and returns a
 * ddpm_status, which is the exit code.  It prints its results, not its failure: main does that. */
#ifndef DDPM_CLI_H
#define DDPM_CLI_H
#include "config/config.h"
#include <stdio.h>

enum { CLI_ARGUMENTS = CONFIG_FILES }; /* most a command can take, not counting key=value */

/* What the user asked for. */
typedef enum cli_action { CLI_RUN, CLI_HELP, CLI_VERSION, CLI_PRINT_CONFIG } cli_action;

typedef struct cli_command cli_command;

typedef struct cli_args {
    cli_action action;
    const cli_command *command; /* NULL for `ddpm --help` and `ddpm --version` */
    int count;                  /* of argument[] */
    const char *argument[CLI_ARGUMENTS];
    ddpm_config config; /* defaults, then files, then key=value; .origin[OPTION_x].source says which */
    err note;           /* what the user should be told before the command begins; .text "": nothing */
    int argc;           /* the whole command line, for the run's record */
    char **argv;
} cli_args;

/* Which of a command's arguments are, or lead to, configuration files. */
typedef enum cli_config {
    CLI_NO_CONFIG,
    CLI_CONFIG_ARGUMENTS, /* each one is a file */
    /* The last one is a file (.yaml, .yml), or a folder that may hold config.yaml: of a run on any machine by any
     * version, or another program's.  There it only adds what it can, and stops nothing. */
    CLI_CONFIG_OF_RUN
} cli_config;

typedef ddpm_status cli_function(const cli_args *args, err *e);

struct cli_command {
    const char *name, *summary;
    const char *arguments; /* as shown: "RUN"; "": none */
    int least, most;       /* how many of them */
    cli_config configs;
    const char *options; /* what it takes of options.def: see config_scope */
    cli_function *run;
    const char *more; /* lines of --help, with examples */
};

/* The commands, each in its own cmd_<name>.c. */
cli_function cmd_train, cmd_sample, cmd_noise, cmd_inspect, cmd_bench, cmd_doctor;

/* Parse argv into *args, with one of commands[count], and read the configuration files.
 * DDPM_EINVAL: no or unknown command, unknown flag (names the nearest), wrong number of arguments, and
 * all that config_read(), config_assign() and config_check() refuse. */
DDPM_MUST_CHECK ddpm_status cli_parse(const cli_command *commands, int count, int argc, char **argv, cli_args *args,
                                      err *e);

/* The options a command takes: what config_write() keeps of a run. */
config_scope cli_scope(const cli_command *command);

/* May what is in the way be replaced?  Only whoever typed overwrite=true means it, not a file that was kept. */
static inline bool cli_may_overwrite(const cli_args *args)
{
    return args->config.overwrite && args->config.origin[OPTION_overwrite].source == CONFIG_ARGUMENT;
}

/* Does the name of an argument say that it is a configuration file (.yaml, .yml), and not a run? */
bool cli_is_config_file(const char *path);

/* usage.c: the texts of --help and --print-config. */
void usage_program(FILE *out, const cli_command *commands, int count);
void usage_command(FILE *out, const cli_command *command);
DDPM_MUST_CHECK ddpm_status usage_config(FILE *out, const cli_args *args, err *e);

#endif
