#include "base/notes.h"
#include "base/err.h"

#include <string.h>

enum { LEAST = 160 }; /* least bytes of room for a shortened remark */

void notes_add(notes *n, const char *fmt, ...)
{
    if (!n) return;
    size_t used = strlen(n->text);
    if (sizeof n->text - used < LEAST) return;
    if (used > 0) {
        memcpy(n->text + used, "; ", 3);
        used += 2;
    }
    va_list ap;
    va_start(ap, fmt);
    err_line(n->text + used, sizeof n->text - used, fmt, ap);
    va_end(ap);
}
