#include "io/notes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void notes_add(notes *n, const char *fmt, ...)
{
    if (!n) return;
    size_t used = strlen(n->text);
    if (used > 0 && used + 2 < sizeof n->text) {
        memcpy(n->text + used, "; ", 3);
        used += 2;
    }
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(n->text + used, sizeof n->text - used, fmt, ap);
    va_end(ap);
    for (char *c = n->text + used; *c; c++) /* file names may hold anything */
        if ((unsigned char)*c < ' ') *c = '?';
}
