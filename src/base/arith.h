/* arith.h - integer min, max, ceiling division and rounding up; bytes as MiB and GiB; NaN for texts. */
#ifndef DDPM_ARITH_H
#define DDPM_ARITH_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

/* a / b rounded up, and the next multiple of b; a >= 0, b > 0. */
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static inline size_t round_up_size(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

static inline double bytes_to_mib(size_t bytes) { return (double)bytes / (1024.0 * 1024.0); }
static inline double bytes_to_gib(size_t bytes) { return (double)bytes / (1024.0 * 1024.0 * 1024.0); }

/* The sign of a NaN says nothing; printf() writes it. */
static inline double unsigned_nan(double v) { return isnan(v) ? (double)NAN : v; }

#endif
