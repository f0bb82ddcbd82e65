/* safetensors_write.c - writing safetensors files (safetensors.h). */
#include "base/mem.h"
#include "io/json_out.h"
#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct ranked { /* an item with its offset in the file */
    const safetensors_item *item;
    size_t bytes, begin;
} ranked;

static int by_rank(const void *a, const void *b)
{
    const safetensors_item *x = ((const ranked *)a)->item, *y = ((const ranked *)b)->item;
    if (x->dtype != y->dtype) return x->dtype > y->dtype ? -1 : 1;
    return strcmp(x->name, y->name);
}

static ddpm_status check_item(const safetensors_item *item, const char *path, size_t *bytes, err *e)
{
    json_t *name = json_string(item->name);
    if (!name || !strcmp(item->name, "__metadata__"))
        return json_decref(name), err_set(e, DDPM_EINVAL, "%s: '%.80s' is not a valid tensor name", path, item->name);
    json_decref(name);
    if (item->rank < 0 || item->rank > SAFETENSORS_MAX_RANK)
        return err_set(e, DDPM_EINVAL, "%s: %.80s: rank %d is outside 0 to %d", path, item->name, item->rank,
                       SAFETENSORS_MAX_RANK);
    *bytes = safetensors_dtype_size(item->dtype);
    for (int i = 0; i < item->rank; i++)
        if (item->shape[i] < 0 || __builtin_mul_overflow(*bytes, (uint64_t)item->shape[i], bytes))
            return err_set(e, DDPM_EINVAL, "%s: %.80s: dimension %d (%lld) is negative or too large", path, item->name,
                           i, (long long)item->shape[i]);
    return DDPM_OK;
}

/* Sort the items into file order and assign their offsets. */
static ddpm_status rank_items(ranked *order, const safetensors_item *items, int n, const char *path, err *e)
{
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        order[i].item = &items[i];
        TRY(check_item(&items[i], path, &order[i].bytes, e));
    }
    qsort(order, (size_t)n, sizeof *order, by_rank);
    for (int i = 0; i < n; i++) {
        order[i].begin = at;
        if (__builtin_add_overflow(at, order[i].bytes, &at) || at > INT64_MAX)
            return err_set(e, DDPM_EINVAL, "%s: the total size of the tensors is too large", path);
    }
    return DDPM_OK;
}

static ddpm_status check_names(const safetensors_item *items, int n, const char *path, err *e)
{
    json_t *seen = json_object();
    ddpm_status st = seen ? DDPM_OK : err_set(e, DDPM_ENOMEM, "%s: out of memory", path);
    for (int i = 0; i < n && st == DDPM_OK; i++) {
        if (json_object_get(seen, items[i].name))
            st = err_set(e, DDPM_EINVAL, "%s: two tensors are named '%.80s'", path, items[i].name);
        else if (json_object_set_new(seen, items[i].name, json_true()))
            st = err_set(e, DDPM_ENOMEM, "%s: out of memory", path);
    }
    json_decref(seen);
    return st;
}

static ddpm_status header_text(const ranked *order, int n, char **text, size_t *size, err *e)
{
    json_out j = json_out_begin(true, e);
    json_out_open(&j, NULL, '{');
    json_out_open(&j, "__metadata__", '{');
    json_out_text(&j, "format", "pt");
    json_out_close(&j, '}');
    for (int i = 0; i < n; i++) {
        const safetensors_item *item = order[i].item;
        json_out_open(&j, item->name, '{');
        json_out_text(&j, "dtype", safetensors_dtype_name(item->dtype));
        json_out_open(&j, "shape", '[');
        for (int k = 0; k < item->rank; k++) json_out_int(&j, NULL, item->shape[k]);
        json_out_close(&j, ']');
        json_out_open(&j, "data_offsets", '[');
        json_out_int(&j, NULL, (int64_t)order[i].begin);
        json_out_int(&j, NULL, (int64_t)(order[i].begin + order[i].bytes));
        json_out_close(&j, ']');
        json_out_close(&j, '}');
    }
    json_out_close(&j, '}');
    return json_out_finish(&j, text, size);
}

static ddpm_status put(int fd, const void *from, size_t size, const char *path, err *e)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(fd, (const char *)from + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot write", path);
        done += (size_t)n;
    }
    return DDPM_OK;
}

static ddpm_status put_header(int fd, const char *text, size_t size, const char *path, err *e)
{
    const uint64_t padded = (size + 7) / 8 * 8;
    if (padded > SAFETENSORS_MAX_HEADER)
        return err_set(e, DDPM_EINVAL, "%s: the header of %llu bytes exceeds the limit of the format", path,
                       (unsigned long long)padded);
    TRY(put(fd, &padded, sizeof padded, path, e));
    TRY(put(fd, text, size, path, e));
    return put(fd, "       ", (size_t)padded - size, path, e);
}

static ddpm_status put_items(int fd, const ranked *order, int n, const char *path, err *e)
{
    void *scratch = NULL;
    size_t largest = 0;
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < n; i++)
        if (order[i].item->pack && order[i].bytes > largest) largest = order[i].bytes;
    if (largest > 0) TRY_GOTO(mem_array(&scratch, largest, 1, path, e));
    for (int i = 0; i < n; i++) {
        const safetensors_item *item = order[i].item;
        if (item->pack && order[i].bytes > 0) item->pack(item, scratch);
        TRY_GOTO(put(fd, item->pack ? scratch : item->data, order[i].bytes, path, e));
    }
done:
    mem_free(scratch);
    return st;
}

ddpm_status safetensors_write(const char *path, const safetensors_item *items, int n, bool durable, err *e)
{
    ranked *order = NULL;
    char *text = NULL;
    size_t size;
    int fd = -1;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&order, (size_t)n, sizeof *order, path, e));
    TRY_GOTO(rank_items(order, items, n, path, e));
    TRY_GOTO(check_names(items, n, path, e));
    TRY_GOTO(header_text(order, n, &text, &size, e));
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot create", path));
    TRY_GOTO(put_header(fd, text, size, path, e));
    TRY_GOTO(put_items(fd, order, n, path, e));
    if (durable && fsync(fd)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot sync to disk", path));
done:
    if (fd >= 0 && close(fd) && st == DDPM_OK) st = err_errno(e, DDPM_EIO, errno, "%s: cannot close", path);
    if (fd >= 0 && st != DDPM_OK) unlink(path);
    free(text);
    mem_free(order);
    return st;
}
