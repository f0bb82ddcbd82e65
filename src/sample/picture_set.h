/* picture_set.h - a set of pictures on disk: which ids, in which format, and how it is cut into units.
 *
 * The pictures stand in the order of their ids; a unit is `shard` of them, however many processes draw the set.  What is
 * unfinished lies in the folder PICTURE_WORK of the set's folder, which is removed when the set is complete:
 *
 *   0000012.journal   records of the unit's pictures (unit_journal.h)
 *   00012.tar         a shard that is being written; PICTURE_NPZ: the file that is being filled
 *   000123.png        a picture before it is renamed into place */
#ifndef DDPM_PICTURE_SET_H
#define DDPM_PICTURE_SET_H
#include "base/file.h"
#include "sample/id_ranges.h"

#define PICTURE_WORK ".ddpm-sampling"
#define PICTURE_NPZ  "pictures.npz" /* in it */
/* The files beside the pictures; they are written by way of that folder. */
#define SAMPLE_DESCRIPTION "sampling.json"
#define SAMPLE_SET         "set.json"
#define MANIFEST           "manifest.xxh128"
#define OVERVIEW           "grid.png"
enum {
    PICTURE_NAME = 64,        /* bytes of a file's name within the set's folder, with the final 0 */
    PICTURE_HASH = 16,        /* bytes of XXH3's 128-bit hash, most significant first, as xxhsum prints it */
    PICTURE_SUBFOLDER = 1000, /* pictures of a subfolder */
};

/* A picture as it is stored: the PNG file's bytes, or the pixels in an npz file. */
typedef struct picture_record {
    bool known;   /* the hash is; size and crc are 0 where it comes from the manifest */
    bool done;    /* the picture was found, or written, as the record says */
    uint32_t crc; /* CRC-32 */
    int64_t size; /* bytes */
    uint8_t hash[PICTURE_HASH];
} picture_record;

typedef struct picture_unit {
    int64_t number, first; /* of the unit; the position of its first picture */
    int n;
    int missing;            /* pictures without .done */
    int64_t size;           /* tar: bytes of the shard's whole members */
    picture_record *record; /* [n], owned */
} picture_unit;

typedef struct picture_format picture_format;

typedef struct picture_set {
    char folder[PATH_CAP];
    const picture_format *format;
    id_ranges ids;
    int shard;                                         /* pictures of a unit */
    bool subfolders;                                   /* png: 000/000123.png */
    int h, w, c;                                       /* c is 1 or 3 */
    int64_t (*label)(const void *context, int64_t id); /* the label of a picture; NULL: there are none */
    const void *label_context;
    uint64_t stamp; /* of the description: records of another description are not read */
} picture_set;

int64_t picture_set_units(const picture_set *set);
/* The positions of unit u, without records. */
picture_unit picture_set_unit(const picture_set *set, int64_t u);

void picture_name(int64_t id, char out[PICTURE_NAME]); /* "000042.png" */
int64_t picture_id(const char *name);                  /* the inverse; -1: not a picture's name */
/* SET/name and SET/PICTURE_WORK/name into out[PATH_CAP]. */
DDPM_MUST_CHECK ddpm_status picture_set_path(const picture_set *set, const char *name, char *out, err *e);
DDPM_MUST_CHECK ddpm_status picture_work_path(const picture_set *set, const char *name, char *out, err *e);
DDPM_MUST_CHECK ddpm_status picture_work_make(const char *folder, err *e);
/* Write folder/name by way of the folder of unfinished files, which must exist; fsynced.  Nothing else may be writing it. */
DDPM_MUST_CHECK ddpm_status picture_work_replace(const char *folder, const char *name, const void *bytes, size_t size,
                                                 err *e);
/* Remove the folder of unfinished files as far as it is of this program. */
void picture_work_remove(const char *folder);

void picture_hash(const void *bytes, size_t size, picture_record *r); /* size, crc, hash, known */
bool picture_hash_is(const void *bytes, size_t size, const picture_record *r);

/* Read or write exactly `size` bytes at an offset; false, with errno, where it fails.  Reading sets it to 0 where the file
 * ends before. */
bool picture_pread(int fd, void *to, size_t size, int64_t at);
bool picture_pwrite(int fd, const void *from, size_t size, int64_t at);

#endif
