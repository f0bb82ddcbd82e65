/* Random programs in a plan's memory on the emulated device: in every mode and with every timing of the side stream
 * they give the results of plain C. */
#include "backend/emulated/step_list.h"

enum { LINES = 30, LATELY = 4, KEPT = 3, MOST = LINES + 2 };

typedef struct line {
    int to, from;
    bool adds, side;
    float scale, shift;
} line;

typedef struct program {
    line lines[LINES];
    int values; /* value 0 is the input, 1 a sum over all runs, the others are results of lines */
    plan *p;
    tensor *t[MOST];
} program;

static unsigned drawn;
static unsigned draw(unsigned below) { return (drawn = drawn * 1664525u + 1013904223u) % 65536u * below / 65536u; }

/* A value that a line wrote lately, so that its memory is soon reused for another one; or the input. */
static int recent(const program *g)
{
    const int oldest = g->values - LATELY < 2 ? 2 : g->values - LATELY;
    return g->values == 2 || draw(5) == 0 ? 0 : oldest + (int)draw((unsigned)(g->values - oldest));
}

static line draw_line(program *g)
{
    const float scales[] = {1.0f, -1.0f, 0.5f, -0.5f}; /* products are exact, with FMA too */
    line l = {.from = recent(g),
              .side = draw(3) == 0,
              .scale = scales[draw(4)],
              .shift = (float)draw(9) - 4.0f,
              .adds = draw(2) == 0};
    const unsigned kind = draw(8);
    l.to = kind == 0 ? 1 : kind < 4 ? recent(g) : g->values;
    if (l.to == 0 || l.to == l.from) l.to = g->values;
    if (l.to == g->values) g->values++, l.adds = false;
    if (l.to == 1) l.adds = true;
    return l;
}

static void write_program(program *g, backend *be, unsigned seed)
{
    *g = (program){.values = 2};
    drawn = seed;
    OK(plan_create(be, &g->p, &why));
    for (int i = 0; i < LINES; i++) g->lines[i] = draw_line(g);
    for (int v = 0; v < g->values; v++)
        g->t[v] = v < 2 ? plan_input(g->p, DTYPE_F32, "io", N, 1, 1, 1) : plan_act_f32(g->p, "value", N, 1, 1, 1);
    for (int v = g->values - KEPT; v < g->values; v++) plan_keep(g->p, g->t[v]);
    for (int i = 0; i < LINES; i++) {
        const line *l = &g->lines[i];
        step *s = plan_emit(g->p, OP_affine);
        s->in[POINT_X] = g->t[l->from];
        s->out[POINT_Y] = g->t[l->to];
        s->accumulate = l->adds;
        s->a.affine.scale = l->scale, s->a.affine.shift = l->shift;
        s->side = l->side && !(((cuda_backend *)be)->disabled & CUDA_OPT_SIDE);
    }
    OK(plan_finish(g->p, &why));
    OK(plan_allocate(g->p, &why));
}

typedef struct numbers {
    float v[MOST][N];
} numbers;

static void interpret(const program *g, numbers *x)
{
    for (int i = 0; i < LINES; i++) {
        const line *l = &g->lines[i];
        for (int k = 0; k < N; k++) {
            const float y = l->scale * x->v[l->from][k] + l->shift;
            x->v[l->to][k] = l->adds ? x->v[l->to][k] + y : y;
        }
    }
}

static void expect_same(program *g, const numbers *x, int v, const char *when)
{
    float there[N];
    OK(plan_read(g->p, g->t[v], there, &why));
    for (int k = 0; k < N; k++)
        cr_assert_eq(there[k], x->v[v][k], "%s: element %d of value %d: %g, not %g", when, k, v, (double)there[k],
                     (double)x->v[v][k]);
}

static void run_program(unsigned seed, unsigned disabled, emu_timing timing)
{
    const int times[] = {1, 1, 3, 1, 4, 2};
    char when[80];
    numbers x = {0};
    program g;
    backend *be = open_device(disabled);
    emu_set_timing(timing);
    write_program(&g, be, seed);
    for (int i = 0; i < (int)(sizeof times / sizeof *times); i++) {
        (void)snprintf(when, sizeof when, "seed %u, disabled %u, timing %d, run %d", seed, disabled, (int)timing, i);
        for (int k = 0; k < N; k++) x.v[0][k] = (float)(10 * i + k);
        OK(plan_write(g.p, g.t[0], x.v[0], &why));
        OK(plan_run_times(g.p, times[i], &why));
        for (int turn = 0; turn < times[i]; turn++) interpret(&g, &x);
        expect_same(&g, &x, 1, when);
        for (int v = g.values - KEPT; v < g.values; v++) expect_same(&g, &x, v, when);
    }
    plan_destroy(g.p);
    close_device(be);
}

Test(cuda_programs, random_programs_give_what_plain_c_gives, .timeout = 900)
{
    const unsigned disabled[] = {0, CUDA_OPT_LOOP, CUDA_OPT_GRAPH, CUDA_OPT_SIDE};
    for (unsigned seed = 1; seed <= 5; seed++)
        for (int t = EMU_AT_ONCE; t <= EMU_ALL_LATE; t++)
            for (int i = 0; i < 4; i++) run_program(seed, disabled[i], (emu_timing)t);
}
