# At build time: commit.h says which commit the sources are, or "unknown" where they are no git checkout (a source
# archive, also one within another project's checkout); touched only where it changed.
#   cmake -DSOURCE=<dir> -DOUT=<file> -P commit.cmake
if(EXISTS ${SOURCE}/.git)
  execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if("${commit}" STREQUAL "")
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "/* Made by cmake/commit.cmake. */\n#define DDPM_COMMIT \"${commit}\"\n" @ONLY)
