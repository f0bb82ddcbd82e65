/* json_members.h - untrusted JSON in bounded memory: jansson's tree can take 50 times the size of its text.
 *
 * This scanner splits an object into its members; each is then parsed and validated by jansson separately. */
#ifndef DDPM_JSON_MEMBERS_H
#define DDPM_JSON_MEMBERS_H
#include <stdbool.h>
#include <stddef.h>

typedef struct json_slice {
    const char *text; /* borrowed */
    size_t size;
} json_slice;

typedef enum json_walk { JSON_MEMBER, JSON_END, JSON_MALFORMED } json_walk;

/* Scans the object that begins at at[0] = '{'; `end` is the end of the text, which may have trailing blanks. */
typedef struct json_members {
    const char *at, *end;
    bool begun;
} json_members;

/* The next member: `key` with its quotes, and `value` up to the following comma or bracket, neither of them validated.
 * JSON_END: no more members, and only blanks follow the object. */
json_walk json_members_next(json_members *m, json_slice *key, json_slice *value);

/* An upper bound on the number of values in a text, which decides the memory of its tree. */
size_t json_count_values(const char *text, size_t size);

#endif
