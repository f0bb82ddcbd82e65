/* step_list.h - opens and closes the emulated device, and builds lists of steps by hand in its memory. */
#ifndef TESTS_STEP_LIST_H
#define TESTS_STEP_LIST_H
#include "backend/cuda/cuda_backend.h"
#include "ir/operands.h"
#include "base/mem.h"
#include "emu/emu_control.h"
#include "plan/plan.h"
#include "support/ok.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { N = 5 }; /* values of a tensor */

static err why;

static inline backend *open_device(unsigned disabled)
{
    backend *be = NULL;
    OK(backend_create(&(backend_spec){.device = "cuda", .precision = PRECISION_FP32, .disabled = disabled}, &be, &why));
    return be;
}

/* Expects that nothing is left allocated and that no call was one that CUDA leaves undefined. */
static inline void close_device(backend *be)
{
    backend_destroy(be);
    cr_expect_str_empty(emu_last_error());
    cr_expect_eq(emu_live_total(), 0, "%d things of the device are left", emu_live_total());
    emu_reset();
}

enum { STEPS = 10, ROOM = 8, ROOMS = 2 * STEPS + 32 }; /* the last 32 for something large */

/* A list of steps and memory for their tensors, in rooms of ROOM values. */
typedef struct list {
    backend *be;
    float *memory; /* [ROOMS][ROOM] */
    tensor in[STEPS], out[STEPS];
    step step[STEPS], *steps[STEPS];
    int n;
} list;

static inline float *room(const list *l, int i) { return l->memory + (ptrdiff_t)i * ROOM; }

static inline void open_list(list *l, unsigned disabled)
{
    void *memory;
    *l = (list){.be = open_device(disabled)};
    OK(l->be->fn->alloc(l->be, sizeof(float) * ROOMS * ROOM, &memory, &why));
    l->memory = memory;
}

static inline void close_list(list *l)
{
    for (int i = 0; i < l->n; i++) l->be->fn->unprepare(l->be, l->steps[i]);
    l->be->fn->release(l->be, l->memory);
    close_device(l->be);
}

/* Appends a step that writes scale * (values of room `from`) + 1 to room `to` of the list's memory. */
static inline step *append(list *l, int from, int to, float scale)
{
    const int i = l->n++;
    const tensor t = {.dtype = DTYPE_F32, .arena = ARENA_ACT, .n = 1, .h = 1, .w = 1, .c = N};
    l->in[i] = l->out[i] = t;
    l->in[i].data = room(l, from), l->out[i].data = room(l, to);
    l->steps[i] = &l->step[i];
    l->step[i] = (step){.op = OP_affine, .in = {&l->in[i]}, .out = {&l->out[i]}, .path = "by hand"};
    l->step[i].a.affine.scale = scale, l->step[i].a.affine.shift = 1;
    return &l->step[i];
}

static inline ddpm_status run_list(const list *l, int times)
{
    return l->be->fn->run(l->be, l->steps, l->n, times, &why);
}

static inline void put(const list *l, int i, float value)
{
    const float v[N] = {value, value, value, value, value};
    OK(l->be->fn->upload(l->be, room(l, i), v, sizeof v, &why));
}

static inline float get(const list *l, int i)
{
    float v[N];
    OK(l->be->fn->download(l->be, v, room(l, i), sizeof v, &why));
    for (int k = 1; k < N; k++) cr_assert_eq(v[k], v[0]);
    return v[0];
}

/* Fills rooms 0 to STEPS - 1 with 10, 20, 30 ... */
static inline void fill(const list *l)
{
    for (int i = 0; i < STEPS; i++) put(l, i, (float)(10 * (i + 1)));
}

/* The number of calls of the runtime that a run makes. */
static inline long calls_of(const list *l, int times)
{
    emu_fail_at(0);
    OK(run_list(l, times));
    return emu_calls();
}

#endif
