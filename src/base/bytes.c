#include "base/bytes.h"
#include "base/arith.h"

#include <stdio.h>

const char *bytes_text(char out[BYTES_CAP], size_t bytes)
{
    if (bytes_to_gib(bytes) >= 1)
        (void)snprintf(out, BYTES_CAP, "%.2f GiB", bytes_to_gib(bytes));
    else
        (void)snprintf(out, BYTES_CAP, "%.1f MiB", bytes_to_mib(bytes));
    return out;
}
