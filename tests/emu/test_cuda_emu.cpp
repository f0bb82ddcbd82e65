/* The emulator is only useful if it detects mistakes: each test here makes a mistake, or checks that correct code
 * passes. */
#include "kernels/emulated.h"
#include "emu/emu_faults.h"
#include <functional>
#include <sys/wait.h>
#include <unistd.h>

static const emu::order orders[] = {emu::order::forward, emu::order::reverse, emu::order::shuffled};

static bool error_says(const char *text) { return strstr(emu::last_error(), text) != nullptr; }

#define assert_error(...)                                                                                              \
    for (const char *text : {__VA_ARGS__}) cr_assert(error_says(text), "no \"%s\" in \"%s\"", text, emu::last_error())

/* ---- races ---- */

/* Each thread reads the value that its right neighbour wrote. */
static void neighbour(int *out, bool with_barrier)
{
    SHARED(int, value, 96);
    value[threadIdx.x] = (int)threadIdx.x;
    if (with_barrier) __syncthreads();
    out[threadIdx.x] = value[(threadIdx.x + 1) % 96];
}

static std::vector<int> neighbours(emu::order o, bool with_barrier)
{
    std::vector<int> out(96);
    emu::set_order(o);
    LAUNCH(neighbour, 1, 96, 0, nullptr, out.data(), with_barrier);
    cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
    return out;
}

Test(cuda_emu, a_barrier_makes_every_order_agree)
{
    for (emu::order o : orders) {
        const std::vector<int> out = neighbours(o, true);
        for (int i = 0; i < 96; i++) cr_assert_eq(out[i], (i + 1) % 96);
    }
}

Test(cuda_emu, without_the_barrier_the_orders_disagree)
{
    const std::vector<int> a = neighbours(orders[0], false), b = neighbours(orders[1], false);
    const std::vector<int> c = neighbours(orders[2], false);
    cr_assert(a != b && b != c && a != c);
}

static void within_a_warp(int *out, bool with_sync)
{
    SHARED(int, value, 32);
    value[threadIdx.x] = (int)threadIdx.x;
    if (with_sync) __syncwarp();
    out[threadIdx.x] = value[31 - threadIdx.x];
}

Test(cuda_emu, lanes_of_a_warp_race_too)
{
    std::vector<int> synced[3], raced[3];
    for (int i = 0; i < 3; i++) {
        synced[i].resize(32), raced[i].resize(32);
        emu::set_order(orders[i]);
        LAUNCH(within_a_warp, 1, 32, 0, nullptr, synced[i].data(), true);
        LAUNCH(within_a_warp, 1, 32, 0, nullptr, raced[i].data(), false);
        cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
    }
    cr_assert(synced[0] == synced[1] && synced[1] == synced[2]);
    cr_assert(raced[0] != raced[1]);
}

/* The last block to run wins: nothing orders the blocks of a grid. */
static void last_block(int *out) { *out = (int)blockIdx.x; }

Test(cuda_emu, blocks_follow_the_order_too)
{
    int forward = -1, reverse = -1;
    emu::set_order(emu::order::forward);
    LAUNCH(last_block, 5, 1, 0, nullptr, &forward);
    emu::set_order(emu::order::reverse);
    LAUNCH(last_block, 5, 1, 0, nullptr, &reverse);
    cr_assert_eq(forward, 4);
    cr_assert_eq(reverse, 0);
}

static void unwritten(float *out)
{
    SHARED(float, value, 4);
    *out = value[3];
}

Test(cuda_emu, unwritten_shared_memory_is_nan_in_every_block)
{
    float out = 0.0f;
    LAUNCH(unwritten, 3, 1, 0, nullptr, &out);
    cr_assert(std::isnan(out));
}

/* ---- barriers that some threads do not reach ---- */

static void half_a_barrier()
{
    if (threadIdx.x < 40) __syncthreads();
}

Test(cuda_emu, a_barrier_after_some_left_is_an_error)
{
    for (emu::order o : orders) {
        emu::set_order(o);
        LAUNCH(half_a_barrier, 2, 64, 0, nullptr);
        cr_assert_eq(launch_status(), DDPM_EBACKEND);
        assert_error("half_a_barrier: block (", "thread (0,0,0) waits in __syncthreads at ",
                     "test_cuda_emu.cpp:", "thread (40,0,0) has exited");
    }
}

static void two_barriers()
{
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
}

Test(cuda_emu, two_different_barriers_are_an_error)
{
    LAUNCH(two_barriers, 1, 64, 0, nullptr);
    assert_error("block (0,0,0)", "thread (0,0,0) waits in __syncthreads", "but thread (1,0,0) waits in __syncthreads");
}

Test(cuda_emu, errors_stick_until_the_order_is_set_again)
{
    int out = -1;
    LAUNCH(two_barriers, 1, 64, 0, nullptr);
    LAUNCH(last_block, 1, 1, 0, nullptr, &out);
    cr_assert_eq(out, -1);
    cr_assert_eq(launch_status(), DDPM_EBACKEND);
    emu::set_order(emu::order::forward);
    cr_assert_eq(launch_status(), DDPM_OK);
    LAUNCH(last_block, 1, 1, 0, nullptr, &out);
    cr_assert_eq(out, 0);
    cr_assert(neighbours(emu::order::forward, true)[0] == 1); /* the abandoned fibers can be reused */
}

/* ---- shuffles and votes ---- */

static void warp_sums(int *down, int *butterfly, int *up, int *from_3)
{
    const int me = (int)threadIdx.x;
    int d = me, x = me;
    for (int i = 16; i > 0; i /= 2) d += __shfl_down_sync(~0u, d, i);
    for (int i = 16; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    down[me] = d;
    butterfly[me] = x;
    up[me] = __shfl_up_sync(~0u, me, 1);
    from_3[me] = __shfl_sync(~0u, me, 3, 8);
}

Test(cuda_emu, shuffles_do_what_cuda_says)
{
    for (emu::order o : orders) {
        std::vector<int> down(64), butterfly(64), up(64), from_3(64);
        emu::set_order(o);
        LAUNCH(warp_sums, 1, 64, 0, nullptr, down.data(), butterfly.data(), up.data(), from_3.data());
        cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
        cr_assert_eq(down[0], 496);
        cr_assert_eq(down[32], 496 + 32 * 32);
        for (int i = 0; i < 64; i++) {
            cr_assert_eq(butterfly[i], i < 32 ? 496 : 496 + 32 * 32);
            cr_assert_eq(up[i], i % 32 == 0 ? i : i - 1);
            cr_assert_eq(from_3[i], i / 8 * 8 + 3);
        }
    }
}

static void halves(double *out, unsigned *votes, int *any, int *all)
{
    const bool low = threadIdx.x < 16;
    const unsigned mask = low ? 0xFFFFu : 0xFFFF0000u;
    if (low) /* two groups of one warp at different shuffles */
        out[threadIdx.x] = __shfl_sync(mask, threadIdx.x + 0.5, 7);
    else
        out[threadIdx.x] = __shfl_sync(mask, threadIdx.x + 0.5, 23);
    votes[threadIdx.x] = __ballot_sync(mask, threadIdx.x % 3 == 0);
    any[threadIdx.x] = __any_sync(mask, threadIdx.x == 5);
    all[threadIdx.x] = __all_sync(mask, threadIdx.x >= 16);
}

Test(cuda_emu, groups_of_a_warp_meet_by_their_masks)
{
    for (emu::order o : orders) {
        std::vector<double> out(32);
        std::vector<unsigned> votes(32);
        std::vector<int> any(32), all(32);
        emu::set_order(o);
        LAUNCH(halves, 1, 32, 0, nullptr, out.data(), votes.data(), any.data(), all.data());
        cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
        for (int i = 0; i < 32; i++) {
            cr_assert_eq(out[i], i < 16 ? 7.5 : 23.5);
            cr_assert_eq(votes[i], i < 16 ? 0x9249u : 0x49240000u);
            cr_assert_eq(any[i], i < 16);
            cr_assert_eq(all[i], i >= 16);
        }
    }
}

static void shuffle_with_the_dead()
{
    if (threadIdx.x != 9) __shfl_xor_sync(~0u, 1, 1);
}

static void shuffle_from_outside()
{
    if (threadIdx.x < 4) __shfl_sync(0xFu, 1, 6);
}

static void shuffle_without_myself() { __shfl_sync(0xFu, 1, 0); }
static void shuffle_in_a_short_warp() { __shfl_sync(~0u, 1, 0); }

static void shuffle_by_two_masks() { __shfl_sync(threadIdx.x < 16 ? ~0u : 0xFFFF0000u, 1, 20); }

static void shuffle_at_a_barrier()
{
    if (threadIdx.x == 2)
        __syncthreads();
    else
        __shfl_sync(~0u, 1, 0);
}

Test(cuda_emu, misused_shuffles_are_errors)
{
    LAUNCH(shuffle_with_the_dead, 1, 32, 0, nullptr);
    assert_error("thread (0,0,0) waits in __shfl_xor_sync", "but thread (9,0,0) has exited");
    emu::set_order(emu::order::forward);
    LAUNCH(shuffle_from_outside, 1, 32, 0, nullptr);
    assert_error("shuffle_from_outside", "reads lane 6, which is not in the mask 0xf");
    emu::set_order(emu::order::reverse);
    LAUNCH(shuffle_without_myself, 1, 32, 0, nullptr);
    assert_error("thread (31,0,0) is not in its own mask 0xf");
    emu::set_order(emu::order::forward);
    LAUNCH(shuffle_in_a_short_warp, 1, 20, 0, nullptr);
    assert_error("names lanes of a warp of 20");
    emu::set_order(emu::order::forward);
    LAUNCH(shuffle_by_two_masks, 1, 32, 0, nullptr);
    assert_error("thread (0,0,0) waits in __shfl_sync", "but thread (16,0,0) has exited");
    emu::set_order(emu::order::forward);
    LAUNCH(shuffle_at_a_barrier, 1, 32, 0, nullptr);
    assert_error("waits in __shfl_sync", "but thread (2,0,0) waits in __syncthreads");
}

/* ---- the rest of the model ---- */

static void count_up(int *cell, unsigned *low, unsigned long long *big, unsigned *set)
{
    atomicAdd(cell, 2);
    atomicMin(low, 100u - threadIdx.x);
    atomicAdd(big, 1ull << 40);
    atomicOr(set, 1u << threadIdx.x % 32);
}

Test(cuda_emu, integer_atomics)
{
    int cell = 1;
    unsigned low = 1000, set = 0;
    unsigned long long big = 0;
    LAUNCH(count_up, dim3(2, 2), dim3(4, 2, 5), 0, nullptr, &cell, &low, &big, &set);
    cr_assert_eq(cell, 1 + 2 * 160);
    cr_assert_eq(low, 97u);
    cr_assert_eq(big, 160ull << 40);
    cr_assert_eq(set, 0xFu);
}

static void indices(std::vector<int> *seen)
{
    const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    (*seen)[b * blockDim.x * blockDim.y * blockDim.z + t]++;
}

Test(cuda_emu, every_index_runs_once)
{
    std::vector<int> seen(2 * 3 * 2 * 5 * 7 * 2);
    LAUNCH(indices, dim3(2, 3, 2), dim3(5, 7, 2), 0, nullptr, &seen);
    for (int n : seen) cr_assert_eq(n, 1);
}

static void nothing() {}

Test(cuda_emu, launches_that_a_gpu_refuses_are_errors)
{
    const struct {
        dim3 grid, block;
        size_t shared;
    } wrong[] = {{0, 32, 0},
                 {dim3(1, 0), 32, 0},
                 {dim3(1, 1, 0), 32, 0},
                 {dim3(0x80000000u), 32, 0},
                 {dim3(1, 65536), 1, 0},
                 {dim3(1, 1, 65536), 1, 0},
                 {1, 0, 0},
                 {1, 1025, 0},
                 {1, dim3(1, 1, 65), 0},
                 {1, dim3(64, 32), 0},
                 {1, 1, 48 * 1024 + 1}};
    for (const auto &w : wrong) {
        emu::set_order(emu::order::forward);
        LAUNCH(nothing, w.grid, w.block, w.shared, nullptr);
        cr_assert_eq(launch_status(), DDPM_EBACKEND);
        assert_error("nothing: ");
    }
    emu::set_order(emu::order::forward);
    LAUNCH(nothing, dim3(1, 65535), 1, 0, nullptr);
    LAUNCH(nothing, dim3(1, 1, 65535), 1, 0, nullptr);
    LAUNCH(nothing, 1, dim3(16, 1, 64), 48 * 1024, nullptr);
    cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
}

template <int N> static void more_shared(int *out)
{
    SHARED(int, fixed, N);
    SHARED_DYNAMIC(int, value);
    value[threadIdx.x] = fixed[threadIdx.x] = (int)threadIdx.x;
    *out = value[threadIdx.x];
}

Test(cuda_emu, more_shared_memory_must_be_asked_for)
{
    enum { K = 1024 };
    int out = -1;
    LAUNCH(more_shared<32>, 1, 1, 100 * K, nullptr, &out);
    assert_error("more_shared<32>: 102400 bytes of dynamic shared memory, 49152 are allowed");
    emu::set_order(emu::order::forward);
    SHARED_LIMIT(more_shared<32>, 100 * K);
    LAUNCH(more_shared<32>, 1, 1, 100 * K, nullptr, &out);
    cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
    cr_assert_eq(out, 0);
    LAUNCH(more_shared<32>, 1, 1, 100 * K + 1, nullptr, &out);
    assert_error("102401 bytes of dynamic shared memory, 102400 are allowed");
    emu::set_order(emu::order::forward);
    LAUNCH(more_shared<64>, 1, 1, 100 * K, nullptr, &out); /* another kernel has no SHARED_LIMIT */
    assert_error("more_shared<64>: 102400 bytes");
    emu::set_order(emu::order::forward);
    SHARED_LIMIT(more_shared<32>, 227 * K + 1); /* more than any GPU has */
    cr_assert_eq(launch_status(), DDPM_EBACKEND);
    assert_error("more_shared<32>: 232449 bytes of shared memory asked for, a block has at most 232448");
}

Test(cuda_emu, static_shared_memory_counts_too)
{
    enum { K = 1024 };
    int out = -1;
    LAUNCH(more_shared<256>, 1, 1, 47 * K, nullptr, &out);
    cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
    LAUNCH(more_shared<256>, 1, 1, 47 * K + 1, nullptr, &out); /* 1 KB static */
    assert_error("more_shared<256>: 49153 bytes of shared memory, 48129 of them dynamic");
    emu::set_order(emu::order::forward);
    SHARED_LIMIT(more_shared<256>, 227 * K);
    LAUNCH(more_shared<256>, 1, 1, 226 * K, nullptr, &out);
    cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
    LAUNCH(more_shared<256>, 1, 1, 226 * K + 1, nullptr, &out);
    assert_error("232449 bytes of shared memory");
    emu::set_order(emu::order::forward);
    LAUNCH(more_shared<12 * 1024 + 1>, 1, 1, 4, nullptr, &out); /* only static */
    assert_error("49160 bytes of shared memory");
}

/* ---- launches that run later ---- */

struct pair {
    int *to;
    int value;
};

static void store(pair p, int more) { *p.to = p.value + more; }

static std::vector<std::function<void()>> kept;
static void keep(cudaStream_t, const char *, std::function<void()> run) { kept.push_back(run); }

Test(cuda_emu, a_launch_takes_its_arguments_along)
{
    int out = 0, more = 100;
    pair p = {&out, 1};
    emu::set_sink(keep);
    LAUNCH(store, 1, 1, 0, nullptr, p, more);
    p.value = 2, more = 200;
    LAUNCH(store, 1, 1, 0, nullptr, p, more);
    p = {nullptr, 3}, more = 300;
    cr_assert_eq(out, 0);
    cr_assert_eq(kept.size(), 2u);
    for (int turn = 0; turn < 2; turn++) { /* a kept launch can be run repeatedly */
        kept[0]();
        cr_assert_eq(out, 101);
        kept[1]();
        cr_assert_eq(out, 202);
    }
    emu::set_sink(nullptr);
    LAUNCH(store, 1, 1, 0, nullptr, pair{&out, 4}, 400);
    cr_assert_eq(out, 404);
}

/* A kernel's parameters are private copies of each thread, as with nvcc. */
static void spoil(pair p)
{
    p.value++;
    *p.to += p.value;
}

Test(cuda_emu, every_thread_has_its_own_arguments)
{
    int out = 0;
    LAUNCH(spoil, 2, 2, 0, nullptr, pair{&out, 1});
    cr_assert_eq(out, 8);
}

Test(cuda_emu, launches_fail_on_purpose)
{
    int out = 0;
    emu::fail_at(2);
    LAUNCH(store, 1, 1, 0, nullptr, pair{&out, 1}, 0);
    cr_assert_eq(launch_status(), DDPM_OK);
    LAUNCH(store, 1, 1, 0, nullptr, pair{&out, 2}, 0);
    cr_assert_eq(launch_status(), DDPM_EBACKEND);
    assert_error("emulated failure of call 2: store");
    LAUNCH(store, 1, 1, 0, nullptr, pair{&out, 3}, 0);
    cr_assert_eq(launch_status(), DDPM_EBACKEND, "it sticks");
    cr_assert_eq(out, 1);
    cr_assert_eq(emu::calls(), 3);
}

static void dynamic_sum(float *out, int n)
{
    SHARED_DYNAMIC(float, value);
    value[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    if (threadIdx.x) return;
    *out = 0.0f;
    for (int i = 0; i < n; i++) *out += value[i];
}

Test(cuda_emu, dynamic_shared_memory)
{
    float out = 0.0f;
    LAUNCH(dynamic_sum, 1, 10, 10 * sizeof(float), nullptr, &out, 10);
    cr_assert_eq(launch_status(), DDPM_OK, "%s", emu::last_error());
    cr_assert_eq(out, 45.0f);
}

/* AddressSanitizer's output if run() fails in a child process; "" if it succeeds. */
template <class F> static std::string last_words(F run)
{
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        run();
        _exit(0);
    }
    close(ends[1]);
    std::string words;
    char buffer[4096];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;) words.append(buffer, (size_t)n);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : words;
}

Test(cuda_emu, reading_past_shared_memory_dies_under_address_sanitizer)
{
#if !defined(__SANITIZE_ADDRESS__)
    cr_skip_test("built without AddressSanitizer");
#endif
    float out = 0.0f;
    const auto run = [&](int n) {
        return last_words([&] { LAUNCH(dynamic_sum, 1, 10, 10 * sizeof(float), nullptr, &out, n); });
    };
    cr_assert_eq(run(10), "");
    cr_assert(run(11).find("heap-buffer-overflow") != std::string::npos);
}
