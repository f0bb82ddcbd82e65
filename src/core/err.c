#include "core/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set_text(err *e, ddpm_status status, const char *fmt, va_list ap)
{
    e->status = status;
    (void)vsnprintf(e->text, sizeof e->text, fmt, ap);
    for (char *c = e->text; *c; c++) /* file names may hold anything; the message stays one line */
        if ((unsigned char)*c < ' ') *c = '?';
}

ddpm_status err_set(err *e, ddpm_status status, const char *fmt, ...)
{
    if (!e) return status;
    va_list ap;
    va_start(ap, fmt);
    set_text(e, status, fmt, ap);
    va_end(ap);
    return status;
}

ddpm_status err_errno(err *e, ddpm_status status, int errnum, const char *fmt, ...)
{
    if (!e) return status;
    va_list ap;
    va_start(ap, fmt);
    set_text(e, status, fmt, ap);
    va_end(ap);
    char why[128] = "";
    const char *text = strerror_r(errnum, why, sizeof why); /* the GNU form returns the text */
    const size_t used = strlen(e->text);
    (void)snprintf(e->text + used, sizeof e->text - used, ": %s", text);
    return status;
}

const char *err_name(ddpm_status status)
{
    switch (status) {
#define NAME(name, code, meaning)                                                                                      \
    case DDPM_##name: return #name;
        DDPM_STATUS_LIST(NAME)
#undef NAME
    }
    return "unknown";
}

const char *err_meaning(ddpm_status status)
{
    switch (status) {
#define MEANING(name, code, meaning)                                                                                   \
    case DDPM_##name: return meaning;
        DDPM_STATUS_LIST(MEANING)
#undef MEANING
    }
    return "unknown status";
}
