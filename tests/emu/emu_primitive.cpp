#include "emu/emu_primitive.h"
#include "math/bf16.h"

#include <cstring>
#include <memory>

namespace emu
{
namespace
{
constexpr size_t workspace_alignment = 256;

struct algo {
    std::string name;
    size_t workspace;
    int number;
};

struct emulated : primitive {
    description d;
    std::vector<algo> algos;
    std::shared_ptr<bool> alive = std::make_shared<bool>(true);
};

int primitives_alive, contexts_alive;

const emulated *of(const primitive *p) { return static_cast<const emulated *>(p); }

const algo *algo_of(const primitive *p, int i)
{
    const auto &algos = of(p)->algos;
    if (i >= 0 && (size_t)i < algos.size()) return &algos[(size_t)i];
    fail("%s: algo %d of %zu", p->key, i, algos.size());
    return nullptr;
}

int count(const primitive *p) { return (int)of(p)->algos.size(); }

void name(const primitive *p, int i, char text[PRIMITIVE_NAME])
{
    const algo *chosen = algo_of(p, i);
    snprintf(text, PRIMITIVE_NAME, "%s", chosen ? chosen->name.c_str() : "");
}

size_t workspace(const primitive *p, int i)
{
    const algo *chosen = algo_of(p, i);
    return chosen ? chosen->workspace : 0;
}

ddpm_status keep(primitive *p, int i, err *e)
{
    TRY(enter("primitive keep", DDPM_EBACKEND, e));
    const algo *chosen = algo_of(p, i);
    if (!chosen) return err_set(e, DDPM_EBACKEND, "%s", last_error());
    static_cast<emulated *>(p)->algos = {algo(*chosen)};
    return DDPM_OK;
}

void destroy(primitive *p)
{
    emulated *mine = static_cast<emulated *>(p);
    *mine->alive = false;
    primitives_alive--;
    delete mine;
}

/* ---- checks of a run's operands ---- */

bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    const char *x = static_cast<const char *>(a), *y = static_cast<const char *>(b);
    return a_bytes && b_bytes && x < y + b_bytes && y < x + a_bytes;
}

ddpm_status check_operand(const emulated &p, int i, const void *at, err *e)
{
    const size_t bytes = p.d.bytes[i];
    if (!on_device(at, bytes))
        return err_set(e, DDPM_EBACKEND, "%s: operand %d (%zu bytes at %p) is not device memory", p.key, i, bytes, at);
    if (reinterpret_cast<uintptr_t>(at) % p.d.align)
        return err_set(e, DDPM_EBACKEND, "%s: operand %d at %p is not aligned to %zu bytes", p.key, i, at, p.d.align);
    return DDPM_OK;
}

ddpm_status check_overlap(const emulated &p, void *const *at, const void *room, size_t room_bytes, err *e)
{
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++) {
        if (overlap(at[i], p.d.bytes[i], room, room_bytes))
            return err_set(e, DDPM_EBACKEND, "%s: operand %d and the workspace overlap", p.key, i);
        for (int j = 0; j < PRIMITIVE_OPERANDS; j++) {
            const bool same = at[i] == at[j];
            if (i == j || !p.d.written[i] || !overlap(at[i], p.d.bytes[i], at[j], p.d.bytes[j])) continue;
            if (same ? p.d.may_alias[j] : !p.d.dense) continue;
            return err_set(e, DDPM_EBACKEND, "%s: operand %d overlaps the result, operand %d", p.key, j, i);
        }
    }
    return DDPM_OK;
}

ddpm_status check_run(const emulated &p, const algo &chosen, void *const *at, const void *room, err *e)
{
    if (!p.d.runs) return err_set(e, DDPM_EBACKEND, "%s: planned for another device", p.key);
    for (int i = 0; i < PRIMITIVE_OPERANDS; i++)
        if (p.d.bytes[i]) TRY(check_operand(p, i, at[i], e));
    if (chosen.workspace && !on_device(room, chosen.workspace))
        return err_set(e, DDPM_EBACKEND, "%s: the workspace (%zu bytes at %p) is not device memory", p.key,
                       chosen.workspace, room);
    if (chosen.workspace && reinterpret_cast<uintptr_t>(room) % workspace_alignment)
        return err_set(e, DDPM_EBACKEND, "%s: the workspace at %p is not aligned to %zu bytes", p.key, room,
                       workspace_alignment);
    return check_overlap(p, at, room, chosen.workspace, e);
}

void scale_results(const description &d, void *const *at, double by)
{
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++)
        for (size_t i = 0; d.written[k] && i < d.bytes[k] / dtype_size(d.result[k]); i++)
            put_value(at[k], d.result[k], i, by * value_at(at[k], d.result[k], i));
}

ddpm_status run(primitive *base, int i, void *const operands[PRIMITIVE_OPERANDS], void *room, void *stream, err *e)
{
    const emulated *p = of(base);
    TRY(enter(p->key, DDPM_EBACKEND, e));
    const algo *chosen = algo_of(base, i);
    if (!chosen) return err_set(e, DDPM_EBACKEND, "%s", last_error());
    TRY(check_run(*p, *chosen, operands, room, e));
    std::vector<void *> at(operands, operands + PRIMITIVE_OPERANDS);
    const size_t room_bytes = chosen->workspace;
    const std::string key = p->key;
    const double scale = key.rfind("conv", 0) == 0 ? emu_get_device()->scale : 0;
    return enqueue(
        stream, p->key, emu_get_device()->algo_us[chosen->number],
        [=, alive = p->alive, loops = p->d.loops, d = p->d] {
            if (!*alive) return fail("%s: runs after it was destroyed", key.c_str());
            if (room_bytes) memset(room, 0xff, room_bytes); /* NaN in every type */
            loops(at.data());
            if (scale != 0) scale_results(d, at.data(), scale);
        },
        e);
}

const primitive_table table = {count, name, workspace, keep, run, destroy};

/* ---- algos ---- */

std::vector<algo> algos_for(const primitive_search *how)
{
    const algo all[EMU_PLANS] = {{"plain", 0, 0}, {"with-256-bytes", 256, 1}, {"large-nondet", EMU_LARGE_WORKSPACE, 2}};
    std::vector<algo> left;
    for (const algo &p : all)
        if (p.workspace <= how->workspace_cap && !(how->deterministic && p.number == 2)) left.push_back(p);
    if (how->cached_algo)
        for (const algo &p : left)
            if (p.name == how->cached_algo) return {p};
    return left;
}
} // namespace

ddpm_status make_primitive(const description &d, const primitive_search *how, primitive **out, err *e)
{
    *out = nullptr;
    TRY(enter(("creation of " + d.key).c_str(), DDPM_EBACKEND, e));
    if (d.key.size() >= PRIMITIVE_KEY || d.key.find(' ') != std::string::npos)
        return err_set(e, DDPM_EBACKEND, "%s: no key of a primitive", d.key.c_str());
    auto *p = new emulated;
    p->fn = &table;
    p->d = d;
    p->algos = algos_for(how);
    memcpy(p->key, d.key.c_str(), d.key.size() + 1);
    memcpy(p->bytes, d.bytes, sizeof p->bytes);
    memcpy(p->written, d.written, sizeof p->written);
    memcpy(p->result, d.result, sizeof p->result);
    primitives_alive++;
    *out = p;
    return DDPM_OK;
}

void count_context(int change) { contexts_alive += change; }

void count_primitives(emu_counts *c)
{
    c->primitives = primitives_alive;
    c->contexts = contexts_alive;
}

/* ---- values in memory ---- */

static float round_tf32(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    if ((bits & 0x7F800000u) != 0x7F800000u) bits = (bits + 0xFFFu + (bits >> 13 & 1u)) & ~0x1FFFu;
    memcpy(&v, &bits, sizeof v);
    return v;
}

float value_at(const void *from, dtype type, size_t at)
{
    return type == DTYPE_BF16 ? bf16_to_f32(static_cast<const bf16 *>(from)[at]) : static_cast<const float *>(from)[at];
}

std::vector<float> values_of(const void *from, dtype type, size_t count, bool tf32)
{
    std::vector<float> v(count);
    for (size_t i = 0; i < count; i++) v[i] = value_at(from, type, i);
    if (tf32 && type == DTYPE_F32)
        for (float &x : v) x = round_tf32(x);
    return v;
}

void put_value(void *to, dtype type, size_t at, double value)
{
    if (type == DTYPE_BF16)
        static_cast<bf16 *>(to)[at] = bf16_of((float)value);
    else
        static_cast<float *>(to)[at] = (float)value;
}
} // namespace emu
