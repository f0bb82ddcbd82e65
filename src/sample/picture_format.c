#include "sample/picture_format.h"
#include "data/image.h"

#include <string.h>
#include <unistd.h>

const picture_format *const picture_formats[] = {&format_png, &format_tar, &format_npz, NULL};

const picture_format *picture_format_named(const char *name)
{
    for (int i = 0; picture_formats[i]; i++)
        if (name && !strcmp(picture_formats[i]->name, name)) return picture_formats[i];
    return NULL;
}

ddpm_status picture_store_open(picture_store *s, const picture_set *set, bool reading, err *e)
{
    *s = (picture_store){.set = set, .reading = reading, .ranks = 1, .fd = -1, .unit = -1};
    return set->format->begin ? set->format->begin(s, e) : DDPM_OK;
}

void picture_store_close(picture_store *s)
{
    if (s->set && s->fd >= 0) close(s->fd);
    s->fd = -1;
}

bool picture_png_is_good(const picture_set *set, const void *bytes, size_t size, picture_record *r)
{
    image one;
    if (r->known && !picture_hash_is(bytes, size, r)) return false;
    if (!r->known) {
        if (!image_png_bytes_are_whole(bytes, size, set->h, set->w, set->c)) return false;
        if (image_decode(bytes, size, "picture", &one, NULL) != DDPM_OK) return false;
        image_free(&one);
    }
    picture_hash(bytes, size, r);
    return true;
}

ddpm_status picture_png_decode(const picture_set *set, const void *bytes, size_t size, const char *name,
                               uint8_t *pixels, err *e)
{
    image one;
    TRY(image_decode(bytes, size, name, &one, e));
    const bool fits = one.h == set->h && one.w == set->w && one.c == set->c;
    if (fits) memcpy(pixels, one.pixel, (size_t)one.h * (size_t)one.w * (size_t)one.c);
    image_free(&one);
    return fits ? DDPM_OK : err_set(e, DDPM_EDATA, "%s: a picture of another size", name);
}

bool picture_name_is(const char *name, int digits, const char *end)
{
    const size_t n = strspn(name, "0123456789");
    return n >= (size_t)digits && n < 18 && (n == (size_t)digits || name[0] != '0') && !strcmp(name + n, end);
}
