/* ok.h - OK(call): the call must succeed.  The test has an `err why`, whose message is shown if the call fails. */
#ifndef DDPM_TESTS_OK_H
#define DDPM_TESTS_OK_H
#include "base/err.h"

#include <criterion/criterion.h>

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const ddpm_status ok_ = (call);                                                                                \
        cr_assert_eq(ok_, DDPM_OK, "%s: %s: %s", #call, err_name(ok_), why.text);                                      \
    } while (0)

#endif
