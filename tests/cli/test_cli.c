/* The command line: arguments, help, and the program as its users meet it. */
#include "cli/args.c"
#include "cli/usage.c"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static ddpm_status nothing(const cli_args *args, err *e) { return (void)args, (void)e, DDPM_OK; }

static const cli_command table[] = {
    {"train", "Train", "[CONFIG.yaml ...]", 0, CLI_ARGUMENTS, CLI_CONFIG_ARGUMENTS, "out seed data model train sample",
     nothing, "train's examples\n", NULL},
    {"sample", "Sample", "RUN", 1, 1, CLI_CONFIG_OF_RUN, "sample device threads", nothing, "sample's examples\n",
     "which sampler\n"},
    {"noise", "Noise", "IMAGE.png", 1, 1, CLI_NO_CONFIG, "noise diffusion", nothing, "noise's examples\n", NULL},
    {"bench", "Bench", "WHAT RUN", 2, 2, CLI_CONFIG_OF_RUN, "bench data", nothing, "bench's examples\n", NULL},
};
enum { WORDS = 16 };

/* Parse a line cut at its blanks. */
static ddpm_status parse(const char *line, cli_args *args, err *e)
{
    static char text[4 * PATH_CAP], *argv[WORDS]; /* args points into them */
    int argc = 0;
    (void)snprintf(text, sizeof text, "ddpm %s", line);
    for (char *w = strtok(text, " "); w && argc < WORDS; w = strtok(NULL, " ")) argv[argc++] = w;
    return cli_parse(table, sizeof table / sizeof table[0], argc, argv, args, e);
}

/* ---- arguments ----------------------------------------------------------------------------------- */

static const struct {
    const char *line, *message;
} wrong[] = {
    {"", "no command: 'ddpm --help' lists them"},
    {"--print-config", "no command: 'ddpm --help' lists them"},
    {"trian", "unknown command 'trian'; nearest: train; 'ddpm --help' lists them"},
    {"nose --help", "unknown command 'nose'; nearest: noise; 'ddpm --help' lists them"},
    {"--hlep", "unknown flag '--hlep'; nearest: --help"},
    {"train -v", "unknown flag '-v'; nearest: -h"},
    {"train --print-confg", "unknown flag '--print-confg'; nearest: --print-config"},
    {"train --batch=3", "unknown flag '--batch=3': options are written without dashes: batch=3"},
    {"train bacth=3", "command line: bacth: no such option; nearest: train.batch, sample.batch, data.path"},
    {"train noise.t=3", "command line: noise.t: not an option of 'ddpm train'; 'ddpm train --help' lists those"},
    {"sample", "ddpm sample needs RUN: ddpm sample RUN [key=value ...]"},
    {"sample count=3", "ddpm sample needs RUN: ddpm sample RUN [key=value ...]"},
    {"sample a b", "ddpm sample takes 1 argument besides key=value: 'b' is one too many"},
    {"train a b c d e", "ddpm train takes 4 arguments besides key=value: 'e' is one too many"},
    {"train -- seed=3", "seed=3: cannot open: No such file or directory"},
    {"train -- --help", "--help: cannot open: No such file or directory"},
    {"sample a --json f", "unknown flag '--json'; nearest: --help"},
    {"bench train", "ddpm bench needs WHAT RUN: ddpm bench WHAT RUN [key=value ...]"},
    {"bench train a --json", "--json: the file name is missing"},
    {"bench train no.yaml", "no.yaml: cannot open: No such file or directory"},
    {"bench train a rounds=0", "command line: bench.rounds: 0 is out of range (1 to 100000)"},
    /* faults D: a file whose name has the form of an option */
    {"noise t=photo=1.png",
     "command line: noise.t: 'photo=1.png' is not an integer (0 to 9999); if it is a file, write "
     "./t=photo=1.png, or put -- before it"},
    {"noise photo=1.png",
     "command line: photo: no such option; nearest: diffusion.rho, diffusion.shift, noise.out; if it is a file, write "
     "./photo=1.png, or put -- before it"},
    {"train seed=3.yaml", "command line: seed: '3.yaml' is not an integer (0 to 9223372036854775807); if it is a file, "
                          "write ./seed=3.yaml, or put -- before it"},
    {"train data.resolution=9", "data.resolution=9 cannot be halved 3 times, as the 4 levels of the model require: use "
                                "a multiple of 8"},
};

Test(arguments, that_are_wrong_are_refused_in_one_line)
{
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cli_args args;
        err e = {0};
        cr_expect_neq(parse(wrong[i].line, &args, &e), DDPM_OK, "%s", wrong[i].line);
        cr_expect_str_eq(e.text, wrong[i].message, "%s", e.text);
    }
}

Test(arguments, reach_the_command)
{
    cli_args args;
    err e = {0};
    cr_assert_eq(parse("sample runs/a count=1000 seed=4 out=pics -- ", &args, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(args.command->name, "sample");
    cr_assert(args.action == CLI_RUN && args.count == 1 && args.argc == 7);
    cr_assert_str_eq(args.argument[0], "runs/a");
    cr_assert(args.config.sample.count == 1000 && args.config.sample.seed == 4 && args.config.seed == 0);
    cr_assert_str_eq(args.config.sample.out, "pics");
    cr_assert_eq(args.config.origin[OPTION_sample_count].source, CONFIG_ARGUMENT);
    cr_assert_eq(parse("noise ./t=3 t=0,200,400", &args, &e), DDPM_OK, "%s", e.text);
    cr_assert(args.count == 1 && args.config.noise.t.count == 3 && args.config.noise.t.item[2] == 400);
    cr_assert_str_eq(args.argument[0], "./t=3");
    cr_assert_eq(parse("bench train a --json f.json data=real", &args, &e), DDPM_OK, "%s", e.text);
    cr_assert(args.count == 2 && !strcmp(args.argument[1], "a"));
    cr_assert(!strcmp(args.config.bench.json, "f.json") && args.config.bench.data == BENCH_DATA_REAL);
    cr_assert_eq(parse("bench train a --json -", &args, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(args.config.bench.json, "-");
    cr_assert_eq(parse("noise -- t=3", &args, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(args.argument[0], "t=3");
}

Test(arguments, help_and_version_come_before_everything_else)
{
    static const struct {
        const char *line;
        cli_action action;
        bool command;
    } asked[] = {{"--help", CLI_HELP, false},
                 {"-h", CLI_HELP, false},
                 {"train --help", CLI_HELP, true},
                 {"sample batch=0 --nonsense -h", CLI_HELP, true},
                 {"--version", CLI_VERSION, false},
                 {"train --version", CLI_VERSION, true},
                 {"train --print-config", CLI_PRINT_CONFIG, true}};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        cli_args args;
        err e = {0};
        cr_expect_eq(parse(asked[i].line, &args, &e), DDPM_OK, "%s: %s", asked[i].line, e.text);
        cr_expect(args.action == asked[i].action && !args.command == !asked[i].command, "%s", asked[i].line);
    }
}

Test(arguments, files_are_read_in_order_and_stand_below_the_command_line)
{
    char folder[] = "/tmp/ddpm-test-XXXXXX", line[3 * PATH_CAP], file[PATH_CAP], quickstart[PATH_CAP];
    cli_args args;
    err e = {0};
    cr_assert(mkdtemp(folder));
    cr_assert_eq(path_join(file, folder, "config.yaml", &e), DDPM_OK);
    cr_assert_eq(file_write(file, "seed: 7\nsample.count: 9\nsample.grid: 3", 38, false, &e), DDPM_OK, "%s", e.text);

    /* The tree's own path may hold blanks, at which parse() cuts. */
    cr_assert_eq(path_join(quickstart, folder, "quickstart.yaml", &e), DDPM_OK);
    cr_assert_eq(symlink(DDPM_SOURCE "/configs/quickstart.yaml", quickstart), 0);

    (void)snprintf(line, sizeof line, "train out=x seed=1 %s %s", file, quickstart);
    cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
    cr_assert_str_eq(args.config.out, "x");
    cr_assert_eq(args.config.data.kind, DATA_KIND_DIGITS);
    cr_assert(args.config.seed == 1 && args.config.files == 2 && args.config.sample.count == 80);

    (void)snprintf(line, sizeof line, "sample %s grid=5", folder); /* the run's own config.yaml */
    cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
    cr_assert(args.config.sample.count == 9 && args.config.sample.grid == 5 && args.config.seed == 7);
    (void)snprintf(line, sizeof line, "sample %s", file); /* or any file */
    cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(args.config.sample.grid, 3);
    cr_assert_eq(parse("sample /", &args, &e), DDPM_OK, "%s", e.text); /* a folder without one: as it is */
    cr_assert_eq(args.config.files, 0);
    cr_assert_eq(dir_remove(folder, &e), DDPM_OK);
}

Test(arguments, a_file_taken_for_an_option_is_named_where_an_argument_is_missing_faults_D)
{
    char folder[] = "/tmp/ddpm-test-XXXXXX";
    cli_args args;
    err e = {0};
    cr_assert(mkdtemp(folder) && chdir(folder) == 0);
    cr_assert_eq(parse("noise out=1.png", &args, &e), DDPM_EINVAL);
    cr_expect_str_eq(e.text, "ddpm noise needs IMAGE.png: ddpm noise IMAGE.png [key=value ...]");
    cr_assert_eq(file_write("out=1.png", "", 0, false, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(parse("noise out=1.png", &args, &e), DDPM_EINVAL);
    cr_expect_str_eq(e.text, "ddpm noise needs IMAGE.png: 'out=1.png' was read as an option; for the file write "
                             "./out=1.png");
    cr_assert_eq(dir_remove(folder, &e), DDPM_OK);
}

/* What a folder that holds a model says in its config.yaml, and what is left of it. */
Test(arguments, a_configuration_beside_a_model_stops_nothing_faults_D)
{
    static const struct {
        const char *text, *note;
        int count; /* sample.count */
    } beside[] = {
        {"sample.count: 9", "", 9},
        {"sample.count: 9\nlearning_rate: 3", "config.yaml:2:1: learning_rate: no such option; ", 16},
        {"sample: {count: many}", "sample.count: 'many' is not an integer", 16},
        {"\x89PNG\r\n", "not valid YAML", 16},
        {"sample.count: 9\ndata.resolution: 30", "data.resolution=30 cannot be halved 3 times", 16},
        {"sample.count: 9\ndevice: cuda:7\nprecision: bf16\nthreads: 999\nplan_cache: /none/x", "", 9},
    };
    char folder[] = "/tmp/ddpm-test-XXXXXX", line[2 * PATH_CAP], file[PATH_CAP];
    cli_args args;
    err e = {0};
    cr_assert(mkdtemp(folder));
    cr_assert_eq(path_join(file, folder, "config.yaml", &e), DDPM_OK);
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        const char *text = beside[i].text;
        cr_assert_eq(file_write(file, text, strlen(text), false, &e), DDPM_OK, "%s", e.text);
        (void)snprintf(line, sizeof line, "sample %s", folder);
        cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
        cr_expect(beside[i].note[0] ? strstr(args.note.text, beside[i].note) != NULL : !args.note.text[0], "%s",
                  args.note.text);
        cr_expect(!beside[i].note[0] || strstr(args.note.text, "; its options are not used"), "%s", args.note.text);
        cr_expect_eq(args.config.sample.count, beside[i].count, "%s", text);
        cr_expect(args.config.threads == 0 && !strcmp(args.config.autotune_cache, "auto"), "%s", text);
        cr_expect_str_eq(args.config.device, "auto");
        cr_expect_null(args.config.renamed, "a run of an earlier version is no reason for a note");
        cr_expect(cuda_present() || args.config.precision == ROOT_PRECISION_AUTO, "%s", text);
    }
    (void)snprintf(line, sizeof line, "sample %s threads=3 device=cpu", folder); /* the command line stands */
    cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
    cr_expect(args.config.threads == 3 && !strcmp(args.config.device, "cpu"));
    cr_expect_eq(args.config.precision, ROOT_PRECISION_AUTO);
    (void)snprintf(line, sizeof line, "sample %s", file); /* a file that is named itself is taken at its word */
    cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
    cr_expect_eq(args.config.threads, 999);
    cr_expect_str_eq(args.config.renamed, "plan_cache");
    cr_assert_eq(file_write(file, "lr: 3", 5, false, &e), DDPM_OK, "%s", e.text);
    cr_expect_eq(parse(line, &args, &e), DDPM_EINVAL);
    cr_assert(!unlink(file) && !mkdir(file, 0777));
    (void)snprintf(line, sizeof line, "sample %s", folder);
    cr_assert_eq(parse(line, &args, &e), DDPM_OK, "%s", e.text);
    cr_expect_not_null(strstr(args.note.text, "not a regular file"), "%s", args.note.text);
    cr_assert_eq(dir_remove(folder, &e), DDPM_OK);
}

/* ---- help ---------------------------------------------------------------------------------------- */

static char *help_of(const cli_command *command)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    usage_command(out, command);
    cr_assert_eq(fclose(out), 0);
    return text;
}

Test(help, lists_every_option_of_a_command_and_no_other)
{
    const cli_command all = {
        .name = "everything",
        .summary = "",
        .arguments = "",
        .more = "",
        .options = "out seed resume rewind overwrite device precision threads autotune_cache cpu cuda data "
                   "model diffusion train ema ckpt log "
                   "sample noise inspect eval bench"};
    char *text = help_of(&all), *train = help_of(&table[0]);
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const config_option *o = &config_options[i];
        char line[CONFIG_KEY + 8];
        (void)snprintf(line, sizeof line, "\n  %s=", o->key);
        const char *at = strstr(text, line);
        cr_expect(at, "%s", o->key);
        cr_expect(at && strstr(at, o->help), "%s", o->key);
        if (o->type == CONFIG_TYPE_INT) { /* its limits stand on its line */
            (void)snprintf(line, sizeof line, " [%s to %s", o->min, o->max);
            const char *limits = at ? strstr(at, line) : NULL;
            cr_expect(limits && !memchr(strstr(at, o->help), '\n', (size_t)(limits - strstr(at, o->help))), "%s",
                      o->key);
        }
    }
    for (int i = 0; i < CONFIG_SECTIONS; i++) cr_expect(strstr(text, config_sections[i].title));
    cr_expect(strstr(train, "\n  batch=128 ") && strstr(train, "\n  sample.batch=64 "), "short names where they work");
    cr_expect(!strstr(train, "noise.t") && !strstr(train, "threads="));
    cr_expect(strstr(train, "train's examples\n") && strstr(train, "ddpm train [CONFIG.yaml ...] [key=value ...]"));
    cr_expect(strstr(text, "\n  device=auto                           device; auto = a GPU if there is one "
                           "[auto, cpu, cuda, cuda:N]\n"),
              "%s", text);
    free(text), free(train);
}

Test(help, ends_with_the_closing_lines_of_a_command)
{
    char *train = help_of(&table[0]), *sample = help_of(&table[1]);
    const char *end = strstr(sample, "\n\nwhich sampler\n");
    cr_expect(end && strcmp(end, "\n\nwhich sampler\n") == 0, "%s", sample);
    cr_expect(strstr(sample, "\n  grid=0 ") < end, "after the options");
    cr_expect_not(strstr(train, "which sampler") || strstr(train, "(null)"));
    free(train);
    free(sample);
}

Test(help, print_config_can_be_used_as_a_config)
{
    cli_args args;
    err e = {0};
    char *text = NULL;
    size_t size;
    ddpm_config back;
    cr_assert_eq(parse("train batch=3 out=a --print-config", &args, &e), DDPM_OK, "%s", e.text);
    FILE *out = open_memstream(&text, &size);
    cr_assert_eq(usage_config(out, &args, &e), DDPM_OK);
    cr_assert_eq(fclose(out), 0);
    cr_assert(strstr(text, "\n  batch: 3  # command line\n") && strstr(text, "seed: 0  # default\n"), "%s", text);
    config_defaults(&back);
    cr_assert_eq(config_read(&back, "back", text, size, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(back.train.batch, 3);
    free(text);
}

/* ---- the program --------------------------------------------------------------------------------- */

static void need_program(void)
{
    if (access(DDPM_PROGRAM, X_OK) != 0) cr_skip_test("the program has not been built: " DDPM_PROGRAM);
}

/* The exit code of a shell line in which %s is the program, and what it prints. */
static int shell(const char *format, char *output, size_t cap)
{
    char line[512];
    (void)snprintf(line, sizeof line, format, "'" DDPM_PROGRAM "'");
    FILE *pipe = popen(line, "r");
    cr_assert(pipe);
    output[fread(output, 1, cap - 1, pipe)] = 0;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(program, answers_and_fails_by_the_book)
{
    static const struct {
        const char *line;
        int code;
        const char *output;
    } table_of[] = {
        {"%s --version", 0, "ddpm "},
        {"%s --version | grep -cE '^cpu: oneDNN [23]\\.[0-9]+\\.[0-9]+, [A-Za-z]'", 0, "1\n"},
        {"%s --help", 0, "Train denoising diffusion models"},
        {"%s train --help", 0, "Train a model\n"},
        {"%s sample --help", 0, "Sample pictures from a model\n"},
        {"%s noise --help", 0, "Show the forward process on a picture\n"},
        {"%s inspect --help", 0, "Show a model's layers, parameters and memory\n"},
        {"%s 2>&1", 2, "ddpm: error: no command: 'ddpm --help' lists them\n"},
        {"%s train batch=0 2>&1", 2, "ddpm: error: command line: train.batch: 0 is out of range (1 to 65536)\n"},
        {"%s train no/such.yaml 2>&1", 66, "ddpm: error: no/such.yaml: cannot open: No such file or directory\n"},
        {"%s --help 2>&1 >/dev/full", 74, "ddpm: error: standard output: cannot write\n"},
    };
    need_program();
    for (size_t i = 0; i < sizeof table_of / sizeof table_of[0]; i++) {
        char output[1 << 16];
        cr_expect_eq(shell(table_of[i].line, output, sizeof output), table_of[i].code, "%s", table_of[i].line);
        cr_expect_eq(strncmp(output, table_of[i].output, strlen(table_of[i].output)), 0, "%s: %s", table_of[i].line,
                     output);
        if (table_of[i].code) cr_expect_str_eq(output, table_of[i].output, "one line, and only one");
    }
}

/* Its reader is gone before it begins to write. */
Test(program, a_closed_pipe_is_no_failure)
{
    int ends[2], status;
    need_program();
    cr_assert_eq(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]), (void)close(ends[1]);
        (void)execl(DDPM_PROGRAM, "ddpm", "train", "--help", (char *)NULL);
        _exit(127);
    }
    (void)close(ends[0]), (void)close(ends[1]);
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}

Test(program, every_recipe_can_be_printed)
{
    char output[1 << 16];
    need_program();
    cr_assert_eq(shell("for f in configs/*.yaml; do %s train $f --print-config || exit; done", output, sizeof output),
                 0);
    cr_assert(strstr(output, "# configs/quickstart.yaml:"));
}
