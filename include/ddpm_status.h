/* ddpm_status.h - the status codes that every call of the library returns.
 *
 * A status is also the exit code of the program, taken from BSD sysexits where one fits. */
#ifndef DDPM_STATUS_H
#define DDPM_STATUS_H

/*  X(name, exit code, meaning) */
#define DDPM_STATUS_LIST(X)                                                                                            \
    X(OK, 0, "success")                                                                                                \
    X(EINVAL, 2, "bad usage, option or argument")                                                                      \
    X(EDATA, 65, "an image, dataset or checkpoint is damaged or does not fit")                                         \
    X(ENOINPUT, 66, "an input is missing or cannot be read")                                                           \
    X(EDEVICE, 69, "no usable device or driver")                                                                       \
    X(EBACKEND, 70, "a compute library or the device failed")                                                          \
    X(ENOMEM, 71, "out of memory")                                                                                     \
    X(ELOCKED, 73, "the run folder is in use")                                                                         \
    X(EIO, 74, "input/output error or disk full")                                                                      \
    X(EDIVERGED, 76, "training diverged, or a picture is not finite")                                                  \
    X(ESAVED, 85, "stopped early and saved: run again to continue")

typedef enum ddpm_status {
#define DDPM_STATUS_ENUM(name, code, meaning) DDPM_##name = (code),
    DDPM_STATUS_LIST(DDPM_STATUS_ENUM)
#undef DDPM_STATUS_ENUM
} ddpm_status;

#if defined(__GNUC__)
#define DDPM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define DDPM_MUST_CHECK
#endif

#endif
