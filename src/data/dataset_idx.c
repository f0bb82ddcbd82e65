#include "data/dataset_idx.h"

#include "base/big_endian.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/dataset_kind.h"
#include "data/file_list.h"
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#define ZLIB_CONST
#include <zlib.h>

enum { MAGIC_LABELS = 0x801, MAGIC_IMAGES = 0x803, HEADER_LABELS = 8, HEADER_IMAGES = 16 };
static const size_t BYTES_MAX = (size_t)8 << 30;
static const char PATTERN[] = "*images[-.]idx3-ubyte*";

/* ---- the format --------------------------------------------------------------------------------- */

static ddpm_status refuse_header(const uint8_t *bytes, size_t size, const char *name, err *e)
{
    static const char *const types[] = {"unsigned bytes",  "signed bytes", "?",      "16-bit integers",
                                        "32-bit integers", "floats",       "doubles"};
    enum { FIRST = 0x08, TYPES = sizeof types / sizeof *types };
    char found[120] = "";
    const char *picture = image_format(bytes, size);
    if (size < HEADER_LABELS || (big_endian(bytes) == MAGIC_IMAGES && size < HEADER_IMAGES))
        return err_set(e, DDPM_EDATA, "%s: not an IDX file: its %zu bytes are less than a header", name, size);
    const int type = bytes[2] - FIRST, dimensions = bytes[3];
    if (picture)
        (void)snprintf(found, sizeof found, " (a %s image)", picture);
    else if (!bytes[0] && !bytes[1] && type >= 0 && type < TYPES && dimensions > 0)
        (void)snprintf(found, sizeof found, " (an IDX file of %s in %d dimensions)", types[type], dimensions);
    return err_set(
        e, DDPM_EDATA,
        "%s: begins with the magic number 0x%08x%s; expected are 0x%08x for images or 0x%08x for labels, both of "
        "unsigned bytes",
        name, (unsigned)big_endian(bytes), found, MAGIC_IMAGES, MAGIC_LABELS);
}

/* The size that the header says the file has. */
static ddpm_status promised_size(const uint8_t *bytes, size_t size, const char *name, size_t *out, err *e)
{
    const uint32_t magic = size >= HEADER_LABELS ? big_endian(bytes) : 0;
    if (magic == MAGIC_LABELS) {
        *out = HEADER_LABELS + (size_t)big_endian(bytes + 4);
        return DDPM_OK;
    }
    if (magic != MAGIC_IMAGES || size < HEADER_IMAGES) return refuse_header(bytes, size, name, e);
    const uint64_t n = big_endian(bytes + 4), h = big_endian(bytes + 8), w = big_endian(bytes + 12);
    if (h < 1 || h > IMAGE_MAX_SIDE || w < 1 || w > IMAGE_MAX_SIDE || h * w > IMAGE_MAX_PIXELS)
        return err_set(e, DDPM_EDATA,
                       "%s: images of %llu x %llu pixels; supported are sides of 1 to %d and at most %d pixels", name,
                       (unsigned long long)w, (unsigned long long)h, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
    *out = HEADER_IMAGES + n * h * w; /* below 2^32 * 2^26 */
    return DDPM_OK;
}

ddpm_status idx_parse(const uint8_t *bytes, size_t size, int images, const char *name, idx_file *out, err *e)
{
    size_t promised = 0;
    TRY(promised_size(bytes, size, name, &promised, e));
    const int has_images = big_endian(bytes) == MAGIC_IMAGES;
    if (has_images != images)
        return err_set(e, DDPM_EDATA, "%s: contains %s; %s are expected", name, has_images ? "images" : "labels",
                       images ? "images" : "labels");
    if (promised != size)
        return err_set(e, DDPM_EDATA, "%s: the header declares %zu bytes, the file has %zu", name, promised, size);
    *out = (idx_file){.n = big_endian(bytes + 4), .data = bytes + (images ? HEADER_IMAGES : HEADER_LABELS)};
    if (out->n == 0) return err_set(e, DDPM_EDATA, "%s: contains no %s", name, images ? "images" : "labels");
    if (images) {
        out->h = (int)big_endian(bytes + 8);
        out->w = (int)big_endian(bytes + 12);
    }
    return DDPM_OK;
}

/* ---- gzip --------------------------------------------------------------------------------------- */

static int is_gzip(const uint8_t *b, size_t size) { return size >= 2 && b[0] == 0x1f && b[1] == 0x8b; }

typedef struct unpacking {
    const char *name;
    z_stream z;
    const uint8_t *packed; /* borrowed */
    size_t size, left;     /* bytes of `packed`; bytes not yet passed to z */
    size_t out;            /* bytes unpacked so far */
    bool ended;
} unpacking;

static ddpm_status unpack_begin(unpacking *u, err *e)
{
    u->z.next_in = u->packed;
    u->left = u->size;
    if (inflateInit2(&u->z, MAX_WBITS + 16) == Z_OK) return DDPM_OK;
    return err_set(e, DDPM_ENOMEM, "%s: zlib cannot be initialized", u->name);
}

static size_t unread(const unpacking *u) { return u->left + u->z.avail_in; }

/* After the end of a gzip member: another member follows (as after gzip -c a >>b), or zeros to the end. */
static ddpm_status unpack_member(unpacking *u, err *e)
{
    const uint8_t *at = u->packed + u->size - unread(u);
    if (unread(u) >= 2 && is_gzip(at, unread(u))) {
        if (inflateReset(&u->z) == Z_OK) return DDPM_OK;
        return err_set(e, DDPM_EDATA, "%s: damaged gzip data", u->name);
    }
    for (size_t i = 0; i < unread(u); i++)
        if (at[i])
            return err_set(e, DDPM_EDATA, "%s: %zu unexpected bytes after the end of the gzip data", u->name,
                           unread(u));
    u->ended = true;
    return DDPM_OK;
}

/* Unpack the next `room` bytes, or up to the end. */
static ddpm_status unpack_some(unpacking *u, uint8_t *to, size_t room, err *e)
{
    for (size_t done = 0; done < room && !u->ended;) {
        const size_t chunk = room - done < INT_MAX ? room - done : INT_MAX; /* zlib counts in 32 bits */
        if (u->z.avail_in == 0) {
            u->z.avail_in = u->left > INT_MAX ? INT_MAX : (uInt)u->left;
            u->left -= u->z.avail_in;
        }
        u->z.next_out = to + done;
        u->z.avail_out = (uInt)chunk;
        const int rc = inflate(&u->z, Z_NO_FLUSH);
        done += chunk - u->z.avail_out;
        u->out += chunk - u->z.avail_out;
        if (rc == Z_STREAM_END) TRY(unpack_member(u, e));
        if (rc == Z_MEM_ERROR) return err_set(e, DDPM_ENOMEM, "%s: out of memory while decompressing", u->name);
        if (rc == Z_BUF_ERROR)
            return err_set(e, DDPM_EDATA, "%s: gzip data truncated after %zu uncompressed bytes", u->name, u->out);
        if (rc != Z_OK && rc != Z_STREAM_END)
            return err_set(e, DDPM_EDATA, "%s: damaged gzip data after %zu uncompressed bytes: %s", u->name, u->out,
                           u->z.msg ? u->z.msg : "unknown error");
    }
    return DDPM_OK;
}

/* Unpack the whole file without storing it, to check that it is undamaged and as long as its header says. */
static ddpm_status unpack_check(unpacking *u, size_t *promised, err *e)
{
    enum { SOME = 1 << 16 };
    uint8_t some[SOME];
    TRY(unpack_some(u, some, HEADER_IMAGES, e));
    TRY(promised_size(some, u->out, u->name, promised, e));
    if (*promised > BYTES_MAX)
        return err_set(e, DDPM_EDATA, "%s: the header declares %zu bytes, the limit is %zu", u->name, *promised,
                       BYTES_MAX);
    while (!u->ended && u->out <= *promised) TRY(unpack_some(u, some, SOME, e));
    if (u->out > *promised)
        return err_set(e, DDPM_EDATA, "%s: contains more than the %zu bytes that its header declares", u->name,
                       *promised);
    if (u->out < *promised)
        return err_set(e, DDPM_EDATA, "%s: the header declares %zu bytes, the file has %zu", u->name, *promised,
                       u->out);
    return DDPM_OK;
}

ddpm_status idx_unpack(const uint8_t *packed, size_t size, const char *name, uint8_t **out, size_t *out_size, err *e)
{
    ddpm_status st = DDPM_OK;
    size_t promised = 0;
    unpacking check = {.name = name, .packed = packed, .size = size}, keep = check;
    *out = NULL;
    *out_size = 0;
    TRY_GOTO(unpack_begin(&check, e));
    TRY_GOTO(unpack_check(&check, &promised, e));
    TRY_GOTO(mem_array(out, promised, 1, name, e));
    TRY_GOTO(unpack_begin(&keep, e));
    TRY_GOTO(unpack_some(&keep, *out, promised, e));
    *out_size = promised;
done:
    (void)inflateEnd(&check.z); /* accepts an uninitialized stream */
    (void)inflateEnd(&keep.z);
    if (st != DDPM_OK) {
        mem_free(*out);
        *out = NULL;
    }
    return st;
}

/* ---- the dataset -------------------------------------------------------------------------------- */

typedef struct idx_source {
    uint8_t *bytes; /* owned */
    idx_file images;
} idx_source;

/* Read a whole IDX file, unpacked; free with mem_free(). */
static ddpm_status idx_load(const char *path, uint8_t **bytes, size_t *size, err *e)
{
    char *file;
    TRY(file_read(path, BYTES_MAX, &file, size, e));
    *bytes = (uint8_t *)file;
    if (!is_gzip(*bytes, *size)) return DDPM_OK;
    const size_t packed = *size;
    const ddpm_status st = idx_unpack((const uint8_t *)file, packed, path, bytes, size, e);
    mem_free(file);
    return st;
}

/* Find the file of images: the path itself, or in a folder the training images, or the only images file. */
static ddpm_status find_images(const char *path, char out[PATH_CAP], err *e)
{
    ddpm_status st = DDPM_OK;
    file_list l = {0};
    const char *chosen = path;
    if (path_is_dir(path)) {
        TRY_GOTO(file_list_match(&l, path, PATTERN, e));
        if (l.n == 0)
            TRY_GOTO(err_set(e, DDPM_ENOINPUT,
                             "%s: the folder contains no train-images-idx3-ubyte[.gz] and no other %s", path, PATTERN));
        chosen = NULL;
        for (int i = 0; i < l.n && !chosen; i++)
            if (!strncmp(strrchr(l.path[i], '/') + 1, "train-", 6)) chosen = l.path[i];
        if (!chosen && l.n > 1)
            TRY_GOTO(err_set(e, DDPM_EINVAL, "%s: the folder contains %d IDX image files; set data.path to one of them",
                             path, l.n));
        if (!chosen) chosen = l.path[0];
    }
    if (snprintf(out, PATH_CAP, "%s", chosen) >= PATH_CAP)
        TRY_GOTO(err_set(e, DDPM_EINVAL, "path too long: %.200s", chosen));
done:
    file_list_free(&l);
    return st;
}

/* a/train-images-idx3-ubyte.gz -> a/train-labels-idx1-ubyte.gz, or the other of .gz and plain; "" if neither exists. */
static void find_labels(const char *images, char out[PATH_CAP])
{
    (void)snprintf(out, PATH_CAP, "%s", images);
    char *name = strrchr(out, '/');
    char *what = strstr(name ? name : out, "images"), *kind = strstr(name ? name : out, "idx3");
    if (what && kind) {
        memcpy(what, "labels", 6);
        kind[3] = '1';
        if (path_exists(out)) return;
        const size_t n = strlen(out);
        if (n > 3 && !strcmp(out + n - 3, ".gz"))
            out[n - 3] = '\0';
        else if (n + 3 < PATH_CAP)
            memcpy(out + n, ".gz", 4);
        if (path_exists(out)) return;
    }
    out[0] = '\0';
}

/* Read the labels that belong to the file `images` of `there` images. */
static ddpm_status read_labels(const char *images, int64_t there, dataset *d, err *e)
{
    ddpm_status st = DDPM_OK;
    char path[PATH_CAP];
    uint8_t *bytes = NULL;
    size_t size;
    idx_file labels;
    find_labels(images, path);
    if (!*path) return DDPM_OK;
    TRY_GOTO(idx_load(path, &bytes, &size, e));
    TRY_GOTO(idx_parse(bytes, size, 0, path, &labels, e));
    if (labels.n != there)
        TRY_GOTO(
            err_set(e, DDPM_EDATA, "%s: %lld labels for %lld images", path, (long long)labels.n, (long long)there));
    TRY_GOTO(mem_array(&d->label, (size_t)d->count, sizeof *d->label, "labels", e));
    for (int64_t i = 0; i < d->count; i++) {
        d->label[i] = labels.data[i];
        if (d->classes <= d->label[i]) d->classes = d->label[i] + 1;
    }
done:
    mem_free(bytes);
    return st;
}

static ddpm_status idx_open(const dataset_spec *spec, dataset *d, err *e)
{
    char path[PATH_CAP];
    size_t size;
    idx_source *s;
    TRY(mem_array(&s, 1, sizeof *s, "IDX file", e));
    d->source = s;
    TRY(find_images(spec->path, path, e));
    TRY(idx_load(path, &s->bytes, &size, e));
    TRY(idx_parse(s->bytes, size, 1, path, &s->images, e));
    d->count = dataset_first(spec, s->images.n);
    d->source_hash =
        XXH3_64bits(s->bytes, HEADER_IMAGES + (size_t)d->count * (size_t)s->images.h * (size_t)s->images.w);
    return read_labels(path, s->images.n, d, e);
}

static ddpm_status idx_read(const void *source, int64_t i, image *out, err *e)
{
    const idx_file *f = &((const idx_source *)source)->images;
    const size_t each = (size_t)f->h * (size_t)f->w;
    TRY(image_create(out, f->h, f->w, 1, "IDX image", e));
    memcpy(out->pixel, f->data + (size_t)i * each, each);
    return DDPM_OK;
}

static void idx_close(void *source)
{
    idx_source *s = source;
    if (!s) return;
    mem_free(s->bytes);
    mem_free(s);
}

/* A folder that contains such a name, or a file that begins with a magic number or is gzipped and has such a name.
 * Labels alone are also recognised, so that idx_open() can report that the images are missing. */
static bool idx_recognises(const char *path)
{
    if (path_is_dir(path)) {
        file_list l = {0};
        const bool found = file_list_match(&l, path, PATTERN, NULL) == DDPM_OK && l.n > 0;
        file_list_free(&l);
        return found;
    }
    uint8_t head[4];
    if (file_head(path, head, sizeof head) < sizeof head) return false;
    if (is_gzip(head, sizeof head)) return strstr(path, "idx3") || strstr(path, "idx1");
    return big_endian(head) == MAGIC_IMAGES || big_endian(head) == MAGIC_LABELS;
}

const dataset_kind dataset_idx = {
    .name = "idx",
    .looks_for = "train-images-idx3-ubyte[.gz], another *images-idx3-ubyte*, or the folder that contains it",
    .recognises = idx_recognises,
    .open = idx_open,
    .read = idx_read,
    .close = idx_close,
};
