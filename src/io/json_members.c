#include "io/json_members.h"

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

/* From an opening quote to the position after the closing one; NULL if there is none. */
static const char *skip_text(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end) at++;
    return at < end ? at + 1 : NULL;
}

/* From a value to the comma or the enclosing bracket after it; NULL if there is none. */
static const char *skip_value(const char *at, const char *end)
{
    int depth = 0;
    while (at < end) {
        const char c = *at;
        if (depth == 0 && (c == ',' || c == '}' || c == ']')) return at;
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        at = c == '"' ? skip_text(at, end) : at + 1;
        if (!at) return NULL;
    }
    return NULL;
}

json_walk json_members_next(json_members *m, json_slice *key, json_slice *value)
{
    const char *at = skip_blanks(m->begun ? m->at : m->at + 1, m->end);
    if (at < m->end && *at == '}') return skip_blanks(at + 1, m->end) == m->end ? JSON_END : JSON_MALFORMED;
    if (m->begun) {
        if (at == m->end || *at != ',') return JSON_MALFORMED;
        at = skip_blanks(at + 1, m->end);
    }
    m->begun = true;
    if (at == m->end || *at != '"') return JSON_MALFORMED;
    key->text = at;
    at = skip_text(at, m->end);
    if (!at) return JSON_MALFORMED;
    key->size = (size_t)(at - key->text);
    at = skip_blanks(at, m->end);
    if (at == m->end || *at != ':') return JSON_MALFORMED;
    value->text = skip_blanks(at + 1, m->end);
    m->at = skip_value(value->text, m->end);
    if (!m->at) return JSON_MALFORMED;
    value->size = (size_t)(m->at - value->text);
    return JSON_MEMBER;
}

size_t json_count_values(const char *text, size_t size)
{
    const char *end = text + size;
    size_t n = 1;
    for (const char *at = text; at && at < end;) {
        n += *at == ',' || *at == ':' || *at == '[' || *at == '{';
        at = *at == '"' ? skip_text(at, end) : at + 1;
    }
    return n;
}
