/* args.c - parsing of the command line. */
#include "cli/cli.h"

#include "backend/backend.h"
#include "base/device_name.h"
#include "config/nearest.h"

#include <limits.h>
#include <string.h>

/* ---- flags --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    cli_action action;
} flags[] = {
    {"--help", CLI_HELP},
    {"-h", CLI_HELP},
    {"--version", CLI_VERSION},
    {"--print-config", CLI_PRINT_CONFIG},
};
enum { FLAGS = sizeof flags / sizeof flags[0] };

static bool is_flag(const char *text) { return text[0] == '-' && text[1]; }

static ddpm_status refuse_flag(const char *text, err *e)
{
    const char *name = text + strspn(text, "-");
    int best = INT_MAX;
    const char *nearest = "";
    if (strchr(name, '='))
        return err_set(e, DDPM_EINVAL, "unknown flag '%.80s': options are written without dashes: %.80s", text, name);
    for (int i = 0; i < FLAGS; i++) {
        const int d = text_distance(text, flags[i].name);
        if (d < best) best = d, nearest = flags[i].name;
    }
    return err_set(e, DDPM_EINVAL, "unknown flag '%.80s'; nearest: %s", text, nearest);
}

static ddpm_status read_flag(const char *text, cli_action *action, err *e)
{
    for (int i = 0; i < FLAGS; i++) {
        if (strcmp(text, flags[i].name) != 0) continue;
        *action = flags[i].action;
        return DDPM_OK;
    }
    return refuse_flag(text, e);
}

/* `--json FILE` is the same as json=FILE, for commands that have the option. */
static bool is_json_flag(const cli_command *command, const char *text)
{
    char key[CONFIG_KEY];
    const config_scope scope = cli_scope(command);
    (void)snprintf(key, sizeof key, "%s.json", command->name);
    const int option = config_find(key);
    return !strcmp(text, "--json") && option >= 0 && config_scope_has(&scope, (config_id)option);
}

static ddpm_status read_json_flag(cli_args *args, const char *file, err *e)
{
    char text[PATH_CAP + 8];
    const config_scope scope = cli_scope(args->command);
    if (!file) return err_set(e, DDPM_EINVAL, "--json: the file name is missing");
    (void)snprintf(text, sizeof text, "json=%s", file);
    return config_assign(&args->config, &scope, text, e);
}

/* Help and version take precedence over any error in the command line. */
static cli_action asked_first(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        for (int k = 0; k < FLAGS; k++)
            if (flags[k].action != CLI_PRINT_CONFIG && strcmp(argv[i], flags[k].name) == 0) return flags[k].action;
    return CLI_RUN;
}

/* ---- the command --------------------------------------------------------------------------------- */

static const cli_command *find_command(const cli_command *commands, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static ddpm_status refuse_command(const cli_command *commands, int count, const char *name, err *e)
{
    int best = INT_MAX;
    const char *nearest = "";
    for (int i = 0; i < count; i++) {
        const int d = text_distance(name, commands[i].name);
        if (d < best) best = d, nearest = commands[i].name;
    }
    return err_set(e, DDPM_EINVAL, "unknown command '%.80s'; nearest: %s; 'ddpm --help' lists them", name, nearest);
}

/* Set args->command from the first argument; help and version need none. */
static ddpm_status read_command(const cli_command *commands, int count, cli_args *args, err *e)
{
    const char *name = args->argc > 1 ? args->argv[1] : "";
    const bool flag = is_flag(name), optional = args->action != CLI_RUN;
    cli_action unused;
    if (flag) TRY(read_flag(name, &unused, e));
    if (flag || !name[0]) return optional ? DDPM_OK : err_set(e, DDPM_EINVAL, "no command: 'ddpm --help' lists them");
    args->command = find_command(commands, count, name);
    return args->command ? DDPM_OK : refuse_command(commands, count, name, e);
}

config_scope cli_scope(const cli_command *command)
{
    return (config_scope){.command = command->name, .options = command->options};
}

/* ---- arguments ----------------------------------------------------------------------------------- */

static bool ends_in(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

bool cli_is_config_file(const char *path) { return ends_in(path, ".yaml") || ends_in(path, ".yml"); }

/* Could "photo=1.png", which was parsed as an option, be meant as a file name? */
static bool may_be_file(const char *text)
{
    return path_exists(text) || ends_in(text, ".png") || cli_is_config_file(text);
}

static ddpm_status read_assignment(cli_args *args, const char *text, err *e)
{
    const config_scope scope = cli_scope(args->command);
    err why = {0};
    const ddpm_status st = config_assign(&args->config, &scope, text, &why);
    if (st == DDPM_OK) return DDPM_OK;
    if (!may_be_file(text)) return err_set(e, st, "%s", why.text);
    return err_set(e, st, "%s; if it is a file, write ./%s, or put -- before it", why.text, text);
}

static ddpm_status read_argument(cli_args *args, const char *text, bool only_paths, err *e)
{
    const cli_command *command = args->command;
    if (!only_paths && is_flag(text)) return read_flag(text, &args->action, e);
    if (!only_paths && config_is_assignment(text)) return read_assignment(args, text, e);
    if (args->count == command->most)
        return err_set(e, DDPM_EINVAL, "ddpm %s takes %d argument%s besides key=value: '%.80s' is one too many",
                       command->name, command->most, command->most == 1 ? "" : "s", text);
    args->argument[args->count++] = text;
    return DDPM_OK;
}

static ddpm_status refuse_missing(const cli_args *args, err *e)
{
    const cli_command *command = args->command;
    for (int i = 2; i < args->argc; i++)
        if (config_is_assignment(args->argv[i]) && path_exists(args->argv[i]))
            return err_set(e, DDPM_EINVAL,
                           "ddpm %s needs %s: '%.80s' was read as an option; for the file write ./%.80s", command->name,
                           command->arguments, args->argv[i], args->argv[i]);
    return err_set(e, DDPM_EINVAL, "ddpm %s needs %s: ddpm %s %s [key=value ...]", command->name, command->arguments,
                   command->name, command->arguments);
}

static ddpm_status forget(ddpm_config *c, config_id option, err *e)
{
    if (c->origin[option].source != CONFIG_FILE) return DDPM_OK;
    c->origin[option] = (config_place){.source = CONFIG_DEFAULT};
    return config_set(c, option, &c->origin[option], config_options[option].initial, e);
}

/* Reset the machine options of a saved configuration: they are for the machine of the training. */
static ddpm_status forget_machine(ddpm_config *c, err *e)
{
    TRY(forget(c, OPTION_threads, e));
    TRY(forget(c, OPTION_autotune_cache, e));
    TRY(forget(c, OPTION_cuda_libraries, e));
    const bool cpu = device_name_parse(c->device).kind == DEVICE_CPU;
    if (!cpu) TRY(forget(c, OPTION_device, e));
    return !cpu && cuda_present() ? DDPM_OK : forget(c, OPTION_precision, e);
}

static ddpm_status read_config_of_run(cli_args *args, const char *run, err *e)
{
    static const char left_out[] = "its options are not used";
    const char *const renamed = args->config.renamed; /* by the user, who did not write the run's file */
    char path[PATH_CAP];
    ddpm_config alone;
    err why = {0};
    if (cli_is_config_file(run)) return config_read_file(&args->config, run, e);
    TRY(path_join(path, run, "config.yaml", e));
    if (!path_exists(path)) return DDPM_OK;
    config_defaults(&alone);
    if (config_read_file(&alone, path, &why) != DDPM_OK) {
        err_set(&args->note, why.status, "%s; %s", why.text, left_out);
        return DDPM_OK;
    }
    if (config_check(&alone, &why) != DDPM_OK) {
        err_set(&args->note, why.status, "%s: %s; %s", path, why.text, left_out);
        return DDPM_OK;
    }
    TRY(config_read_file(&args->config, path, e));
    args->config.renamed = renamed;
    return forget_machine(&args->config, e);
}

/* Called after parsing the command line; files do not change options that it set. */
static ddpm_status read_configs(cli_args *args, err *e)
{
    const cli_config configs = args->command->configs;
    const int files = configs == CLI_CONFIG_ARGUMENTS ? args->count : 0;
    for (int i = 0; i < files; i++) TRY(config_read_file(&args->config, args->argument[i], e));
    if (configs == CLI_CONFIG_OF_RUN) TRY(read_config_of_run(args, args->argument[args->count - 1], e));
    config_settle(&args->config);
    return config_check(&args->config, e);
}

ddpm_status cli_parse(const cli_command *commands, int count, int argc, char **argv, cli_args *args, err *e)
{
    bool only_paths = false;
    *args = (cli_args){.action = asked_first(argc, argv), .argc = argc, .argv = argv};
    config_defaults(&args->config);
    TRY(read_command(commands, count, args, e));
    if (args->action != CLI_RUN) return DDPM_OK;
    for (int i = 2; i < argc; i++) {
        if (!only_paths && strcmp(argv[i], "--") == 0)
            only_paths = true;
        else if (!only_paths && is_json_flag(args->command, argv[i]))
            TRY(read_json_flag(args, ++i < argc ? argv[i] : NULL, e));
        else
            TRY(read_argument(args, argv[i], only_paths, e));
    }
    return args->count < args->command->least ? refuse_missing(args, e) : read_configs(args, e);
}
