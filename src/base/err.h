/* err.h - a status and its message of one line, set where the error occurred.
 *
 * Every function that can fail takes an `err *` as its last parameter and returns a ddpm_status.
 * The function that detects the error calls err_set() once, with place and numbers; its callers
 * only return the status. */
#ifndef DDPM_ERR_H
#define DDPM_ERR_H
#include "ddpm_status.h"
#include <stdarg.h>
#include <stddef.h>

typedef struct err {
    ddpm_status status;
    char text[600]; /* what, where, what to do; no newline */
} err;

/* Store status and message, replacing the previous ones, and return status.  With a NULL `e` only return status.
 * If a message is too long for the buffer, the middle of its long words (paths) is cut out. */
__attribute__((format(printf, 3, 4))) ddpm_status err_set(err *e, ddpm_status status, const char *fmt, ...);

/* As err_set(), with ": " and strerror(errnum) appended. */
__attribute__((format(printf, 4, 5))) ddpm_status err_errno(err *e, ddpm_status status, int errnum, const char *fmt,
                                                            ...);

/* Format one line into out[cap], cap <= 1024, shortened like an error message: for remarks that are not errors. */
__attribute__((format(printf, 3, 0))) void err_line(char *out, size_t cap, const char *fmt, va_list ap);

/* "EDATA" and "an image ... is damaged"; never NULL. */
const char *err_name(ddpm_status status);
const char *err_meaning(ddpm_status status);

/* Propagate a failure.  TRY in functions that own nothing; TRY_GOTO, with a local `ddpm_status st` and one `done:`
 * label that frees zero-initialized locals, in functions that own resources. */
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
