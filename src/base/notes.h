/* notes.h - remarks for the caller's log: accepted conditions that the user should know about. */
#ifndef DDPM_NOTES_H
#define DDPM_NOTES_H

typedef struct notes {
    char text[1000]; /* "" or remarks with "; " between them, one line */
} notes;

/* Add one remark.  Its paths are shortened if it does not fit; it is dropped if almost no room is left, or if `n` is
 * NULL. */
__attribute__((format(printf, 2, 3))) void notes_add(notes *n, const char *fmt, ...);

#endif
