/* id_ranges.h - the pictures of a set as ranges of ids: "0-49999", "0-99,200,300-399".
 *
 * Ranges are kept in ascending order, and those that touch are one, so that every way of writing a set is the same. */
#ifndef DDPM_ID_RANGES_H
#define DDPM_ID_RANGES_H
#include "base/err.h"
#include <stdint.h>

enum { ID_RANGES = 1000, ID_TEXT = 24 * ID_RANGES };
#define ID_END ((int64_t)1 << 32) /* ids are in [0, ID_END): 32 bits of the random generator's counter */

typedef struct id_range {
    int64_t first, last;
} id_range;

typedef struct id_ranges {
    int n;
    int64_t count; /* ids in all */
    id_range range[ID_RANGES];
} id_ranges;

/* DDPM_EINVAL: not a list of ids and ranges, a range that runs backwards, an id of 2^32 or more, an id that is named
 * twice, more than ID_RANGES ranges. */
DDPM_MUST_CHECK ddpm_status id_ranges_parse(id_ranges *r, const char *text, err *e);
void id_ranges_first(id_ranges *r, int64_t count);          /* ids 0 .. count - 1, count >= 1 */
int64_t id_ranges_id(const id_ranges *r, int64_t position); /* the id at a position in [0, count) */
int64_t id_ranges_position(const id_ranges *r, int64_t id); /* the position of an id; -1: not in the set */
void id_ranges_text(const id_ranges *r, char out[ID_TEXT]); /* "0-99,200" */

#endif
