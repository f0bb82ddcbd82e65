/* json_in.h - typed, strict reading of a JSON object by jansson, with the key in every message.
 *
 * Errors are sticky: getters need no check and return the fallback after a failure;
 * json_in_close() returns the first failure and notes the keys that were never requested.
 * Strict: duplicate keys, trailing text, NUL in strings and invalid UTF-8 are errors. */
#ifndef DDPM_JSON_IN_H
#define DDPM_JSON_IN_H
#include "base/err.h"
#include "base/notes.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JSON_IN_MAX_KEYS = 128,
    JSON_IN_MAX_BYTES = 1 << 20,
    JSON_IN_MAX_VALUES = 1 << 14, /* values and keys: limits jansson's tree to about 3 MB */
};

typedef struct json_in {
    json_t *root;      /* an object; owned */
    const char *where; /* the file's name, for messages; borrowed */
    const char *requested[JSON_IN_MAX_KEYS];
    int n_requested;
    ddpm_status st;
    err *e; /* borrowed; receives the first failure */
} json_in;

/* Parse `size` bytes of text as a JSON object.  DDPM_EDATA: no object, or more than JSON_IN_MAX_VALUES values. */
json_in json_in_text(const char *text, size_t size, const char *where, err *e);
/* Parse a file of at most JSON_IN_MAX_BYTES.  Errors: those of file_read() and json_in_text(). */
json_in json_in_file(const char *path, err *e);

/* The value of the key, borrowed; NULL if the key is absent, a JSON null value if it is null. */
const json_t *json_in_get(json_in *j, const char *key);
bool json_in_null(json_in *j, const char *key); /* absent or null */
/* Numbers must lie in [min, max].  A missing key yields the fallback; null or another type is an error. */
int json_in_int(json_in *j, const char *key, int fallback, int min, int max);
double json_in_real(json_in *j, const char *key, double fallback, double min, double max);
bool json_in_bool(json_in *j, const char *key, bool fallback);
/* The index of the value in names[n]; any other text is an error whose message lists the names. */
int json_in_choice(json_in *j, const char *key, int fallback, const char *const *names, int n);
/* Read a non-empty array of at most `cap` numbers in [min, max]; returns their number, 0 if the key is absent. */
int json_in_ints(json_in *j, const char *key, int *to, int cap, int min, int max);

/* Fail with "where: message", unless an earlier failure is stored. */
__attribute__((format(printf, 2, 3))) void json_in_fail(json_in *j, const char *fmt, ...);

/* Free the object.  Notes the keys that were not requested, except those that begin with '_'. */
DDPM_MUST_CHECK ddpm_status json_in_close(json_in *j, notes *n);

#endif
