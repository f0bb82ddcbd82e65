#include "base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* WORD_MOST: longer words (usually paths) are cut to this many bytes if the message is too long. */
enum { WORD_MOST = 120, DOTS = 3, LINE_MOST = 1024 };

static bool inside_character(char c) { return ((unsigned char)c & 0xc0) == 0x80; } /* of UTF-8 */

/* Replace the middle of the `n` bytes at `at` by "...", so that about `keep` are left; returns their number. */
static size_t cut_middle(char *at, size_t n, size_t keep)
{
    size_t head = (keep - DOTS) / 2, tail = n - (keep - DOTS - head);
    while (head > 0 && inside_character(at[head])) head--;
    while (tail < n && inside_character(at[tail])) tail++;
    memcpy(at + head, "...", DOTS);
    memmove(at + head + DOTS, at + tail, n - tail);
    return head + DOTS + n - tail;
}

/* Shorten text[] to `most` bytes: first cut overlong words, so that the sentence around them stays, then the middle of
 * the text. */
static void shorten(char *text, size_t most)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n && n > most;) {
        const size_t word = strcspn(text + i, " ");
        if (word > WORD_MOST) {
            const size_t left = cut_middle(text + i, word, WORD_MOST);
            memmove(text + i + left, text + i + word, n - i - word + 1);
            n -= word - left;
        }
        i += strcspn(text + i, " ") + 1;
    }
    if (n > most) text[cut_middle(text, n, most)] = '\0';
}

/* Format the message, with `why` appended, into out[cap], cap <= LINE_MOST.  If there is no memory to shorten an
 * overlong message, it is truncated at the end. */
static void set_text(char *out, size_t cap, const char *why, const char *fmt, va_list ap)
{
    char text[LINE_MOST], *whole = text; /* the arguments may point into out */
    va_list again;
    va_copy(again, ap);
    const int length = vsnprintf(text, cap, fmt, ap);
    const size_t n = (length > 0 ? (size_t)length : 0) + strlen(why);
    if (n >= cap) whole = malloc(n + 1);
    if (whole && whole != text) {
        (void)vsnprintf(whole, n + 1, fmt, again);
        strcat(whole, why);
        shorten(whole, cap - 1);
    } else {
        whole = text;
        strncat(text, why, cap - 1 - strlen(text));
    }
    va_end(again);
    strcpy(out, whole);
    if (whole != text) free(whole);
    for (char *c = out; *c; c++) /* file names may contain newlines; the message must stay one line */
        if ((unsigned char)*c < ' ') *c = '?';
}

void err_line(char *out, size_t cap, const char *fmt, va_list ap) { set_text(out, cap, "", fmt, ap); }

ddpm_status err_set(err *e, ddpm_status status, const char *fmt, ...)
{
    if (!e) return status;
    va_list ap;
    va_start(ap, fmt);
    set_text(e->text, sizeof e->text, "", fmt, ap);
    va_end(ap);
    return e->status = status;
}

ddpm_status err_errno(err *e, ddpm_status status, int errnum, const char *fmt, ...)
{
    if (!e) return status;
    char why[128] = "", end[160];
    const char *text = strerror_r(errnum, why, sizeof why); /* the GNU form returns the text */
    (void)snprintf(end, sizeof end, ": %s", text);
    va_list ap;
    va_start(ap, fmt);
    set_text(e->text, sizeof e->text, end, fmt, ap);
    va_end(ap);
    return e->status = status;
}

const char *err_name(ddpm_status status)
{
    switch (status) {
#define NAME(name, code, meaning)                                                                                      \
    case DDPM_##name: return #name;
        DDPM_STATUS_LIST(NAME)
#undef NAME
    }
    return "unknown";
}

const char *err_meaning(ddpm_status status)
{
    switch (status) {
#define MEANING(name, code, meaning)                                                                                   \
    case DDPM_##name: return meaning;
        DDPM_STATUS_LIST(MEANING)
#undef MEANING
    }
    return "unknown status";
}
