#include "base/utf8.h"

/* Bytes of the sequence that begins at c; 0: none does.  The Unicode Standard, table 3-7. */
static int sequence(const unsigned char *c)
{
    unsigned char low = 0x80, high = 0xBF; /* of the second byte */
    int n = 2;
    if (*c < 0x80) return 1;
    if (*c < 0xC2 || *c > 0xF4) return 0;
    if (*c >= 0xE0) n = *c >= 0xF0 ? 4 : 3;
    if (*c == 0xE0) low = 0xA0;
    if (*c == 0xED) high = 0x9F;
    if (*c == 0xF0) low = 0x90;
    if (*c == 0xF4) high = 0x8F;
    if (c[1] < low || c[1] > high) return 0;
    for (int i = 2; i < n; i++)
        if (c[i] < 0x80 || c[i] > 0xBF) return 0;
    return n;
}

bool text_is_utf8(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        const int n = sequence(c);
        if (n == 0) return false;
        c += n;
    }
    return true;
}

void text_printable(char *out, unsigned cap, const char *text)
{
    unsigned n = 0;
    for (; text[n] && n + 1 < cap; n++) {
        const unsigned char c = (unsigned char)text[n];
        out[n] = c < 0x20 || c == 0x7F ? '?' : text[n];
    }
    out[n] = '\0';
}
