/* class_names.h - what the rows of a class embedding mean: classes.json in the folder of a pipeline or checkpoint.
 *
 *   {"id2label": {"0": "airplane", "1": "automobile"}, "null_class": 2}
 *
 * id2label is that of Hugging Face's configs; it has the classes 0 to n - 1, or is missing if they are only numbers.
 * null_class is the row that label dropout trained in place of a class, the last one, or null if there is none. */
#ifndef DDPM_CLASS_NAMES_H
#define DDPM_CLASS_NAMES_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum {
    CLASS_NAMES_MOST = 1000000,
    CLASS_NAMES_BYTES = 64 << 20, /* of the file, at most */
    CLASS_NAME_BYTES = 255        /* of a name, at most */
};

typedef struct class_names {
    int n;          /* names; 0: the classes are only numbers */
    char **name;    /* [n], UTF-8; owned */
    int capacity;   /* of name */
    size_t bytes;   /* of the names in the file, at most */
    bool says_null; /* null_class is known */
    int null_class; /* index of the row; -1: the network has none */
} class_names;      /* zeroed: nothing is known */

/* Add the name of class `names->n`.  DDPM_EINVAL: it is empty, too long or not UTF-8, or all
 * names together are too long. */
DDPM_MUST_CHECK ddpm_status class_names_add(class_names *names, const char *name, err *e);
void class_names_free(class_names *names); /* accepts a zeroed struct; leaves it zeroed */

/* The class of this name, -1: none has it. */
int class_names_find(const class_names *names, const char *name);

/* Read dir/classes.json for an embedding of `rows` rows; without the file nothing is known.
 * DDPM_EDATA: not such a file, or not of such an embedding: more names than rows, or a null class that is not the last
 * row or has a name of its own. */
DDPM_MUST_CHECK ddpm_status class_names_read(const char *dir, int rows, class_names *out, err *e);
/* Write dir/classes.json; nothing if nothing is known. */
DDPM_MUST_CHECK ddpm_status class_names_write(const class_names *names, const char *dir, err *e);

/* The text of such a file; `where` begins the messages. */
DDPM_MUST_CHECK ddpm_status class_names_parse(const char *text, size_t size, const char *where, int rows,
                                              class_names *out, err *e);

#endif
