/* bench_cli.h - shared declarations of the files of `ddpm bench`. */
#ifndef DDPM_BENCH_CLI_H
#define DDPM_BENCH_CLI_H
#include "cli/cli.h"
#include "bench/bench.h"

typedef struct bench_job {
    const cli_args *args;
    ddpm_config config; /* of the arguments; for a RUN argument, model.init_from is its model */
    const char *run;    /* folder; NULL: a configuration file */
    backend *be;
    bench_limits limits;
    json_out json; /* open within the object of this measurement */
    bool quiet;    /* standard output is used for the JSON */
} bench_job;

/* Print one line of the table, unless the job is quiet. */
__attribute__((format(printf, 2, 3))) void bench_say(const bench_job *b, const char *fmt, ...);
/* Print "step    12.3 ms   12.1   12.9   100 rounds", and add the timing to the JSON as `key`. */
void bench_say_timing(bench_job *b, const char *what, const char *key, const timing *t);

/* Report planned memory, the process's peak and the GPU memory in use.  Call it before bench_cli_peak(), which
 * allocates more. */
void bench_say_memory(bench_job *b, size_t planned, size_t device_before);

/* Measure the machine's peak; print it and add it to the JSON. */
DDPM_MUST_CHECK ddpm_status bench_cli_peak(bench_job *b, machine_peak *peak, err *e);

/* ddpm bench ops (bench_table.c). */
DDPM_MUST_CHECK ddpm_status bench_cli_ops(bench_job *b, err *e);

/* Answer requests (bench_serve.c) until standard input ends.  Each of its lines is a number of iterations; the
 * answer is one line of JSON on standard output, {"n": .., "ms": [..], "wall_ms": .., ...}.  A first line
 * {"ready": true, ...} says that the warm-up is done. */
typedef struct bench_server {
    bench_iterations *iterations;
    void *context;
    void (*more)(void *context, json_out *j); /* adds further members to an answer */
    size_t device_before;
} bench_server;
DDPM_MUST_CHECK ddpm_status bench_serve(bench_job *b, const bench_server *s, err *e);

#endif
