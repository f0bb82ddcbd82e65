/* usage.c - the texts of --help and --print-config. */
#include "cli/cli.h"

#include "base/mem.h"

#include <string.h>

enum { COLUMN = 40 }; /* where the help texts begin */

void usage_program(FILE *out, const cli_command *commands, int count)
{
    fputs("Train denoising diffusion models and sample from them.\n\n"
          "  ddpm COMMAND [ARGUMENT ...] [key=value ...]\n\n",
          out);
    for (int i = 0; i < count; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n"
          "  ddpm COMMAND --help             its arguments and options\n"
          "  ddpm COMMAND --print-config     every option's value and where it comes from\n"
          "  ddpm --version\n\n"
          "The exit code is 0, or:\n",
          out);
#define LINE(name, code, meaning)                                                                                      \
    if ((code) != 0) fprintf(out, "  %-4d %s\n", code, meaning);
    DDPM_STATUS_LIST(LINE)
#undef LINE
}

static void print_words(FILE *out, const char *const *words)
{
    fputs(" [", out);
    for (int i = 0; words[i]; i++) fprintf(out, "%s%s", i ? ", " : "", words[i]);
    fputc(']', out);
}

/* "  train.batch=128       of one pass through the network [1 to 65536 images]" */
static void print_option(FILE *out, const cli_command *command, const config_option *o)
{
    const size_t n = strlen(command->name);
    const bool own = strncmp(o->key, command->name, n) == 0 && o->key[n] == '.';
    const char *name = own ? o->key + n + 1 : o->key; /* the command's own section may be omitted */
    int width = fprintf(out, "  %s=", name);
    for (const char *c = o->initial; *c; c++) /* as typed on the command line: lists without blanks */
        if (*c != ' ') width += fputc(*c, out) != EOF;
    if (width > COLUMN - 2) fputc('\n', out), width = 0;
    fprintf(out, "%*s%s", COLUMN - width, "", o->help);
    if (o->min[0]) fprintf(out, " [%s to %s%s%s]", o->min, o->max, o->unit[0] ? " " : "", o->unit);
    if (o->type == CONFIG_TYPE_BOOL) fputs(" [true, false]", out);
    if (o->type == CONFIG_TYPE_DEVICE) fprintf(out, " [%s]", o->unit);
    if (o->type == CONFIG_TYPE_WORD || o->type == CONFIG_TYPE_WORDS)
        print_words(out, config_option_words[o - config_options]);
    fputc('\n', out);
}

void usage_command(FILE *out, const cli_command *command)
{
    const config_scope scope = cli_scope(command);
    int section = -1;
    fprintf(out, "%s\n\n  ddpm %s%s%s [key=value ...]\n\n%s\nOptions, with their defaults and limits:\n",
            command->summary, command->name, command->arguments[0] ? " " : "", command->arguments, command->more);
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (!config_scope_has(&scope, (config_id)i)) continue;
        const int its = config_section_of((config_id)i);
        if (its != section) fprintf(out, "\n%s\n", config_sections[section = its].title);
        print_option(out, command, &config_options[i]);
    }
    if (command->closing) fprintf(out, "\n%s", command->closing);
}

ddpm_status usage_config(FILE *out, const cli_args *args, err *e)
{
    const config_scope scope = cli_scope(args->command);
    char *text = NULL;
    size_t size;
    TRY(config_write(&args->config, &scope, true, &text, &size, e));
    fwrite(text, 1, size, out);
    mem_free(text);
    return DDPM_OK;
}
