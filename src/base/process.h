/* process.h - information from the system about this process and its machine. */
#ifndef DDPM_PROCESS_H
#define DDPM_PROCESS_H
#include <stddef.h>
#include <stdint.h>

/* Peak resident memory of the process so far (VmHWM), bytes; 0 if unknown. */
int64_t process_peak_bytes(void);

/* Seconds since the process was created (an exec() does not reset it), with a resolution of 0.01 s; negative if
 * unknown. */
double process_age_seconds(void);

/* "AMD EPYC 9554 64-Core Processor", or "unknown". */
void machine_processor(char *text, size_t cap);

/* Bytes that the process can still allocate: the least of the machine's MemAvailable, the memory left by its control
 * groups (base/cgroup.h), and the rest of RLIMIT_AS and RLIMIT_DATA.  At least 1.  `root` as in base/cgroup.h. */
int64_t machine_memory_left(const char *root);

/* The machine's memory: installed, and available now (MemAvailable).  Bytes; 0 if unknown. */
int64_t machine_memory_total(const char *root);
int64_t machine_memory_available(const char *root);

/* The version of the NVIDIA driver in the kernel, "580.65.06"; "" if none is loaded. */
void machine_nvidia_driver(const char *root, char *text, size_t cap);

/* Bytes of the processor's last-level cache; 0 if unknown. */
int64_t machine_cache_bytes(void);

#endif
