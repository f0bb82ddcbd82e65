/* backend.h - what a plan asks of the machine that runs it.
 *
 * A backend owns memory and prepared primitives.  It sees steps and tensors, never the plan, the
 * model or the trainer.  Memory it hands out may lie on a device: only upload() and download()
 * touch it from the host. */
#ifndef DDPM_BACKEND_H
#define DDPM_BACKEND_H
#include "core/err.h"
#include "plan/step.h"

typedef struct backend backend;

typedef struct backend_table {
    const char *name; /* "cpu", "cuda" */

    void (*destroy)(backend *be); /* takes NULL */
    /* One line for the user: device, libraries, threads. */
    void (*describe)(const backend *be, char *text, size_t cap);

    /* Zeroed memory, aligned to at least 64 bytes. */
    ddpm_status (*alloc)(backend *be, size_t bytes, void **out, err *e);
    void (*release)(backend *be, void *memory); /* takes NULL */
    ddpm_status (*upload)(backend *be, void *to, const void *from_host, size_t bytes, err *e);
    ddpm_status (*download)(backend *be, void *to_host, const void *from, size_t bytes, err *e);

    /* Bytes a tensor needs in its arena; a padded layout may need more than its elements. */
    size_t (*tensor_bytes)(const backend *be, const tensor *t);
    /* Make the step's primitive; set *scratch to the bytes it wants while it runs.  Shapes are
     * known, memory is not.  DDPM_EBACKEND names the step. */
    ddpm_status (*prepare)(backend *be, step *s, size_t *scratch, err *e);
    void (*unprepare)(backend *be, step *s); /* takes a step that was never prepared */
    /* Run the steps in order; all memory is bound. */
    ddpm_status (*run)(backend *be, step *const *steps, int n, err *e);
} backend_table;

struct backend {
    const backend_table *fn;
};

typedef struct backend_spec {
    const char *device; /* "auto" (cuda if a device answers, else cpu), "cpu" */
    int threads;        /* cpu: OpenMP threads, 0 = as many as there are processors */
} backend_spec;

/* DDPM_EINVAL: unknown device.  DDPM_EDEVICE: known, but not usable here. */
DDPM_MUST_CHECK ddpm_status backend_create(const backend_spec *spec, backend **out, err *e);
void backend_destroy(backend *be);

/* The backends there are, for backend.c alone. */
DDPM_MUST_CHECK ddpm_status cpu_create(const backend_spec *spec, backend **out, err *e);

#endif
