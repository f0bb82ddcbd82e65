/* api.h - what the parts of the public interface share. */
#ifndef DDPM_API_H
#define DDPM_API_H
#include "ddpm.h"
#include "nn/nn.h"
#include "config/config.h"
#include "model/model.h"

#include <locale.h>

/* A handle is freed once it and everything created from it is destroyed: `users` counts both. */
struct ddpm_ctx {
    int users;
    err last;
    backend *be;
    config_device device; /* as requested; "" if that is not a valid device */
    int threads;          /* as requested; 0: all */
    char description[200];
};

struct ddpm_model {
    int users;
    ddpm_ctx *ctx; /* counted in ctx->users */
    model *m;
    plan *p; /* for the batch size of the last prediction */
    tensor *x, *t, *labels;
    network_outputs net;
};

/* The library reads and writes numbers with a decimal point, also if the caller's locale uses a comma: the calling
 * thread is in the C locale from api_enter() to api_leave(), except during callbacks. */
locale_t api_enter(void);
ddpm_status api_leave(locale_t caller, ddpm_status st);

#endif
