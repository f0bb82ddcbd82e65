#include "config/config_value.h"
#include "base/device_name.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static bool wrong(char *why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, VALUE_WHY, fmt, ap);
    va_end(ap);
    return false;
}

/* The message for a text of the wrong type: it names the expected kind of value. */
static bool not_a(char *why, const config_option *o, const char *text, const char *what)
{
    if (!text[0]) return wrong(why, "the value is empty; expected %s", what);
    if (!o->min[0]) return wrong(why, "'%.60s' is not %s", text, what);
    return wrong(why, "'%.60s' is not %s (%s to %s)", text, what, o->min, o->max);
}

static bool out_of_range(char *why, const config_option *o, const char *text)
{
    return wrong(why, "%.60s is out of range (%s to %s)", text, o->min, o->max);
}

/* ---- numbers ------------------------------------------------------------------------------------- */

static bool is_integer(const char *text)
{
    if (*text == '-' || *text == '+') text++;
    return *text && text[strspn(text, "0123456789")] == 0;
}

static bool read_int64(int64_t *out, const config_option *o, const char *text, char *why)
{
    if (!is_integer(text)) return not_a(why, o, text, "an integer");
    errno = 0;
    const long long v = strtoll(text, NULL, 10);
    if (errno == ERANGE || v < strtoll(o->min, NULL, 10) || v > strtoll(o->max, NULL, 10))
        return out_of_range(why, o, text);
    *out = v;
    return true;
}

static bool read_int(int *out, const config_option *o, const char *text, char *why)
{
    int64_t v;
    if (!read_int64(&v, o, text, why)) return false;
    *out = (int)v; /* fits: a test checks that the limits of every INT option are ints */
    return true;
}

static bool read_real(double *out, const config_option *o, const char *text, char *why)
{
    char *end = NULL;
    const bool decimal = text[0] && text[strspn(text, "0123456789+-.eE")] == 0; /* no nan, inf, hexadecimal */
    const double v = decimal ? strtod(text, &end) : 0;
    if (!end || end == text || *end) return not_a(why, o, text, "a number");
    if (!(v >= strtod(o->min, NULL) && v <= strtod(o->max, NULL))) return out_of_range(why, o, text);
    *out = v;
    return true;
}

static void write_real(double v, char *out)
{
    char digits[32];
    for (int precision = 6; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, v);
        if (strtod(digits, NULL) == v) break;
    }
    /* YAML 1.1 parsers read 1e-06 as a string, 1.0e-06 as a number. */
    const char *exponent = strchr(digits, 'e');
    const int mantissa = exponent ? (int)(exponent - digits) : 0;
    if (exponent && !memchr(digits, '.', (size_t)mantissa))
        (void)snprintf(out, VALUE_TEXT, "%.*s.0%s", mantissa, digits, exponent);
    else
        (void)snprintf(out, VALUE_TEXT, "%s", digits);
}

/* ---- texts --------------------------------------------------------------------------------------- */

static bool read_bool(bool *out, const config_option *o, const char *text, char *why)
{
    const bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) return not_a(why, o, text, "true or false");
    *out = yes;
    return true;
}

/* Length and code point of the UTF-8 sequence at s, with n bytes left; 0 if it is invalid. */
static size_t utf8_decode(const unsigned char *s, size_t n, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000}; /* by length; rejects overlong encodings */
    const size_t length = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (length == 0 || length > n) return 0;
    *code = length == 1 ? s[0] : s[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if (s[i] >> 6 != 2) return 0;
        *code = *code << 6 | (s[i] & 0x3f);
    }
    return *code < smallest[length] || *code > 0x10ffff ? 0 : length;
}

bool text_is_plain(const char *text, size_t size)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0, length; i < size; i += length) {
        uint32_t code;
        length = utf8_decode(s + i, size - i, &code);
        if (length == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
        if (code == 0x2028 || code == 0x2029 || code == 0xfeff) return false;
        if ((code >= 0xd800 && code < 0xe000) || (code & 0xfffe) == 0xfffe) return false;
    }
    return true;
}

static bool read_path(char *out, const config_option *o, const char *text, char *why)
{
    const size_t length = strlen(text);
    if (length >= PATH_CAP) return wrong(why, "is %zu bytes long; at most %d are allowed", length, PATH_CAP - 1);
    if (!text_is_plain(text, length))
        return wrong(why, "'%.60s' is not valid UTF-8, or contains a control character", text);
    memcpy(out, text, length + 1);
    return true;
}

static config_id id_of(const config_option *o) { return (config_id)(o - config_options); }

static bool not_one_of(char *why, const config_option *o, const char *text)
{
    const char *const *words = config_option_words[id_of(o)];
    char list[320] = "one of ";
    for (int i = 0; words[i]; i++) {
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", words[i]);
    }
    return not_a(why, o, text, list);
}

static bool read_word(int *out, const config_option *o, const char *text, char *why)
{
    const int word = config_word_of(id_of(o), text);
    if (word < 0) return not_one_of(why, o, text);
    *out = word;
    return true;
}

static bool read_device(char *out, const config_option *o, const char *text, char *why)
{
    char names[64];
    (void)snprintf(names, sizeof names, "one of %s", o->unit);
    if (!device_name_is_valid(text)) return not_a(why, o, text, names);
    memset(out, 0, CONFIG_DEVICE);
    memcpy(out, text, strlen(text)); /* a valid name is shorter than CONFIG_DEVICE */
    return true;
}

/* ---- lists --------------------------------------------------------------------------------------- */

static bool is_list(const config_option *o)
{
    return o->type == CONFIG_TYPE_INTS || o->type == CONFIG_TYPE_REALS || o->type == CONFIG_TYPE_WORDS;
}

static bool too_many(char *why, int cap) { return wrong(why, "has more than %d items", cap); }

/* Split "[a, b]" or "a,b" into items. */
static bool split(const char *text, config_items *items, char *why)
{
    size_t left = strlen(text);
    if (left >= 2 && text[0] == '[' && text[left - 1] == ']') text++, left -= 2;
    items->count = 0;
    for (bool more = true; more;) {
        const char *comma = memchr(text, ',', left), *item = text;
        size_t n = comma ? (size_t)(comma - text) : left;
        more = comma != NULL;
        text += n + more, left -= n + more;
        while (n && *item == ' ') item++, n--;
        while (n && item[n - 1] == ' ') n--;
        if (items->count == CONFIG_INTS) return too_many(why, CONFIG_INTS);
        if (n >= CONFIG_KEY) return wrong(why, "'%.*s...' is too long", 20, item);
        memcpy(items->text[items->count], item, n);
        items->text[items->count++][n] = 0;
    }
    return true;
}

bool value_read_items(void *field, const config_option *o, const config_items *items, char *why)
{
    config_ints ints = {.count = items->count};
    config_reals reals = {.count = items->count};
    config_words words = {.count = items->count};
    if (!is_list(o)) return wrong(why, "takes one value, not a list");
    if (items->count < 1) return wrong(why, "the list is empty");
    const int cap = o->type == CONFIG_TYPE_WORDS ? CONFIG_WORDS : CONFIG_INTS;
    if (items->count > cap) return too_many(why, cap);
    for (int i = 0; i < items->count; i++) {
        if (o->type == CONFIG_TYPE_INTS && !read_int(&ints.item[i], o, items->text[i], why)) return false;
        if (o->type == CONFIG_TYPE_REALS && !read_real(&reals.item[i], o, items->text[i], why)) return false;
        if (o->type == CONFIG_TYPE_WORDS && !read_word(&words.item[i], o, items->text[i], why)) return false;
    }
    if (o->type == CONFIG_TYPE_INTS) *(config_ints *)field = ints;
    if (o->type == CONFIG_TYPE_REALS) *(config_reals *)field = reals;
    if (o->type == CONFIG_TYPE_WORDS) *(config_words *)field = words;
    return true;
}

static bool read_list(void *field, const config_option *o, const char *text, char *why)
{
    config_items items;
    return split(text, &items, why) && value_read_items(field, o, &items, why);
}

/* Item i of a list; returns its text, in `text` or constant. */
static const char *item_text(const void *field, const config_option *o, int i, char text[VALUE_TEXT])
{
    if (o->type == CONFIG_TYPE_WORDS) return config_word_name(id_of(o), ((const config_words *)field)->item[i]);
    if (o->type == CONFIG_TYPE_REALS)
        write_real(((const config_reals *)field)->item[i], text);
    else
        (void)snprintf(text, VALUE_TEXT, "%d", ((const config_ints *)field)->item[i]);
    return text;
}

static void write_list(const void *field, const config_option *o, char *out)
{
    const int count = *(const int *)field; /* every list begins with it */
    char text[VALUE_TEXT];
    size_t used = 0;
    for (int i = 0; i < count; i++)
        used += (size_t)snprintf(out + used, VALUE_TEXT - used, "%s%s", i ? ", " : "[", item_text(field, o, i, text));
    (void)snprintf(out + used, VALUE_TEXT - used, "]");
}

/* ---- by type ------------------------------------------------------------------------------------- */

bool value_read(void *field, const config_option *o, const char *text, char *why)
{
    switch (o->type) {
    case CONFIG_TYPE_BOOL: return read_bool(field, o, text, why);
    case CONFIG_TYPE_INT: return read_int(field, o, text, why);
    case CONFIG_TYPE_INT64: return read_int64(field, o, text, why);
    case CONFIG_TYPE_REAL: return read_real(field, o, text, why);
    case CONFIG_TYPE_PATH: return read_path(field, o, text, why);
    case CONFIG_TYPE_WORD: return read_word(field, o, text, why);
    case CONFIG_TYPE_DEVICE: return read_device(field, o, text, why);
    case CONFIG_TYPE_INTS:
    case CONFIG_TYPE_REALS:
    case CONFIG_TYPE_WORDS: return read_list(field, o, text, why);
    }
    return false;
}

void value_write(const void *field, const config_option *o, char *out)
{
    switch (o->type) {
    case CONFIG_TYPE_BOOL: (void)snprintf(out, VALUE_TEXT, "%s", *(const bool *)field ? "true" : "false"); return;
    case CONFIG_TYPE_INT: (void)snprintf(out, VALUE_TEXT, "%d", *(const int *)field); return;
    case CONFIG_TYPE_INT64: (void)snprintf(out, VALUE_TEXT, "%lld", (long long)*(const int64_t *)field); return;
    case CONFIG_TYPE_REAL: write_real(*(const double *)field, out); return;
    case CONFIG_TYPE_WORD:
        (void)snprintf(out, VALUE_TEXT, "%s", config_word_name(id_of(o), *(const int *)field));
        return;
    case CONFIG_TYPE_PATH:
    case CONFIG_TYPE_DEVICE: (void)snprintf(out, VALUE_TEXT, "%s", (const char *)field); return;
    case CONFIG_TYPE_INTS:
    case CONFIG_TYPE_REALS:
    case CONFIG_TYPE_WORDS: write_list(field, o, out); return;
    }
}
