/* npz_write.h - the frame of NumPy's .npz file of a set of pictures, as the evaluator of guided-diffusion (ADM) reads it.
 *
 *   arr_0   uint8 [n, h, w, c]    the pictures
 *   arr_1   int64 [n]             their labels, if there are any
 *
 * A zip file of stored .npy members (NumPy's format 1.0) with the 64-bit fields of zip64; its size and the places of the
 * arrays depend on the shapes alone, so that the pictures can be written in any order before their checksum is known. */
#ifndef DDPM_NPZ_WRITE_H
#define DDPM_NPZ_WRITE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NPZ_FRAME = 512 }; /* bytes of each piece of the frame, at most */

typedef struct npz_piece {
    uint64_t at; /* in the file */
    size_t size;
    uint8_t bytes[NPZ_FRAME];
} npz_piece;

typedef struct npz_frame {
    int64_t n;
    int h, w, c;
    bool labels;
    npz_piece head, middle, tail; /* before the pictures, before the labels (size 0: no labels), and at the end */
    uint64_t pictures, labels_at; /* where the arrays begin */
    uint64_t size;                /* of the file */
} npz_frame;

/* Lay out the file.  The pieces' bytes are valid after npz_seal(). */
void npz_lay_out(npz_frame *f, int64_t n, const int shape[3], bool labels);
/* Fill the pieces, given the CRC-32 (of zlib) of the two arrays' bytes. */
void npz_seal(npz_frame *f, uint32_t pictures_crc, uint32_t labels_crc);

#endif
