/* tar_write.h - the frame of a tar archive of plain files (POSIX.1-1988, "ustar"), the same bytes for the same files:
 * mode 0644, owner and group 0, time 0, no names of owners.
 *
 * A member is its header, its bytes, and zeros up to a whole number of blocks; after the last one follow TAR_END zeros.
 * WebDataset takes the files of one name, 000123.png and 000123.cls, as one sample. */
#ifndef DDPM_TAR_WRITE_H
#define DDPM_TAR_WRITE_H
#include <stdint.h>

enum { TAR_BLOCK = 512, TAR_END = 2 * TAR_BLOCK, TAR_NAME = 100 };

/* `name` has less than TAR_NAME bytes, `size` is less than 8 GiB. */
void tar_header(uint8_t block[TAR_BLOCK], const char *name, int64_t size);
int64_t tar_header_size(const uint8_t block[TAR_BLOCK]); /* the size that a header states; -1: not such a header */

/* Zeros after `size` bytes of a member. */
static inline int tar_padding(int64_t size) { return (int)(-size & (TAR_BLOCK - 1)); }
/* Bytes of a member with its header. */
static inline int64_t tar_member(int64_t size) { return TAR_BLOCK + size + tar_padding(size); }

#endif
