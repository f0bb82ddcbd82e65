#include "base/bytes.h"

#include <stdio.h>

const char *bytes_text(char out[BYTES_CAP], size_t bytes)
{
    const double mib = (double)bytes / (1 << 20);
    if (mib >= 1024)
        (void)snprintf(out, BYTES_CAP, "%.2f GiB", mib / 1024);
    else
        (void)snprintf(out, BYTES_CAP, "%.1f MiB", mib);
    return out;
}
