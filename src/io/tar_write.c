#include "io/tar_write.h"

#include <stdio.h>
#include <string.h>

/* Offsets and lengths of a header's fields; numbers are octal digits and a final 0. */
enum { NAME = 0, MODE = 100, UID = 108, GID = 116, SIZE = 124, TIME = 136, SUM = 148, KIND = 156, MAGIC = 257 };
enum { DIGITS = 11 }; /* of size and time */

void tar_header(uint8_t block[TAR_BLOCK], const char *name, int64_t size)
{
    char *b = (char *)block;
    unsigned sum = 0;
    memset(block, 0, TAR_BLOCK);
    (void)snprintf(b + NAME, TAR_NAME, "%s", name);
    (void)snprintf(b + MODE, 8, "%07o", 0644);
    (void)snprintf(b + UID, 8, "%07o", 0);
    (void)snprintf(b + GID, 8, "%07o", 0);
    (void)snprintf(b + SIZE, DIGITS + 1, "%0*llo", DIGITS, (unsigned long long)size & 077777777777ULL);
    (void)snprintf(b + TIME, DIGITS + 1, "%0*o", DIGITS, 0);
    b[KIND] = '0';
    memcpy(b + MAGIC, "ustar\00000", 8);
    memset(b + SUM, ' ', 8); /* the sum is taken with blanks in its own place */
    for (int i = 0; i < TAR_BLOCK; i++) sum += block[i];
    (void)snprintf(b + SUM, 8, "%06o", sum & 0777777U); /* then a 0 and the last blank */
}

int64_t tar_header_size(const uint8_t block[TAR_BLOCK])
{
    int64_t size = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (block[SIZE + i] < '0' || block[SIZE + i] > '7') return -1;
        size = 8 * size + (block[SIZE + i] - '0');
    }
    return size;
}
