/* emu_primitive.h - a primitive that computes by plain loops, with three pretended algos. */
#ifndef DDPM_EMU_PRIMITIVE_H
#define DDPM_EMU_PRIMITIVE_H
#include "emu/emu_runtime.h"
#include <vector>
extern "C" {
#include "backend/cuda/lib/primitive.h"
}

namespace emu
{
struct description {
    std::string key;                          /* primitive.key */
    size_t bytes[PRIMITIVE_OPERANDS] = {};    /* primitive.bytes: extents; 0: absent */
    bool written[PRIMITIVE_OPERANDS] = {};    /* primitive.written: results */
    dtype result[PRIMITIVE_OPERANDS] = {};    /* primitive.result: their types */
    bool may_alias[PRIMITIVE_OPERANDS] = {};  /* the operand may be the same memory as the result */
    bool dense = true;                        /* no matrix lies in the gaps between the rows of another */
    size_t align = 16;                        /* of all operands' addresses */
    bool runs = true;                         /* false: created for a described device that does not exist */
    std::function<void(void *const *)> loops; /* computes the result from the operands */
};

/* Creates a primitive with the algos that the search allows; DDPM_EBACKEND if it allows none. */
ddpm_status make_primitive(const description &d, const primitive_search *how, primitive **out, err *e);

void count_context(int change); /* a context was created (+1) or destroyed (-1) */

/* ---- values in memory ---- */

/* count values as float; tf32: rounded to 11 significant bits, as tensor cores do. */
std::vector<float> values_of(const void *from, dtype type, size_t count, bool tf32);
float value_at(const void *from, dtype type, size_t at);
/* Rounds once and stores. */
void put_value(void *to, dtype type, size_t at, double value);
} // namespace emu

#endif
