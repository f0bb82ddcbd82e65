/* label_list.h - the class label of each picture of a set. */
#ifndef DDPM_LABEL_LIST_H
#define DDPM_LABEL_LIST_H
#include "io/class_names.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct label_range {
    int first, last; /* inclusive */
} label_range;

typedef struct label_list {
    int classes; /* of the network, without the null class; 0: it has none */
    int64_t n;   /* labels in the ranges; 0: balanced */
    int n_range;
    label_range *range; /* owned */
    char *text;         /* as it was parsed, with numbers instead of names; owned */
} label_list;

/* Is a text for label_list_parse() the word "balanced", or empty? */
bool label_list_is_balanced(const char *text);

/* The classes that pictures may have: the rows of the embedding, or without the null class if that is the last row. */
int label_classes(int embeds, bool without_null, int null_class);

/* text: "balanced" or "", or labels, ranges and names in the order of the pictures, "3,7,10-19", "[cat, 3]" or
 * "cat,\"a, b\"".  In quotes everything is a name.  NULL: the classes have no names.
 * DDPM_EINVAL: not of this form, a label that is not in [0, classes), a name that no class has, or a number that is also
 * the name of another class. */
DDPM_MUST_CHECK ddpm_status label_list_parse(const char *text, int classes, const class_names *names, label_list *out,
                                             err *e);
void label_list_free(label_list *l); /* accepts a zeroed list */

/* balanced: id mod classes; otherwise label id mod n of the list; -1: the network has no classes. */
int label_of(const label_list *l, int64_t id);
/* The same, as picture_set.label wants it. */
int64_t label_of_picture(const void *list, int64_t id);

#endif
