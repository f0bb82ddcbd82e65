/* simple_config.h - config.json of the small convolutional denoiser, which is no diffusers class. */
#ifndef DDPM_SIMPLE_CONFIG_H
#define DDPM_SIMPLE_CONFIG_H
#include "io/unet_config.h"

#define SIMPLE_CLASS "SimpleDenoiser"

/* Fills in_channels, out_channels and sample_size.  *is_simple false, and nothing else done, when
 * the file is of another class.  DDPM_EDATA, DDPM_ENOINPUT. */
DDPM_MUST_CHECK ddpm_status simple_config_read(const char *path, unet_config *c, bool *is_simple, notes *n, err *e);
DDPM_MUST_CHECK ddpm_status simple_config_write(const unet_config *c, const char *path, err *e);

#endif
