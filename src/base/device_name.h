/* device_name.h - device names: "auto", "cpu", "cuda" and "cuda:2". */
#ifndef DDPM_DEVICE_NAME_H
#define DDPM_DEVICE_NAME_H
#include <stdbool.h>

typedef enum device_kind {
    DEVICE_AUTO, /* a GPU if one is usable, else the CPU */
    DEVICE_CPU,
    DEVICE_CUDA,
    DEVICE_UNKNOWN
} device_kind;

enum { DEVICE_ANY = -1, DEVICE_NO_NUMBER = -2 };

typedef struct device_name {
    device_kind kind;
    int index; /* DEVICE_CUDA: 0 to 999; DEVICE_ANY for "cuda"; DEVICE_NO_NUMBER for "cuda:x", "cudart" and the like */
} device_name;

device_name device_name_parse(const char *text);

/* Is `text` one of the names above?  A valid name is shorter than 32 bytes. */
bool device_name_is_valid(const char *text);

#endif
