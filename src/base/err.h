/* err.h - a status and its one line of explanation, kept where it arose.
 *
 * Every function that can fail takes an `err *` last and returns a ddpm_status.
 * Whoever knows the place and the numbers calls err_set() once; everybody above
 * only hands the status on. */
#ifndef DDPM_ERR_H
#define DDPM_ERR_H
#include "ddpm_status.h"
#include <stdarg.h>
#include <stddef.h>

typedef struct err {
    ddpm_status status;
    char text[600]; /* what, where, what to do; no newline */
} err;

/* Store status and message, replacing what was there, and return status.
 * A NULL `e` only returns it.  Where a message is too long for the buffer, its long words (paths) lose their middle. */
__attribute__((format(printf, 3, 4))) ddpm_status err_set(err *e, ddpm_status status, const char *fmt, ...);

/* As err_set(), with ": " and the text of `errnum` (from errno) at the end. */
__attribute__((format(printf, 4, 5))) ddpm_status err_errno(err *e, ddpm_status status, int errnum, const char *fmt,
                                                            ...);

/* One line into out[cap], cap <= 1024, shortened as a message is: for those that tell of what is no error. */
__attribute__((format(printf, 3, 0))) void err_line(char *out, size_t cap, const char *fmt, va_list ap);

/* "EDATA" and "an image ... is damaged"; never NULL. */
const char *err_name(ddpm_status status);
const char *err_meaning(ddpm_status status);

/* Hand a failure on.  TRY where nothing is owned; TRY_GOTO, with `ddpm_status st`
 * and one `done:` that frees zero-initialized locals, where something is. */
#define TRY(e)                                                                                                         \
    do {                                                                                                               \
        const ddpm_status try_ = (e);                                                                                  \
        if (try_ != DDPM_OK) return try_;                                                                              \
    } while (0)
#define TRY_GOTO(e)                                                                                                    \
    do {                                                                                                               \
        st = (e);                                                                                                      \
        if (st != DDPM_OK) goto done;                                                                                  \
    } while (0)

#endif
