/* norm_cut.h - shapes of the tests of norm_act, and how its launches split them into blocks. */
#ifndef DDPM_TEST_NORM_CUT_H
#define DDPM_TEST_NORM_CUT_H
#include "norm_act.cuh"

static const size_t all_there_is = 227 * 1024; /* shared memory of a block on an H200 */
static const storage types[] = {STORE_F32, STORE_BF16};

struct shape {
    int n, hw, c1, c2, groups;
    int c() const { return c1 + c2; }
};

inline norm_cut cut_of(const shape &s, storage type, bool backward, size_t shared, bool *fits)
{
    norm_act_args a = {};
    norm_cut u = {};
    a.type = type, a.n = s.n, a.hw = s.hw, a.c1 = s.c1, a.c2 = s.c2, a.groups = s.groups;
    const size_t bytes = norm_storage_bytes(&a);
    const norm_want w = {bytes * (backward ? 2 : 1), shared, true, !backward};
    *fits = norm_cut_make(&u, &a, &w);
    return u;
}

#endif
