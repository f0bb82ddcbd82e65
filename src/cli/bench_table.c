/* bench_table.c - ddpm bench ops: the steps of a plan, sorted by the time they lose against the roofline. */
#include "cli/bench_cli.h"

#include <string.h>

static const char *const phase_names[PHASES] = {"forward", "backward", "update"};

/* `work` per second in units of `unit`, for work done in `ms`; 0 if ms is 0. */
static double rate(double work, double ms, double unit) { return ms > 0 ? work / (1e-3 * ms) / unit : 0; }
static double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

static void put_costs(json_out *j, double ms, double flops, double bytes, double floor_ms)
{
    json_out_real(j, "operations", flops);
    json_out_real(j, "bytes", bytes);
    json_out_real(j, "gflop_per_s", rate(flops, ms, 1e9));
    json_out_real(j, "gb_per_s", rate(bytes, ms, 1e9));
    json_out_real(j, "roofline_ms", floor_ms);
    json_out_real(j, "lost_ms", ms - floor_ms);
    json_out_real(j, "times_roofline", share(ms, floor_ms));
}

static void put_op(json_out *j, const step_cost *o, double sum)
{
    json_out_open(j, NULL, '{');
    json_out_text(j, "layer", o->s->path);
    json_out_text(j, "op", op_name[o->s->op]);
    json_out_text(j, "phase", phase_names[o->phase]);
    timing_put(j, "time_ms", &o->time);
    json_out_real(j, "share_of_time", share(o->time.median, sum));
    put_costs(j, o->time.median, o->flops, o->bytes, o->floor_ms);
    json_out_close(j, '}');
}

/* The last `most` bytes of a layer path, which tell more than the first ones. */
static const char *tail(const char *path, size_t most)
{
    const size_t n = strlen(path);
    return n > most ? path + n - most : path;
}

static void show_op(const bench_job *b, const step_cost *o, double sum)
{
    const double ms = o->time.median;
    bench_say(b, "%-36s %-13s %9.4f %4.1f %8.1f %7.1f %8.4f %6.1f\n", tail(o->s->path, 36), op_name[o->s->op], ms,
              100 * share(ms, sum), rate(o->flops, ms, 1e9), rate(o->bytes, ms, 1e9), ms - o->floor_ms,
              share(ms, o->floor_ms));
}

static void list_ops(bench_job *b, const step_cost *ops, int n, double sum)
{
    const int top = b->config.bench.top, shown = top && top < n ? top : n;
    bench_say(b, "\n%-36s %-13s %9s %4s %8s %7s %8s %6s\n", "layer", "op", "ms", "%", "GFLOP/s", "GB/s", "lost ms",
              "x roof");
    json_out_open(&b->json, "ops", '[');
    for (int i = 0; i < n; i++) {
        if (i < shown) show_op(b, &ops[i], sum);
        put_op(&b->json, &ops[i], sum);
    }
    json_out_close(&b->json, ']');
    if (shown < n) bench_say(b, "... and %d more (top=0 shows all)\n", n - shown);
}

static void list_totals(bench_job *b, const step_cost *ops, int n, double sum)
{
    step_total totals[(int)OP_COUNT * (int)PHASES];
    double phase_ms[PHASES] = {0};
    const int found = bench_ops_total(ops, n, totals);
    bench_say(b, "\n%-9s %-13s %5s %10s %5s %8s %7s %9s %6s\n", "", "op", "steps", "ms", "%", "GFLOP/s", "GB/s",
              "lost ms", "x roof");
    json_out_open(&b->json, "totals", '[');
    for (int i = 0; i < found; i++) {
        const step_total *t = &totals[i];
        bench_say(b, "%-9s %-13s %5d %10.4f %5.1f %8.1f %7.1f %9.4f %6.1f\n", phase_names[t->phase], op_name[t->op],
                  t->count, t->ms, 100 * share(t->ms, sum), rate(t->flops, t->ms, 1e9), rate(t->bytes, t->ms, 1e9),
                  t->ms - t->floor_ms, share(t->ms, t->floor_ms));
        phase_ms[t->phase] += t->ms;
        json_out_open(&b->json, NULL, '{');
        json_out_text(&b->json, "op", op_name[t->op]);
        json_out_text(&b->json, "phase", phase_names[t->phase]);
        json_out_int(&b->json, "steps", t->count);
        json_out_real(&b->json, "time_ms", t->ms);
        json_out_real(&b->json, "share_of_time", share(t->ms, sum));
        put_costs(&b->json, t->ms, t->flops, t->bytes, t->floor_ms);
        json_out_close(&b->json, '}');
    }
    json_out_close(&b->json, ']');
    json_out_real(&b->json, "forward_ms", phase_ms[PHASE_FORWARD]);
    json_out_real(&b->json, "backward_ms", phase_ms[PHASE_BACKWARD]);
    json_out_real(&b->json, "update_ms", phase_ms[PHASE_UPDATE]);
    bench_say(b, "\nforward %.3f ms, backward %.3f ms, update %.3f ms\n", phase_ms[PHASE_FORWARD],
              phase_ms[PHASE_BACKWARD], phase_ms[PHASE_UPDATE]);
}

static void report(bench_job *b, step_costs *t, const timing *whole)
{
    double sum = 0;
    for (int i = 0; i < t->n; i++) sum += t->list[i].time.median;
    bench_ops_sort(t->list, t->n);
    list_ops(b, t->list, t->n, sum);
    list_totals(b, t->list, t->n, sum);
    json_out_real(&b->json, "sum_of_ops_ms", sum);
    timing_put(&b->json, "pass_ms", &t->pass);
    timing_put(&b->json, "whole_ms", whole);
    bench_say(b, "sum of the ops %.3f ms; all ops together as in a run %.3f ms (p10 %.3f, p90 %.3f)\n", sum,
              whole->median, whole->p10, whole->p90);
}

/* Half of the time limit is for the whole plan, half for its steps. */
static bench_ops_spec ops_spec(const bench_job *b, const plan *p, bench_begin *begin, void *context)
{
    bench_ops_spec spec = {.be = b->be, .p = p, .begin = begin, .context = context, .limits = b->limits};
    spec.limits.seconds /= 2;
    return spec;
}

static ddpm_status ops_of_training(bench_job *b, step_costs *t, timing *whole, err *e)
{
    bench_train rig;
    ddpm_status st = DDPM_OK;
    if (b->config.train.gradient_accumulation_steps > 1) {
        b->config.train.gradient_accumulation_steps = 1; /* one plan that includes the update */
        bench_say(b, "one micro-batch and the update: train.gradient_accumulation_steps=1 is used\n");
    }
    TRY(bench_train_create(&b->config, b->be, &rig, e));
    bench_ops_spec spec = ops_spec(b, trainer_plan(rig.t), bench_train_begin, &rig);
    TRY_GOTO(bench_measure(b->be, &spec.limits, bench_train_iterations, &rig, whole, e));
    TRY_GOTO(bench_cli_peak(b, &spec.peak, e));
    TRY_GOTO(bench_ops(&spec, t, e));
    report(b, t, whole);
done:
    bench_train_destroy(&rig);
    return st;
}

static ddpm_status ops_of_sampling(bench_job *b, step_costs *t, timing *whole, err *e)
{
    bench_sample rig;
    ddpm_status st = DDPM_OK;
    TRY(bench_sample_create(&b->config, b->run, b->be, &rig, e));
    bench_ops_spec spec = ops_spec(b, generator_plan(rig.g), bench_sample_begin, &rig);
    TRY_GOTO(bench_sample_evaluations(&rig, &spec.limits, whole, e));
    TRY_GOTO(bench_cli_peak(b, &spec.peak, e));
    TRY_GOTO(bench_ops(&spec, t, e));
    report(b, t, whole);
done:
    bench_sample_destroy(&rig);
    return st;
}

ddpm_status bench_cli_ops(bench_job *b, err *e)
{
    step_costs t = {.n = 0};
    timing whole;
    const bool sampling = b->config.bench.plan == BENCH_PLAN_SAMPLE;
    json_out_text(&b->json, "plan", config_word_name(OPTION_bench_plan, b->config.bench.plan));
    json_out_int(&b->json, "batch_images", sampling ? b->config.sample.batch : b->config.train.batch);
    const ddpm_status st = sampling ? ops_of_sampling(b, &t, &whole, e) : ops_of_training(b, &t, &whole, e);
    bench_ops_free(&t); /* after the plan */
    return st;
}
