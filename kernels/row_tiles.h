/* row_tiles.h - distributes a matrix [rows, c] with contiguous rows over thread blocks.
 *
 * A tile is `width` quads wide and `depth` rows deep, width * depth = PANEL_THREADS.  Its width is that of the
 * matrix, so that few threads idle, but at most a warp.  A block processes one tile in x and several in y; the
 * blocks across one row of tiles have consecutive numbers. */
#ifndef DDPM_ROW_TILES_H
#define DDPM_ROW_TILES_H
#include "storage.h"

enum { PANEL_THREADS = 256, PANEL_WIDTH = 32 };

typedef struct panel {
    int width, depth;
    int across;     /* blocks in x */
    int64_t down;   /* blocks in y */
    int64_t height; /* rows per block, except the last: depth times tiles per block */
} panel;

/* Splits into blocks of at least `turns` tiles, or more if there would be over `most` blocks in y (most = 0: no
 * limit). rows, c >= 1; c < 2^30. */
HD panel panel_of(int64_t rows, int64_t c, int turns, int64_t most)
{
    const int64_t quads = quads_of(c);
    panel p;
    p.width = PANEL_WIDTH;
    while (p.width / 2 >= quads) p.width /= 2;
    p.depth = PANEL_THREADS / p.width;
    p.across = (int)((quads + p.width - 1) / p.width);
    const int64_t tiles = (rows + p.depth - 1) / p.depth, wanted = (tiles + turns - 1) / turns;
    const int64_t down = most && wanted > most ? most : wanted;
    p.height = (tiles + down - 1) / down * p.depth;
    p.down = (rows + p.height - 1) / p.height;
    return p;
}

#endif
