/* picture_format.h - the formats that a set of pictures is written in, as a table of operations: format_png.c,
 * format_tar.c, format_npz.c.  A new format is a file with its row, and the row's name in picture_format.c. */
#ifndef DDPM_PICTURE_FORMAT_H
#define DDPM_PICTURE_FORMAT_H
#include "io/npz_write.h"
#include "sample/picture_set.h"

/* An open set. */
typedef struct picture_store {
    const picture_set *set;
    bool reading;    /* only compare: nothing is written */
    int ranks;       /* processes that draw the set, for messages */
    int fd;          /* npz: the file; tar: the shard that is being written; -1: none */
    int64_t unit;    /* tar: number of that shard */
    npz_frame frame; /* npz */
    uint32_t crc;    /* npz: of the pictures that were gathered */
} picture_store;

/* A picture on its way to the disk. */
typedef struct picture_item {
    int64_t id;
    picture_unit *unit;
    int index;             /* within the unit */
    const uint8_t *pixels; /* [h, w, c] */
    uint8_t *png;          /* the encoded file, owned; NULL in a format without */
    const uint8_t *bytes;  /* what is stored: the PNG file or the pixels */
    picture_record record; /* of these bytes */
} picture_item;

/* An operation may be NULL if there is nothing to do. */
struct picture_format {
    const char *name;
    bool png;   /* pictures are encoded */
    bool files; /* each picture is a file of the name in the manifest: others may be added to the set later */
    int shard;  /* pictures of a unit; 0: as requested */
    /* Is the file of this name, in the set's folder, one that a set of this format has? */
    bool (*owns)(const char *name);
    /* Has this set a file of this name?  NULL for a file for each picture. */
    bool (*expects)(const picture_set *set, const char *name);
    /* The name in the manifest. */
    void (*name_picture)(const picture_set *set, int64_t id, char out[PICTURE_NAME]);
    /* Open the store. */
    ddpm_status (*begin)(picture_store *s, err *e);
    /* Set .done of the unit's pictures that are there as their records say, and complete these records.  A PNG picture
     * without a record is there if it is undamaged, and gets one.  *whole: nothing is left to be done for the unit. */
    ddpm_status (*check)(picture_store *s, picture_unit *u, bool *whole, err *e);
    /* Prepare a unit, which check() found incomplete, to be continued. */
    ddpm_status (*reopen)(picture_store *s, picture_unit *u, err *e);
    /* Store a picture: on any thread, in any order; then, in the order of the positions and on one thread at a time. */
    ddpm_status (*put)(picture_store *s, const picture_item *item, err *e);
    ddpm_status (*append)(picture_store *s, const picture_item *item, err *e);
    /* All pictures of the unit are stored. */
    ddpm_status (*close)(picture_store *s, picture_unit *u, err *e);
    bool (*is_closed)(const picture_store *s, const picture_unit *u);
    /* Called for all units in their order once the set is complete, and then end(). */
    ddpm_status (*gather)(picture_store *s, picture_unit *u, err *e);
    ddpm_status (*end)(picture_store *s, err *e);
    /* While reading, after gather() of all units: is the rest of the files as it must be? */
    ddpm_status (*check_end)(picture_store *s, bool *whole, err *e);
    /* Read a stored picture's pixels [h, w, c]. */
    ddpm_status (*read)(picture_store *s, int64_t position, uint8_t *pixels, err *e);
};

extern const picture_format format_png, format_tar, format_npz;
extern const picture_format *const picture_formats[];         /* ends with NULL */
const picture_format *picture_format_named(const char *name); /* NULL: none, also for a NULL name */

DDPM_MUST_CHECK ddpm_status picture_store_open(picture_store *s, const picture_set *set, bool reading, err *e);
void picture_store_close(picture_store *s);

/* Is the PNG file in memory a picture of the set as its record says, or, without a known record, an undamaged one?
 * Completes the record. */
bool picture_png_is_good(const picture_set *set, const void *bytes, size_t size, picture_record *r);
/* Decode a PNG file in memory, of the set's size. */
DDPM_MUST_CHECK ddpm_status picture_png_decode(const picture_set *set, const void *bytes, size_t size, const char *name,
                                               uint8_t *pixels, err *e);
/* The digits at the beginning of `name` are followed by `end` and nothing else. */
bool picture_name_is(const char *name, int digits, const char *end);

#endif
