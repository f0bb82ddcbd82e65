/* fuzz_check.h - what every fuzz target demands of a parser.
 *
 * tools/fuzz builds and runs the targets.  The seeds are in tests/fuzz/corpus (image: tests/data/fixtures,
 * safetensors: tests/io/bad); the tests read the seeds in every build. */
#ifndef DDPM_FUZZ_CHECK_H
#define DDPM_FUZZ_CHECK_H
#include "base/err.h"
#include <stdbool.h>
#include <string.h>

/* A trap, so that it works in any build and under any sanitizer. */
#define FUZZ_CHECK(x)                                                                                                  \
    do {                                                                                                               \
        if (!(x)) __builtin_trap();                                                                                    \
    } while (0)

/* Success leaves no message; failure leaves one line that opens with the name of the input. */
static inline bool fuzz_message_is_fine(ddpm_status st, const err *e)
{
    if (st == DDPM_OK) return e->text[0] == '\0';
    return e->status == st && strlen(e->text) > 8 && strlen(e->text) <= 200 && !strchr(e->text, '\n') &&
           !strncmp(e->text, "fuzz: ", 6);
}

#endif
