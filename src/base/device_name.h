/* device_name.h - the names of what computes: "auto", "cpu", "cuda" and "cuda:2". */
#ifndef DDPM_DEVICE_NAME_H
#define DDPM_DEVICE_NAME_H
#include <stdbool.h>

typedef enum device_kind {
    DEVICE_AUTO, /* a GPU where one answers, else the cpu */
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

/* Is it one of the names above?  Such a name has less than 32 bytes. */
bool device_name_is_valid(const char *text);

#endif
