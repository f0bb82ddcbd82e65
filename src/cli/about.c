#include "cli/about.h"
#include "backend/backend.h"
#include "base/instruction_set.h"

#include <commit.h> /* made by the build */

#ifndef DDPM_BUILD_TYPE
#define DDPM_BUILD_TYPE "unknown"
#endif
#define TEXT_OF(x)   #x
#define NUMBER_OF(x) TEXT_OF(x)
#ifdef __clang__
#define COMPILER "Clang " NUMBER_OF(__clang_major__) "." NUMBER_OF(__clang_minor__) "." NUMBER_OF(__clang_patchlevel__)
#else
#define COMPILER "GCC " __VERSION__
#endif

const char *about_commit(void) { return DDPM_COMMIT; }

void about_build(char *text, size_t cap)
{
    (void)snprintf(text, cap, "%s by %s for %s", DDPM_BUILD_TYPE, COMPILER, instruction_set_compiled());
}

void about_version(FILE *out)
{
    char build[200], libraries[400];
    about_build(build, sizeof build);
    backend_libraries(NULL, libraries, sizeof libraries);
    fprintf(out, "ddpm %s\ncommit: %s\nbuild: %s\nprocessor: %s\n%s\n", DDPM_VERSION, about_commit(), build,
            instruction_set_here(), libraries);
}
