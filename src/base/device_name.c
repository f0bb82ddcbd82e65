#include "base/device_name.h"

#include <stdlib.h>
#include <string.h>

/* The index from the text after "cuda": "" or ":2". */
static int index_of(const char *text)
{
    if (!text[0]) return DEVICE_ANY;
    const size_t digits = text[0] == ':' ? strspn(text + 1, "0123456789") : 0;
    return digits >= 1 && digits <= 3 && !text[1 + digits] ? (int)strtol(text + 1, NULL, 10) : DEVICE_NO_NUMBER;
}

device_name device_name_parse(const char *text)
{
    static const char cuda[] = "cuda";
    if (!strcmp(text, "auto")) return (device_name){.kind = DEVICE_AUTO};
    if (!strcmp(text, "cpu")) return (device_name){.kind = DEVICE_CPU};
    if (strncmp(text, cuda, strlen(cuda)) != 0) return (device_name){.kind = DEVICE_UNKNOWN};
    return (device_name){.kind = DEVICE_CUDA, .index = index_of(text + strlen(cuda))};
}

bool device_name_is_valid(const char *text)
{
    const device_name name = device_name_parse(text);
    return name.kind != DEVICE_UNKNOWN && name.index != DEVICE_NO_NUMBER;
}
