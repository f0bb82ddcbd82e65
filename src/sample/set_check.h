/* set_check.h - comparing a set of pictures on disk with its manifest; nothing is changed, and no lock is taken. */
#ifndef DDPM_SET_CHECK_H
#define DDPM_SET_CHECK_H
#include "sample/picture_set.h"

typedef enum set_fault {
    SET_MISSING, /* no file, or no line of the manifest */
    SET_DAMAGED, /* differs from the manifest */
    SET_UNKNOWN, /* a file of a picture, or of pictures, that is not of the set */
    SET_FAULTS
} set_fault;

/* Called for each fault with the name of the file or picture. */
typedef void set_reporter(void *context, set_fault fault, const char *name);

typedef struct set_result {
    int64_t pictures;          /* of the set and of the manifest */
    int64_t fault[SET_FAULTS]; /* pictures or files of each kind */
} set_result;

/* DDPM_ENOINPUT: there is no manifest; DDPM_EDATA: it is none; DDPM_ESAVED: stop() */
DDPM_MUST_CHECK ddpm_status set_check(const picture_set *set, set_reporter *report, bool (*stop)(void), void *context,
                                      set_result *result, err *e);

#endif
