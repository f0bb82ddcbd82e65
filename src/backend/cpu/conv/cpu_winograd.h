/* cpu_winograd.h - 3x3 convolutions of stride 1 and padding 1 by Winograd's algorithm, in all three passes.
 *
 *   F(4x4, 3x3):  Y = A^T [ (G g G^T) . (B^T d B) ] A      Lavin & Gray 2016 (arXiv:1509.09308), section 4
 *
 * for tiles d of 6x6 pixels, a filter g of 3x3 and tiles Y of 4x4: 36 multiplications for what direct sums need 144
 * for.  At each of the 36 points the sum over channels is a product of matrices.  The gradient of the input is the
 * same with the filter turned round; that of the filter is the transposed map,
 *
 *   dg = G^T [ (B^T d B) . (A dY A^T) ] G,  summed over all tiles.
 *
 * The points are 0, +-5/8, +-3/2 and infinity, whose error is less than half that of the customary 0, +-1, +-2
 * (Barabasz et al. 2018, arXiv:1803.10986, on why), and long sums are made of short ones.  With normal operands of 64 to
 * 256 channels the error is at most 8.1e-7 of the result's norm, in single values 6.5e-6 of their root mean square
 * (direct sums: 2.2e-7 and 1.3e-6; of filters' gradients 7e-7 and 6e-6): tests/backend/cpu/test_cpu_winograd.c.
 *
 * Tiles are worked on in chunks whose transforms stay in the caches.  No bit of a result depends on the number of
 * threads, and none of an image on the others of its batch. */
#ifndef DDPM_CPU_WINOGRAD_H
#define DDPM_CPU_WINOGRAD_H
#include "backend/cpu/lib/onednn.h"
#include "backend/cpu/lib/cpu_layout.h"

typedef struct winograd_spec {
    conv_pass pass;
    int64_t n, h, w;   /* of the convolution's result, which is as large as its input */
    int64_t cin, cout; /* multiples of 16 */
    bool enlarged;     /* the input is [n, h / 2, w / 2, cin], each pixel taken four times; h, w even */
    int threads;       /* at most so many will run it */
} winograd_spec;

typedef struct winograd_image {
    float *data;
    cpu_strides strides;
} winograd_image;

/* The convolution reads or, backward, has the gradient of src [n, h, w, cin]; dst [n, h, w, cout] likewise. */
typedef struct winograd_args {
    winograd_image src, dst;
    winograd_image
        add;       /* of the shape of what is made, and added to it: a residual, or that itself; no data: nothing */
    float *filter; /* [cout, 3, 3, cin] */
    float *bias;   /* [cout] or NULL; of filters' gradients: its gradient */
    bool adds, adds_bias; /* of filters' gradients: += instead of = */
    void *scratch;        /* winograd_scratch() bytes, aligned to a cache line */
} winograd_args;

/* Can it be done so?  Both images' channels fill blocks. */
static inline bool winograd_takes(int64_t cin, int64_t cout)
{
    return cin % CHANNEL_BLOCK == 0 && cout % CHANNEL_BLOCK == 0;
}

winograd_image winograd_image_of(const tensor *t); /* NULL: no data */

size_t winograd_scratch(const winograd_spec *s);
void winograd_run(const winograd_spec *s, const winograd_args *a);

#endif
