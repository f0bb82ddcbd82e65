/* self_test.h - does a backend compute what the CPU computes?  Run before the first run on a GPU.
 *
 * A small U-Net (attention, down- and upsampling, dropout, odd sizes) takes two training steps and four sampling steps on
 * the backend.  Each step of their plans is compared with the CPU's (plan_compare.h), and the plans are then run as a
 * whole, as real runs do (eagerly, captured, replayed): the results must be the same bits. */
#ifndef DDPM_SELF_TEST_H
#define DDPM_SELF_TEST_H
#include "backend/backend.h"

/* As backend_create().  With device=auto, a GPU is tested once for each device, driver, library versions and precision;
 * the result is kept in self_test.txt in the user's cache folder.  If the test fails, the CPU is taken, with a remark that
 * says why. */
DDPM_MUST_CHECK ddpm_status self_test_open(const backend_spec *spec, backend **out, err *e);

/* The specification of a backend to test: that of `of`, with deterministic algos, the libraries' first choices, and all
 * other optimizations. */
backend_spec self_test_spec(const backend_spec *of);

/* DDPM_EDIVERGED: the first op that is off, or the kind of run whose results differ.  Other statuses: a step could not
 * run.  Takes seconds; the calling thread's number of OpenMP threads is 1 afterwards. */
DDPM_MUST_CHECK ddpm_status self_test(backend *be, precision_kind precision, err *e);

#endif
