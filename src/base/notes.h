/* notes.h - remarks for the caller's log: things that were accepted, and that a user should know of. */
#ifndef DDPM_NOTES_H
#define DDPM_NOTES_H

typedef struct notes {
    char text[1000]; /* "" or remarks with "; " between them, one line */
} notes;

/* Add one remark, its paths shortened where it does not fit; left out where next to nothing is left.  A NULL `n` drops it. */
__attribute__((format(printf, 2, 3))) void notes_add(notes *n, const char *fmt, ...);

#endif
