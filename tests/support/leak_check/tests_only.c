/* Part of every test program: LeakSanitizer reports the leaks of the tests, and none of Criterion's own.
 *
 * Criterion forks a process for each test.  The parent process, which only starts them, loses a few bytes of
 * Criterion's; BXFI_MAP is the environment variable that Criterion's process library sets in a child. */
#include <stdlib.h>

int __lsan_is_turned_off(void);
__attribute__((visibility("default"))) int __lsan_is_turned_off(void) { return getenv("BXFI_MAP") == NULL; }
