#include "config/lr_step_rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A number without sign, at *at, which moves past it. */
static bool read_factor(const char **at, double *factor)
{
    const size_t length = strspn(*at, "0123456789.eE+-");
    char *end;
    if (length == 0 || **at == '-' || **at == '+') return false;
    *factor = strtod(*at, &end);
    if (end != *at + length || !(*factor >= 0 && *factor <= 1e6)) return false;
    *at = end;
    return true;
}

static bool read_step(const char **at, int64_t *step)
{
    const size_t length = strspn(*at, "0123456789");
    if (length == 0 || length > 13) return false;
    *step = strtoll(*at, NULL, 10);
    *at += length;
    return true;
}

bool lr_step_rules_read(const char *text, lr_step_rules *out, char *why, size_t cap)
{
    const char *at = text;
    int64_t before = 0;
    memset(out, 0, sizeof *out);
    for (;;) {
        const char *piece = at;
        const bool last = !strchr(at, ',');
        if (!read_factor(&at, &out->factor[out->pieces]) ||
            (!last && (*at++ != ':' || !read_step(&at, &out->until[out->pieces]))) || *at != (last ? '\0' : ',')) {
            (void)snprintf(why, cap, "'%.40s' is not %s", piece,
                           last ? "a factor, which the last piece must be" : "FACTOR:STEP, as in 1:10,0.1:20,0.01");
            return false;
        }
        if (last) return true;
        if (out->until[out->pieces] <= before) {
            (void)snprintf(why, cap, "step %lld does not come after step %lld", (long long)out->until[out->pieces],
                           (long long)before);
            return false;
        }
        before = out->until[out->pieces];
        at++;
        if (++out->pieces == LR_STEP_RULES && strchr(at, ',')) {
            (void)snprintf(why, cap, "has more than %d pieces", LR_STEP_RULES + 1);
            return false;
        }
    }
}
