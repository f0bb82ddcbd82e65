/* emu_primitive.h - a primitive that computes by plain loops, and its three make-believe algos. */
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
    std::string key;                          /* as primitive.key */
    size_t bytes[PRIMITIVE_OPERANDS] = {};    /* extents; 0: absent */
    bool written[PRIMITIVE_OPERANDS] = {};    /* results */
    bool may_alias[PRIMITIVE_OPERANDS] = {};  /* the operand may be the result itself */
    bool dense = true;                        /* no two matrices lie in each other's gaps */
    size_t align = 16;                        /* of all operands' addresses */
    bool runs = true;                         /* false: planned for another device */
    std::function<void(void *const *)> loops; /* given the operands */
};

/* The algos that the search leaves; DDPM_EBACKEND when it leaves none. */
ddpm_status make_primitive(const description &d, const primitive_search *how, primitive **out, err *e);

void count_context(int change); /* contexts created, or destroyed */

/* ---- values in memory ---- */

/* count values as float; tf32: rounded to 11 significant bits, as tensor cores do. */
std::vector<float> values_of(const void *from, dtype type, size_t count, bool tf32);
float value_at(const void *from, dtype type, size_t at);
/* Round once and store. */
void put_value(void *to, dtype type, size_t at, double value);
} // namespace emu

#endif
