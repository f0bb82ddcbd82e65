#include "emu/emu_loops.h"

#include <cmath>
#include <cstddef>
#include <vector>

namespace emu
{
namespace
{
constexpr int64_t worth_threads = 1 << 18; /* problems with fewer multiplications run on one thread */

void add_scaled(double *sum, float scale, const float *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) sum[i] += (double)scale * (double)v[i];
}

double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

int64_t work(const conv_shape &s) { return s.oh * s.ow * s.n * conv_w_count(&s); }

/* f [cout, r, s, cin] as [r, s, cin, cout] */
std::vector<float> filters_last(const conv_shape &s, const float *f)
{
    const int64_t taps = (int64_t)s.kernel * s.kernel * s.cin;
    std::vector<float> t((size_t)(taps * s.cout));
    for (int64_t k = 0; k < s.cout; k++)
        for (int64_t i = 0; i < taps; i++) t[(size_t)(i * s.cout + k)] = f[k * taps + i];
    return t;
}

void forward_pixel(const conv_shape &s, const float *x, const float *t, int64_t oy, int64_t ox, double *y)
{
    for (int64_t k = 0; k < s.cout; k++) y[k] = 0.0;
    for (int r = 0; r < s.kernel; r++)
        for (int q = 0; q < s.kernel; q++) {
            const int64_t iy = oy * s.stride + r - s.pad_begin, ix = ox * s.stride + q - s.pad_begin;
            if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
            const float *pixel = x + (iy * s.w + ix) * s.cin, *tap = t + ((int64_t)r * s.kernel + q) * s.cin * s.cout;
            for (int64_t c = 0; c < s.cin; c++) add_scaled(y, pixel[c], tap + c * s.cout, s.cout);
        }
}

void data_pixel(const conv_shape &s, const float *y, const float *f, int64_t iy, int64_t ix, double *x)
{
    const int64_t taps = (int64_t)s.kernel * s.kernel * s.cin;
    for (int64_t c = 0; c < s.cin; c++) x[c] = 0.0;
    for (int r = 0; r < s.kernel; r++)
        for (int q = 0; q < s.kernel; q++) {
            const int64_t up = iy + s.pad_begin - r, left = ix + s.pad_begin - q;
            if (up < 0 || left < 0 || up % s.stride || left % s.stride) continue;
            if (up / s.stride >= s.oh || left / s.stride >= s.ow) continue;
            const float *pixel = y + (up / s.stride * s.ow + left / s.stride) * s.cout;
            const float *tap = f + ((int64_t)r * s.kernel + q) * s.cin;
            for (int64_t k = 0; k < s.cout; k++) add_scaled(x, pixel[k], tap + k * taps, s.cin);
        }
}

/* Row r, column q of filter k. */
void filter_tap(const conv_shape &s, const float *x, const float *y, int64_t k, int r, int q, double *f)
{
    for (int64_t c = 0; c < s.cin; c++) f[c] = 0.0;
    for (int64_t i = 0; i < s.n * s.oh * s.ow; i++) {
        const int64_t b = i / (s.oh * s.ow), oy = i / s.ow % s.oh, ox = i % s.ow;
        const int64_t iy = oy * s.stride + r - s.pad_begin, ix = ox * s.stride + q - s.pad_begin;
        if (iy < 0 || iy >= s.h || ix < 0 || ix >= s.w) continue;
        add_scaled(f, y[i * s.cout + k], x + ((b * s.h + iy) * s.w + ix) * s.cin, s.cin);
    }
}
} // namespace

void conv_forward(const conv_shape &s, const float *x, const float *f, double *y)
{
    const std::vector<float> t = filters_last(s, f);
    const bool threads = work(s) > worth_threads;
#pragma omp parallel for if (threads)
    for (int64_t i = 0; i < s.n * s.oh * s.ow; i++)
        forward_pixel(s, x + i / (s.oh * s.ow) * s.h * s.w * s.cin, t.data(), i / s.ow % s.oh, i % s.ow,
                      y + i * s.cout);
}

void conv_data(const conv_shape &s, const float *y, const float *f, double *x)
{
    const bool threads = work(s) > worth_threads;
#pragma omp parallel for if (threads)
    for (int64_t i = 0; i < s.n * s.h * s.w; i++)
        data_pixel(s, y + i / (s.h * s.w) * s.oh * s.ow * s.cout, f, i / s.w % s.h, i % s.w, x + i * s.cin);
}

void conv_filter(const conv_shape &s, const float *x, const float *y, double *f)
{
    const bool threads = work(s) > worth_threads;
    const int64_t taps = (int64_t)s.kernel * s.kernel;
#pragma omp parallel for if (threads)
    for (int64_t i = 0; i < s.cout * taps; i++)
        filter_tap(s, x, y, i / taps, (int)(i % taps) / s.kernel, (int)(i % taps) % s.kernel, f + i * s.cin);
}

void product(int64_t m, int64_t n, int64_t k, const float *a, const float *b, double *d)
{
    const bool threads = m * n * k > worth_threads;
#pragma omp parallel for if (threads)
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) d[i * n + j] = 0.0;
        for (int64_t l = 0; l < k; l++) add_scaled(d + i * n, a[i * k + l], b + l * n, n);
    }
}

/* ---- attention ---- */

void attention_forward(const attention_shape &t, const float *qkv, double *y, double *lse)
{
    const int64_t row = t.heads * t.d;
    const double scale = 1.0 / std::sqrt((double)t.d);
    std::vector<double> p((size_t)t.s);
    for (int64_t b = 0; b < t.n; b++)
        for (int64_t h = 0; h < t.heads; h++)
            for (int64_t i = 0; i < t.s; i++) {
                const float *q = qkv + (b * t.s + i) * 3 * row + h * t.d;
                const float *k = qkv + b * t.s * 3 * row + row + h * t.d, *v = k + row;
                double most = -INFINITY, sum = 0.0;
                for (int64_t j = 0; j < t.s; j++) p[(size_t)j] = scale * dot(q, k + j * 3 * row, t.d);
                for (double s : p) most = std::fmax(most, s);
                for (double &s : p) sum += s = std::exp(s - most);
                double *out = y + (b * t.s + i) * row + h * t.d;
                for (int64_t c = 0; c < t.d; c++) out[c] = 0.0;
                for (int64_t j = 0; j < t.s; j++)
                    for (int64_t c = 0; c < t.d; c++) out[c] += p[(size_t)j] / sum * (double)v[j * 3 * row + c];
                lse[(b * t.heads + h) * t.s + i] = most + std::log(sum);
            }
}

/* One query row: p = exp(s - lse), ds = p (dy v^T - dy . y); adds its contributions to dq, dk and dv. */
static void backward_row(const attention_shape &t, const float *q, const float *k, const float *y, double lse,
                         const float *dy, double *dq, double *dk)
{
    const int64_t wide = 3 * t.heads * t.d, to_v = t.heads * t.d;
    const double scale = 1.0 / std::sqrt((double)t.d), own = dot(dy, y, t.d);
    for (int64_t j = 0; j < t.s; j++) {
        const float *kj = k + j * wide, *vj = kj + to_v;
        const double p = std::exp(scale * dot(q, kj, t.d) - lse), ds = scale * p * (dot(dy, vj, t.d) - own);
        double *dkj = dk + j * wide, *dvj = dkj + to_v;
        for (int64_t c = 0; c < t.d; c++) {
            dq[c] += ds * (double)kj[c];
            dkj[c] += ds * (double)q[c];
            dvj[c] += p * (double)dy[c];
        }
    }
}

void attention_backward(const attention_shape &t, const float *qkv, const float *y, const float *lse, const float *dy,
                        double *dqkv)
{
    const int64_t row = t.heads * t.d;
    for (int64_t i = 0; i < t.n * t.s * 3 * row; i++) dqkv[i] = 0.0;
    for (int64_t b = 0; b < t.n; b++)
        for (int64_t h = 0; h < t.heads; h++)
            for (int64_t i = 0; i < t.s; i++) {
                const int64_t q = (b * t.s + i) * 3 * row + h * t.d, k = b * t.s * 3 * row + row + h * t.d;
                const int64_t narrow = (b * t.s + i) * row + h * t.d;
                backward_row(t, qkv + q, qkv + k, y + narrow, (double)lse[(b * t.heads + h) * t.s + i], dy + narrow,
                             dqkv + q, dqkv + k);
            }
}
} // namespace emu
