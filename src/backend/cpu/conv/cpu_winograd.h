/* cpu_winograd.h - 3x3 convolutions of stride 1 and padding 1 by Winograd's algorithm, in all three passes.
 *
 *   F(4x4, 3x3):  Y = A^T [ (G g G^T) . (B^T d B) ] A      Lavin & Gray 2016 (arXiv:1509.09308), section 4
 *
 * for tiles d of 6x6 pixels, a filter g of 3x3 and tiles Y of 4x4: 36 multiplications instead of the 144 of a direct
 * convolution.  At each of the 36 points the sum over channels is a matrix product.  The gradient of the input is
 * the same algorithm with the filter rotated by 180 degrees; the gradient of the filter is the transposed map,
 *
 *   dg = G^T [ (B^T d B) . (A dY A^T) ] G,  summed over all tiles.
 *
 * The points are 0, +-5/8, +-3/2 and infinity: their error is less than half that of the customary 0, +-1, +-2 (the
 * reasons are in Barabasz et al. 2018, arXiv:1803.10986).  Long sums are split into partial sums.  For normally
 * distributed operands with 64 to 256 channels, the error is at most 8.1e-7 of the norm of the result, and for
 * single values 6.5e-6 of their root mean square (direct convolution: 2.2e-7 and 1.3e-6, and for its filter
 * gradients 7e-7 and 6e-6): tests/backend/cpu/test_cpu_winograd.c.
 *
 * Tiles are processed in chunks whose transforms fit in the caches.  Results are bitwise independent of the number
 * of threads, and the result for an image does not depend on the rest of its batch. */
#ifndef DDPM_CPU_WINOGRAD_H
#define DDPM_CPU_WINOGRAD_H
#include "backend/cpu/lib/onednn.h"
#include "backend/cpu/lib/cpu_layout.h"

typedef struct winograd_spec {
    conv_shape shape; /* kernel 3, stride 1, padding 1; cin and cout are multiples of 16 */
    bool enlarged;    /* the input is [n, h / 2, w / 2, cin], upsampled x2 (nearest neighbour); h, w even */
    int threads;      /* largest number of threads that will run it */
} winograd_spec;

typedef struct winograd_image {
    float *data;
    cpu_strides strides;
} winograd_image;

/* src [n, h, w, cin] is the input of the convolution, or its gradient in backward passes; dst [n, h, w, cout]
 * likewise. */
typedef struct winograd_args {
    winograd_image src, dst;
    winograd_image
        /* added to the result, in its shape: a residual, or the result itself to accumulate; no data: none */
        add;
    float *filter;        /* [cout, 3, 3, cin] */
    float *bias;          /* [cout] or NULL; backward weights: the gradient of the bias */
    bool adds, adds_bias; /* backward weights: += instead of = */
    void *scratch;        /* winograd_scratch() bytes, aligned to a cache line */
} winograd_args;

/* True if Winograd applies: the channels of both images fill blocks. */
static inline bool winograd_takes(int64_t cin, int64_t cout)
{
    return cin % CHANNEL_BLOCK == 0 && cout % CHANNEL_BLOCK == 0;
}

winograd_image winograd_image_of(const tensor *t); /* t may be NULL: no data */

size_t winograd_scratch(const winograd_spec *s);
void winograd_run(const winograd_spec *s, const winograd_args *a);

#endif
