/* json_members.h - JSON from strangers in little memory: a tree of jansson's takes up to 50 times its text.
 *
 * The members of an object are found one by one, and each is handed to jansson by itself, which judges it. */
#ifndef DDPM_JSON_MEMBERS_H
#define DDPM_JSON_MEMBERS_H
#include <stdbool.h>
#include <stddef.h>

typedef struct json_slice {
    const char *text; /* borrowed */
    size_t size;
} json_slice;

typedef enum json_walk { JSON_MEMBER, JSON_END, JSON_MALFORMED } json_walk;

/* The members of the object that begins at at[0] = '{' and ends at `end`, blanks behind it included. */
typedef struct json_members {
    const char *at, *end;
    bool begun;
} json_members;

/* The next member: `key` with its quotes, and `value` up to the comma or bracket behind it, neither of which was
 * judged yet.  JSON_END: there is none, and nothing but blanks follows the object. */
json_walk json_members_next(json_members *m, json_slice *key, json_slice *value);

/* How many values a text holds at most: what decides how much memory its tree takes. */
size_t json_count_values(const char *text, size_t size);

#endif
