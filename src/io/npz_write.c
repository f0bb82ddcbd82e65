#include "io/npz_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

/* PKWARE's APPNOTE.TXT 6.3.10: 4.3.7 local header, 4.3.12 central directory, 4.3.14 to 4.3.16 its end; 4.5.3 zip64. */
enum { LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END64 = 0x06064b50, LOCATOR = 0x07064b50, END = 0x06054b50 };
enum { VERSION = 45, UNIX = 3 << 8, DAY = 0x21 /* 1 January 1980 */, ZIP64 = 1 };
enum { NPY_ALIGN = 64, NPY_CAP = 256 };

typedef struct member {
    const char *name;
    char npy[NPY_CAP]; /* the header of the array's file */
    size_t npy_size;
    uint64_t bytes; /* of the array */
    uint64_t at;    /* of the local header */
} member;

/* Append `bytes` bytes of v, little-endian. */
static void put(npz_piece *p, int bytes, uint64_t v)
{
    for (int i = 0; i < bytes; i++) p->bytes[p->size++] = (uint8_t)(v >> 8 * i);
}

static void put_text(npz_piece *p, const char *text, size_t n)
{
    memcpy(p->bytes + p->size, text, n);
    p->size += n;
}

static member npy_member(const char *name, const char *type, const char *shape, uint64_t bytes)
{
    enum { PREAMBLE = 10 };
    member m = {.name = name, .bytes = bytes};
    const int n = snprintf(m.npy + PREAMBLE, NPY_CAP - PREAMBLE,
                           "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", type, shape);
    m.npy_size = (size_t)(PREAMBLE + n + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
    memset(m.npy + PREAMBLE + n, ' ', m.npy_size - PREAMBLE - (size_t)n);
    m.npy[m.npy_size - 1] = '\n';
    memcpy(m.npy, "\x93NUMPY\x01\x00", 8);
    m.npy[8] = (char)(m.npy_size - PREAMBLE);
    m.npy[9] = (char)((m.npy_size - PREAMBLE) >> 8);
    return m;
}

/* Everything from the version on that both headers share: flags, method (stored), time, checksum, sizes by zip64. */
static void put_common(npz_piece *p, const member *m, uint32_t crc, int extra)
{
    put(p, 2, VERSION);
    put(p, 2, 0);
    put(p, 2, 0);
    put(p, 2, 0);
    put(p, 2, DAY);
    put(p, 4, crc);
    put(p, 4, UINT32_MAX);
    put(p, 4, UINT32_MAX);
    put(p, 2, strlen(m->name));
    put(p, 2, (uint64_t)extra);
}

static void put_sizes(npz_piece *p, const member *m, int extra)
{
    put(p, 2, ZIP64);
    put(p, 2, (uint64_t)extra - 4);
    put(p, 8, m->npy_size + m->bytes);
    put(p, 8, m->npy_size + m->bytes);
}

static void put_local(npz_piece *p, const member *m, uint32_t crc)
{
    enum { EXTRA = 20 };
    p->at = m->at;
    p->size = 0;
    put(p, 4, LOCAL);
    put_common(p, m, crc, EXTRA);
    put_text(p, m->name, strlen(m->name));
    put_sizes(p, m, EXTRA);
    put_text(p, m->npy, m->npy_size);
}

static void put_central(npz_piece *p, const member *m, uint32_t crc)
{
    enum { EXTRA = 28 };
    put(p, 4, CENTRAL);
    put(p, 2, UNIX | VERSION);
    put_common(p, m, crc, EXTRA);
    put(p, 2, 0); /* comment */
    put(p, 2, 0); /* disk */
    put(p, 2, 0); /* internal attributes */
    put(p, 4, 0100644U << 16);
    put(p, 4, UINT32_MAX);
    put_text(p, m->name, strlen(m->name));
    put_sizes(p, m, EXTRA);
    put(p, 8, m->at);
}

static void put_end(npz_piece *p, int members)
{
    const uint64_t size = p->size, end = p->at + p->size;
    put(p, 4, END64);
    put(p, 8, 44); /* bytes that follow */
    put(p, 2, UNIX | VERSION);
    put(p, 2, VERSION);
    put(p, 4, 0);
    put(p, 4, 0);
    put(p, 8, (uint64_t)members);
    put(p, 8, (uint64_t)members);
    put(p, 8, size);
    put(p, 8, p->at);
    put(p, 4, LOCATOR);
    put(p, 4, 0);
    put(p, 8, end);
    put(p, 4, 1);
    put(p, 4, END);
    put(p, 2, 0);
    put(p, 2, 0);
    put(p, 2, (uint64_t)members);
    put(p, 2, (uint64_t)members);
    put(p, 4, UINT32_MAX);
    put(p, 4, UINT32_MAX);
    put(p, 2, 0);
}

static uint32_t crc_of(const member *m, uint32_t array)
{
    const uLong header = crc32_z(0, (const Bytef *)m->npy, m->npy_size);
    return (uint32_t)crc32_combine(header, array, (z_off_t)m->bytes);
}

void npz_seal(npz_frame *f, uint32_t pictures_crc, uint32_t labels_crc)
{
    char shape[80];
    (void)snprintf(shape, sizeof shape, "%" PRId64 ", %d, %d, %d", f->n, f->h, f->w, f->c);
    member m[2] = {
        npy_member("arr_0.npy", "|u1", shape, (uint64_t)f->n * (uint64_t)f->h * (uint64_t)f->w * (uint64_t)f->c)};
    (void)snprintf(shape, sizeof shape, "%" PRId64 ",", f->n);
    m[1] = npy_member("arr_1.npy", "<i8", shape, 8 * (uint64_t)f->n);
    const uint32_t crc[2] = {crc_of(&m[0], pictures_crc), crc_of(&m[1], labels_crc)};
    put_local(&f->head, &m[0], crc[0]);
    f->pictures = f->head.size;
    m[1].at = f->pictures + m[0].bytes;
    if (f->labels) put_local(&f->middle, &m[1], crc[1]);
    f->labels_at = m[1].at + f->middle.size;
    f->tail.at = f->labels_at + (f->labels ? m[1].bytes : 0);
    f->tail.size = 0;
    for (int i = 0; i <= f->labels; i++) put_central(&f->tail, &m[i], crc[i]);
    put_end(&f->tail, 1 + f->labels);
    f->size = f->tail.at + f->tail.size;
}

void npz_lay_out(npz_frame *f, int64_t n, const int shape[3], bool labels)
{
    *f = (npz_frame){.n = n, .h = shape[0], .w = shape[1], .c = shape[2], .labels = labels};
    npz_seal(f, 0, 0);
}
