/* process.h - what the system says about this process and the machine it runs on. */
#ifndef DDPM_PROCESS_H
#define DDPM_PROCESS_H
#include <stddef.h>
#include <stdint.h>

/* Most memory the process has had in use so far (VmHWM), bytes; 0 where the system does not say. */
int64_t process_peak_bytes(void);

/* Seconds since the process began, whatever programs it has been since; negative where the system does not
 * say.  The system counts in hundredths of a second. */
double process_age_seconds(void);

/* "AMD EPYC 9554 64-Core Processor", or "unknown". */
void machine_processor(char *text, size_t cap);

/* Bytes that the process can still take: the least of what the machine has to give (MemAvailable), of what its control
 * groups leave (base/cgroup.h), and of RLIMIT_AS and RLIMIT_DATA.  At least 1.  `root` as in base/cgroup.h. */
int64_t machine_memory_left(const char *root);

/* The machine's own memory: all of it, and what it has to give now (MemAvailable).  Bytes; 0 where the system does not
 * say. */
int64_t machine_memory_total(const char *root);
int64_t machine_memory_available(const char *root);

/* The version of the NVIDIA driver in the kernel, "580.65.06"; "" where none is loaded. */
void machine_nvidia_driver(const char *root, char *text, size_t cap);

/* Bytes of the last level of the processor's cache; 0 where the system does not say. */
int64_t machine_cache_bytes(void);

#endif
