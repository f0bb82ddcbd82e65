/* mb_serve.c - time on request, so that two programs can be measured by turns.
 *
 * A line with a number on standard input asks for so many turns; the answer is one line of JSON on
 * standard output: {"n": .., "ms": [..], "wall_ms": .., ...}.  The end of the input ends it.  Before
 * the first question a line {"ready": true, ...} says that everything is warm. */
#include "core/mem.h"
#include "mb.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST = 100000 };

static ddpm_status answer(mb_run *r, const server *s, int n, json_out *j, err *e)
{
    double *ms, wall_ms;
    TRY(mem_array(&ms, (size_t)n, sizeof *ms, "timings", e));
    const ddpm_status st = s->time(s->context, n, ms, &wall_ms, e);
    if (st == DDPM_OK) {
        json_out_int(j, "n", n);
        json_out_open(j, "ms", '[');
        for (int i = 0; i < n; i++) json_out_real(j, NULL, ms[i]);
        json_out_close(j, ']');
        json_out_real(j, "wall_ms", wall_ms);
        if (s->more) s->more(s->context, j);
    }
    mem_free(ms);
    (void)r;
    return st;
}

/* One JSON object on a line of its own; with n = 0 the greeting. */
static ddpm_status say(mb_run *r, const server *s, int n, err *e)
{
    char *text;
    size_t size;
    json_out j = json_out_begin(true, e);
    ddpm_status st = DDPM_OK;
    json_out_open(&j, NULL, '{');
    if (n > 0)
        st = answer(r, s, n, &j, e);
    else {
        char device[300];
        r->be->fn->describe(r->be, device, sizeof device);
        json_out_bool(&j, "ready", true);
        json_out_text(&j, "device", device);
        if (s->more) s->more(s->context, &j);
    }
    json_out_close(&j, '}');
    const ddpm_status written = json_out_finish(&j, &text, &size);
    if (st == DDPM_OK && written == DDPM_OK) {
        printf("%s\n", text);
        (void)fflush(stdout);
    }
    free(text);
    return st != DDPM_OK ? st : written;
}

ddpm_status mb_serve(mb_run *r, const server *s, err *e)
{
    char line[64];
    TRY(say(r, s, 0, e));
    while (fgets(line, sizeof line, stdin)) {
        const long n = strtol(line, NULL, 10);
        if (n < 1 || n > MOST) return err_set(e, DDPM_EINVAL, "turns: a number from 1 to %d was expected", MOST);
        TRY(say(r, s, (int)n, e));
    }
    return DDPM_OK;
}
