/* Names of instruction sets, against what the system says of the processor. */
#include "base/instruction_set.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

static const char *const names[] = {"SSE2", "SSE4.2", "AVX2", "AVX-512"};

static int rank_of(const char *name)
{
    for (int i = 0; i < LENGTH(names); i++)
        if (!strcmp(name, names[i])) return i;
    return -1;
}

/* Is " word " among the flags that the first processor has? */
static bool has(const char *flags, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = flags; (at = strstr(at, word)) != NULL; at += n)
        if (at[-1] == ' ' && (at[n] == ' ' || at[n] == '\n')) return true;
    return false;
}

Test(instruction_set, is_what_the_processor_has)
{
    static const char *const flags_of[][4] = {
        {"sse2"}, {"sse4_2"}, {"avx2", "fma"}, {"avx512f", "avx512bw", "avx512dq", "avx512vl"}};
    char *line = NULL;
    size_t cap = 0;
    int best = -1;
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && getline(&line, &cap, f) > 0) {
        if (strncmp(line, "flags", 5) != 0) continue;
        for (int i = 0; i < LENGTH(names); i++) {
            bool all = true;
            for (int k = 0; k < 4 && flags_of[i][k]; k++) all = all && has(line, flags_of[i][k]);
            if (all) best = i;
        }
        break;
    }
    if (f) fclose(f);
    free(line);
    if (best < 0) cr_skip_test("/proc/cpuinfo has no flags of x86 processors");
    cr_expect_eq(rank_of(instruction_set_here()), best, "%s", instruction_set_here());
    cr_expect(rank_of(instruction_set_compiled()) >= 0 && rank_of(instruction_set_compiled()) <= best, "%s",
              instruction_set_compiled());
}
