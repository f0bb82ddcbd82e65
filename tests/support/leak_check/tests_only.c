/* Part of every test program: LeakSanitizer reports the leaks of the tests, but not Criterion's own.
 *
 * Criterion forks a process for each test.  The parent process, which only starts the tests, leaks a few bytes of
 * Criterion's; BXFI_MAP is the environment variable that Criterion's process library sets in a child process. */
#include <stdlib.h>

int __lsan_is_turned_off(void);
__attribute__((visibility("default"))) int __lsan_is_turned_off(void) { return getenv("BXFI_MAP") == NULL; }
