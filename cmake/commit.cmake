# At build time: commit.h says which commit the sources are, where git knows; touched only where it changed.
#   cmake -DSOURCE=<dir> -DOUT=<file> -P commit.cmake
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
  OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
file(CONFIGURE OUTPUT ${OUT} CONTENT "/* Made by cmake/commit.cmake. */\n#define DDPM_COMMIT \"${commit}\"\n" @ONLY)
