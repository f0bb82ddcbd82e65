/* Uploads to the emulated device through a ring of pinned buffers. */
#include "backend/emulated/step_list.h"

Test(cuda_staging, a_device_can_be_looked_at)
{
    char text[200];
    int count = 0;
    OK(cuda_look(-1, text, sizeof text, &count, &why));
    cr_expect_eq(strncmp(text, "cuda:0 ", 7), 0, "%s", text);
    cr_expect(strstr(text, " GiB, driver ") && count >= 1, "%s", text);
    cr_expect_eq(cuda_look(count, text, sizeof text, &count, &why), DDPM_EDEVICE);
    cr_expect(!text[0] && count >= 1);
    cuda_libraries(NULL, text, sizeof text);
    cr_expect_eq(strncmp(text, "CUDA ", 5), 0, "%s", text);
}

Test(cuda_staging, what_was_given_may_change_at_once)
{
    enum { UPLOADS = 3 * CUDA_STAGINGS + 1 };
    list l;
    open_list(&l, 0);
    emu_set_timing(EMU_ALL_LATE);
    for (int i = 0; i < UPLOADS; i++) put(&l, i, (float)i); /* the source is on the stack and gone after the call */
    for (int i = 0; i < UPLOADS; i++) cr_expect_eq(get(&l, i), (float)i);
    close_list(&l);
}

/* An upload waits for a buffer only when the buffer is reused. */
Test(cuda_staging, uploads_wait_for_no_more_than_they_must)
{
    list l;
    open_list(&l, 0);
    emu_set_timing(EMU_ALL_LATE);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < CUDA_STAGINGS; i++) {
            emu_fail_at(0);
            put(&l, i, 1);
            cr_expect_eq(emu_calls(), round ? 3 : 4); /* (event, memory | wait,) copy, record */
        }
    cr_expect_eq(emu_live().host_memory, CUDA_STAGINGS);
    close_list(&l);
}

Test(cuda_staging, uploads_of_any_size)
{
    const size_t sizes[] = {0,
                            4,
                            400,
                            40,
                            0,
                            4000,
                            4,
                            1,
                            4001,
                            40000,
                            40001,
                            40001,
                            40001,
                            40001,
                            ((size_t)64 << 20) + 4,
                            4,
                            (size_t)64 << 20};
    const size_t most = ((size_t)64 << 20) + 4;
    list l;
    unsigned char *sent, *seen;
    void *there;
    OK(mem_array(&sent, most, 1, "test", &why));
    OK(mem_array(&seen, most, 1, "test", &why));
    open_list(&l, 0);
    OK(l.be->fn->alloc(l.be, most, &there, &why));
    emu_set_timing(EMU_ALL_LATE);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        memset(sent, (int)i + 1, sizes[i]);
        OK(l.be->fn->upload(l.be, there, sent, sizes[i], &why));
        memset(sent, 99, sizes[i]);
        OK(l.be->fn->download(l.be, seen, there, sizes[i], &why));
        for (size_t k = 0; k < sizes[i]; k += k + 2 < sizes[i] && k > 8192 ? 4097 : 1)
            cr_assert_eq(seen[k], i + 1, "upload %zu, byte %zu: %d", i, k, seen[k]);
    }
    mem_free(sent);
    mem_free(seen);
    l.be->fn->release(l.be, there);
    close_list(&l);
}

/* Without pinned memory the state does not change: the next upload with that buffer allocates it again. */
Test(cuda_staging, an_upload_without_memory_leaves_the_device_alive)
{
    list l;
    const float v[N] = {1, 2, 3, 4, 5};
    open_list(&l, 0);
    emu_fail_at(2); /* event, memory */
    cr_assert_eq(l.be->fn->upload(l.be, l.memory, v, sizeof v, &why), DDPM_ENOMEM);
    for (int i = 0; i < CUDA_STAGINGS - 1; i++) put(&l, i, (float)i); /* uses the other buffers */
    put(&l, 0, 1);
    for (int i = 0; i < CUDA_STAGINGS - 1; i++) put(&l, i, (float)i);
    float more[2 * ROOM] = {0};
    emu_fail_at(2); /* wait, memory */
    cr_assert_eq(l.be->fn->upload(l.be, l.memory, more, sizeof more, &why), DDPM_ENOMEM);
    for (int i = 0; i < 2 * CUDA_STAGINGS; i++) put(&l, i, (float)i);
    for (int i = 0; i < 2 * CUDA_STAGINGS; i++) cr_expect_eq(get(&l, i), (float)i);
    close_list(&l);
}
