/* simple_config.h - config.json of the small convolutional denoiser, which is not a diffusers class. */
#ifndef DDPM_SIMPLE_CONFIG_H
#define DDPM_SIMPLE_CONFIG_H
#include "io/unet_config.h"

#define SIMPLE_CLASS "SimpleDenoiser"

/* Read in_channels, out_channels and sample_size.  If the file is of another class, *is_simple is false
 * and *c unchanged.  DDPM_EDATA, DDPM_ENOINPUT. */
DDPM_MUST_CHECK ddpm_status simple_config_read(const char *path, unet_config *c, bool *is_simple, notes *n, err *e);
DDPM_MUST_CHECK ddpm_status simple_config_write(const unet_config *c, const char *path, err *e);

#endif
