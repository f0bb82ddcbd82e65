/* mb_time.c - times a list of steps. */
#include "base/mem.h"
#include "mb.h"

ddpm_status time_steps(const mb_run *r, backend *be, step *const *steps, int n, timing *out, err *e)
{
    const int repeats = r->o->repeats;
    stamp *stamps = NULL;
    double *ms = NULL;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(stamps_create(&stamps, repeats + 1, e));
    TRY_GOTO(mem_array(&ms, (size_t)repeats, sizeof *ms, "timings", e));
    for (int i = 0; i < r->o->warmup; i++) TRY_GOTO(be->fn->run(be, steps, n, 1, e));
    TRY_GOTO(backend_wait(be, e));
    TRY_GOTO(stamp_set(be, &stamps[0], e));
    for (int i = 0; i < repeats; i++) {
        TRY_GOTO(be->fn->run(be, steps, n, 1, e));
        TRY_GOTO(stamp_set(be, &stamps[i + 1], e));
    }
    for (int i = 0; i < repeats; i++) TRY_GOTO(stamp_ms(be, &stamps[i], &stamps[i + 1], &ms[i], e));
    *out = timing_of(ms, repeats);
done:
    stamps_destroy(be, stamps, repeats + 1);
    mem_free(ms);
    return st;
}
