/* bench_cli.h - what the files of `ddpm bench` share. */
#ifndef DDPM_BENCH_CLI_H
#define DDPM_BENCH_CLI_H
#include "cli/cli.h"
#include "bench/bench.h"

typedef struct bench_job {
    const cli_args *args;
    ddpm_config config; /* that of the arguments; the model of a RUN in model.init_from */
    const char *run;    /* folder; NULL: a configuration file */
    backend *be;
    bench_limits limits;
    json_out json; /* inside the object of this measurement */
    bool quiet;    /* the standard output belongs to the JSON */
} bench_job;

/* One line of the table, unless the job is quiet. */
__attribute__((format(printf, 2, 3))) void bench_say(const bench_job *b, const char *fmt, ...);
/* "step    12.3 ms   12.1   12.9   100 rounds", and into the JSON under `key`. */
void bench_say_timing(bench_job *b, const char *what, const char *key, const timing *t);

/* What was planned, and what the process and the device came to; before bench_cli_peak(). */
void bench_say_memory(bench_job *b, size_t planned, size_t device_before);

/* The machine's peak, printed and in the JSON. */
DDPM_MUST_CHECK ddpm_status bench_cli_peak(bench_job *b, machine_peak *peak, err *e);

/* ddpm bench ops (bench_table.c). */
DDPM_MUST_CHECK ddpm_status bench_cli_ops(bench_job *b, err *e);

/* Answer requests (bench_serve.c).  Each line of the standard input is a number of turns; the answer is one
 * line of JSON on the standard output, {"n": .., "ms": [..], "wall_ms": .., ...}.  Before the first a line
 * {"ready": true, ...} says that everything is warm.  The end of the input ends it. */
typedef struct bench_server {
    bench_turns *turns;
    void *context;
    void (*more)(void *context, json_out *j); /* what else to say */
    size_t device_before;
} bench_server;
DDPM_MUST_CHECK ddpm_status bench_serve(bench_job *b, const bench_server *s, err *e);

#endif
