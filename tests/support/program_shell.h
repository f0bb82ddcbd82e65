/* program_shell.h - lines of a shell in a test's folder, in which `ddpm` is the program.
 *
 * What a line prints is in the files stdout and stderr of the folder.  A failure fails the running test. */
#ifndef DDPM_PROGRAM_SHELL_H
#define DDPM_PROGRAM_SHELL_H
#include "support/io_support.h"

/* Make a new folder, in which all lines run from now on.  `functions` are further ones of the shell, "" or such as
 * "draw() { ddpm sample net \"$@\"; }; ". */
void shell_begin(char folder[PATH_CAP], const char *functions);
void shell_end(void); /* remove it */

/* The exit code of the line; -1: a signal ended it. */
__attribute__((format(printf, 1, 2))) int shell(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void works(const char *fmt, ...); /* exit code 0 */
/* This exit code, and one line of errors, in which these words stand. */
void fails(const char *line, int code, const char *said);

#endif
