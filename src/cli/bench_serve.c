/* bench_serve.c - benchmark iterations on request, so that two programs can be measured alternately. */
#include "cli/bench_cli.h"
#include "base/mem.h"
#include "base/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 100000 };

static ddpm_status answer(const bench_job *b, const bench_server *s, int n, json_out *j, err *e)
{
    double *ms, wall_ms;
    TRY(mem_array(&ms, (size_t)n, sizeof *ms, "timings", e));
    const ddpm_status st = s->iterations(s->context, n, ms, &wall_ms, e);
    if (st == DDPM_OK) {
        json_out_int(j, "n", n);
        json_out_open(j, "ms", '[');
        for (int i = 0; i < n; i++) json_out_real(j, NULL, ms[i]);
        json_out_close(j, ']');
        json_out_real(j, "wall_ms", wall_ms);
        json_out_int(j, "host_peak_bytes", process_peak_bytes());
        if (!b->be->fn->host_memory)
            json_out_int(j, "device_bytes", (int64_t)bench_device_bytes(b->be, s->device_before));
        s->more(s->context, j);
    }
    mem_free(ms);
    return st;
}

/* Print one JSON object on a line; n = 0: the {"ready": true} line. */
static ddpm_status say(const bench_job *b, const bench_server *s, int n, err *e)
{
    char *text, device[400];
    size_t size;
    json_out j = json_out_begin(true, e);
    ddpm_status st = DDPM_OK;
    json_out_open(&j, NULL, '{');
    if (n > 0)
        st = answer(b, s, n, &j, e);
    else {
        b->be->fn->describe(b->be, device, sizeof device);
        json_out_bool(&j, "ready", true);
        json_out_text(&j, "device", device);
        s->more(s->context, &j);
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

ddpm_status bench_serve(bench_job *b, const bench_server *s, err *e)
{
    char line[64];
    double ms, wall_ms;
    for (int i = 0; i < b->limits.warmup; i++) TRY(s->iterations(s->context, 1, &ms, &wall_ms, e));
    TRY(say(b, s, 0, e));
    while (fgets(line, sizeof line, stdin)) {
        char *end;
        errno = 0;
        const long n = strtol(line, &end, 10);
        if (end == line || *end != '\n' || errno || n < 1 || n > MOST)
            return err_set(e, DDPM_EINVAL, "standard input: expected a number of iterations from 1 to %d, not '%.40s'",
                           MOST, strtok(line, "\n") ? line : "");
        TRY(say(b, s, (int)n, e));
    }
    return ferror(stdin) ? err_errno(e, DDPM_EIO, errno, "standard input: cannot read") : DDPM_OK;
}
