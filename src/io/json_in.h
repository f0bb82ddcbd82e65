/* json_in.h - typed reading of a JSON object over jansson, strict and with the key in every message.
 *
 * A sticky reader: the getters need no check and return the fallback after a failure;
 * json_in_close() returns the first failure, and notes the keys nobody asked for.
 * Strict: duplicate keys, trailing text, NUL in strings and bad UTF-8 are refused. */
#ifndef DDPM_JSON_IN_H
#define DDPM_JSON_IN_H
#include "base/err.h"
#include "base/notes.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    JSON_IN_MAX_KEYS = 64,
    JSON_IN_MAX_BYTES = 1 << 20,
    JSON_IN_MAX_VALUES = 1 << 14, /* values and keys: a tree of no more than about 3 MB */
};

typedef struct json_in {
    json_t *root;      /* an object; owned */
    const char *where; /* the file's name, for messages; borrowed */
    const char *asked[JSON_IN_MAX_KEYS];
    int n_asked;
    ddpm_status st;
    err *e; /* borrowed; takes the first failure */
} json_in;

/* `size` bytes of text as a JSON object.  DDPM_EDATA: not one, or of more than JSON_IN_MAX_VALUES values. */
json_in json_in_text(const char *text, size_t size, const char *where, err *e);
/* A file of at most JSON_IN_MAX_BYTES; file_read()'s and json_in_text()'s errors. */
json_in json_in_file(const char *path, err *e);

/* The value at key, or NULL where the key is absent.  Borrowed.  null comes back as a JSON null. */
const json_t *json_in_get(json_in *j, const char *key);
bool json_in_null(json_in *j, const char *key); /* absent or null */
/* Numbers must lie in [min, max]; a missing key gives the fallback; another type or null fails. */
int json_in_int(json_in *j, const char *key, int fallback, int min, int max);
double json_in_real(json_in *j, const char *key, double fallback, double min, double max);
bool json_in_bool(json_in *j, const char *key, bool fallback);
/* An index into names[n]; any other text fails and the message lists the names. */
int json_in_choice(json_in *j, const char *key, int fallback, const char *const *names, int n);
/* A non-empty array of at most cap; 0 if absent.  As above for the elements. */
int json_in_ints(json_in *j, const char *key, int *to, int cap, int min, int max);

/* Fail with "where: message" unless something failed before. */
__attribute__((format(printf, 2, 3))) void json_in_fail(json_in *j, const char *fmt, ...);

/* Frees the object.  Keys that were not asked for, but for those that begin with '_', are noted. */
DDPM_MUST_CHECK ddpm_status json_in_close(json_in *j, notes *n);

#endif
