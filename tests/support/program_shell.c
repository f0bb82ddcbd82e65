#include "support/program_shell.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char here[PATH_CAP];
static const char *more;

void shell_begin(char folder[PATH_CAP], const char *functions)
{
    strcpy(here, scratch_make(folder));
    more = functions;
}

void shell_end(void) { scratch_remove(here); }

static int run(const char *line)
{
    char command[4 * PATH_CAP];
    const int n = snprintf(command, sizeof command, "cd %s && ddpm() { '%s' \"$@\"; }; %s{ %s; } >stdout 2>stderr",
                           here, DDPM_PROGRAM, more, line);
    cr_assert_lt((size_t)n, sizeof command, "%s", line);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int shell(const char *fmt, ...)
{
    char line[2 * PATH_CAP];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    return run(line);
}

void works(const char *fmt, ...)
{
    char line[2 * PATH_CAP];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    const int code = run(line);
    cr_assert_eq(code, 0, "%s: exit %d: %s", line, code, get_text(in_dir(here, "stderr")));
}

void fails(const char *line, int code, const char *said)
{
    const int got = run(line);
    char *text = get_text(in_dir(here, "stderr")), *end = strchr(text, '\n');
    cr_expect_eq(got, code, "%s: exit %d: %s", line, got, text);
    cr_expect(end && !end[1] && strstr(text, said), "%s: expected one line with '%s', got: %s", line, said, text);
    mem_free(text);
}
