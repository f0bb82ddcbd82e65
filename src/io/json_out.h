/* json_out.h - writing JSON, byte for byte as Python's json module and serde_json do.
 *
 * Errors are sticky: the calls need no check, json_out_finish() returns the first failure.  Keys are
 * written in the order of the calls; callers that need sorted keys must add them sorted. */
#ifndef DDPM_JSON_OUT_H
#define DDPM_JSON_OUT_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_out {
    char *text; /* the text so far, with a final 0; owned */
    int size, capacity;
    int depth;    /* open brackets */
    bool compact; /* without blanks; else as json.dumps(indent=2) */
    bool empty;   /* the innermost bracket has no member yet */
    ddpm_status st;
    err *e; /* borrowed; receives the first failure */
} json_out;

json_out json_out_begin(bool compact, err *e);

/* `key` is NULL inside an array and at the top level.  `bracket` is '{' or '[' to open, '}' or ']' to close. */
void json_out_open(json_out *j, const char *key, char bracket);
void json_out_close(json_out *j, char bracket);
void json_out_int(json_out *j, const char *key, int64_t v);
void json_out_real(json_out *j, const char *key, double v); /* finite; the shortest text that reads back as v */
/* The same, but infinities as Python's json module writes them, which is not JSON. */
void json_out_real_or_infinity(json_out *j, const char *key, double v);
void json_out_bool(json_out *j, const char *key, bool v);
void json_out_text(json_out *j, const char *key, const char *v); /* UTF-8; NULL is written as null */

/* Return the text with a final 0 that *size does not count; free with free().  On failure *text is NULL.
 * In either case the writer owns nothing afterwards. */
DDPM_MUST_CHECK ddpm_status json_out_finish(json_out *j, char **text, size_t *size);

/* As json_out_finish(), but writes the text and a final newline to a file. */
DDPM_MUST_CHECK ddpm_status json_out_finish_file(json_out *j, const char *path);

#endif
