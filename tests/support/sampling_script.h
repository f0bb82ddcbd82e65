/* sampling_script.h - for tests of sets of pictures: a script in place of a network draws them, by sampling_job.h.
 *
 * Any failure in these functions fails the running test. */
#ifndef DDPM_SAMPLING_SCRIPT_H
#define DDPM_SAMPLING_SCRIPT_H
#include "base/file.h"
#include "sample/picture_format.h"
#include "sample/sampling_job.h"
#include "sample/set_check.h"

enum { H = 5, W = 7, C = 3, D = H * W * C }; /* of the pictures */

typedef struct sampling_script {
    int64_t drawn;
    int calls, fails_in, stops_in; /* call number from 1; 0: never */
    int pauses, stops_at;          /* which the test counts; 0: never */
    bool stop;
    void (*meanwhile)(void); /* called with the first batch; NULL: not called */
} sampling_script;

extern char root[PATH_CAP]; /* the test's folder */
extern err why;             /* of the last failure */
extern picture_set set;     /* of the last make_set() */
extern sampling_script script;

void script_begin(void); /* a test's .init and .fini */
void script_end(void);
void script_clear(void); /* empty the folder */

uint8_t value(int64_t id, int i); /* byte i of a picture */
int64_t label(const void *context, int64_t id);

/* `set` becomes that of root/name; the folder is created if it is missing. */
void make_set(const char *name, const picture_format *format, const char *ids);
ddpm_status run(int rank, int ranks, int batch, sampling_tally *t); /* one rank of so many */
void draw_set(int64_t expected);                                    /* by one rank; so many pictures are new */
bool same_folders(const char *a, const char *b);                    /* in the test's folder */
void flip(const char *name, long at);                               /* a bit of the set's file */
int64_t faults(set_fault fault);                                    /* as set_check() counts them */

#endif
