// Stands for the device where kernels run on a processor: the threads of a block are fibers of one thread, and
// everything at which they meet (barriers, shuffles, tile products) is an exact meeting of fibers.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define DYNAMIC_SHARED(name) unsigned char* name = shim::dynamic

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
static float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}
static uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}

struct Three {
    unsigned x = 0, y = 0, z = 0;
};
static Three threadIdx, blockIdx, blockDim, gridDim;

namespace shim {
alignas(256) static unsigned char dynamic[256 << 10];

enum Wait { RUNS, BLOCK, WARP };
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
    Wait wait;
    // What it offers at a meeting of its warp: two places in turn, as one may still be read.
    uint32_t offer[2][8];
    int turn;
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static int current;
static void (*body)(void*);
static void* argument;

static void pause(Wait wait) {
    int own = current;
    fibers[own].wait = wait;
    swapcontext(&fibers[own].context, &scheduler);
    current = own, threadIdx.x = own;
}

static void enter() {
    body(argument);
    fibers[current].done = true;
}

[[noreturn]] static void fail(const char* why) {
    fprintf(stderr, "host shim: %s\n", why);
    abort();
}

// Lets go of those that have all come to where they meet.
static bool release(int from, int to, Wait wait) {
    int waiting = 0, alive = 0;
    for (int i = from; i < to; i++)
        if (!fibers[i].done) alive++, waiting += fibers[i].wait == wait;
    if (!alive || waiting != alive) return false;
    if (wait == BLOCK && alive != to - from) fail("a barrier that some threads never reach");
    for (int i = from; i < to; i++) fibers[i].wait = RUNS;
    return true;
}

static void run_block(int count, bool descends) {
    for (int i = 0; i < count; i++) {
        Fiber& fiber = fibers[i];
        fiber.done = false, fiber.wait = RUNS, fiber.turn = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, enter, 0);
    }
    for (int left = count; left;) {
        bool moved = false;
        for (int k = 0; k < count; k++) {
            int i = descends ? count - 1 - k : k;
            if (fibers[i].done || fibers[i].wait != RUNS) continue;
            current = i, threadIdx.x = i, moved = true;
            swapcontext(&scheduler, &fibers[i].context);
            left -= fibers[i].done;
        }
        for (int warp = 0; warp < count; warp += 32) moved |= release(warp, warp + 32 < count ? warp + 32 : count, WARP);
        moved |= release(0, count, BLOCK);
        if (left && !moved) fail("threads wait for each other");
    }
}

// Meets the warp with some words; what another lane brought is read by `offered`.
static int meet(const uint32_t* words, int count) {
    Fiber& fiber = fibers[current];
    int turn = fiber.turn ^= 1;
    memcpy(fiber.offer[turn], words, count * 4);
    pause(WARP);
    return turn;
}
static const uint32_t* offered(int lane, int turn) {
    return fibers[current / 32 * 32 + lane].offer[turn];
}

template <class E>
static E slot(const uint64_t* from) {
    E value;
    memcpy(&value, from, sizeof value);
    return value;
}
template <class... A, size_t... I>
static void call(void (*function)(A...), const uint64_t* slots, std::index_sequence<I...>) {
    function(slot<A>(slots + I)...);
}
template <class... A>
static void call(void (*function)(A...), const uint64_t* slots) {
    call(function, slots, std::index_sequence_for<A...>());
}

static void launch(const uint64_t* grid, uint64_t block, bool descends, void (*run)(void*), void* slots) {
    body = run, argument = slots;
    if (fibers.size() < block) fibers.resize(block);
    for (Fiber& fiber : fibers)
        if (fiber.stack.empty()) fiber.stack.resize(96 << 10);
    gridDim = {(unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2]}, blockDim = {(unsigned)block, 1, 1};
    uint64_t count = grid[0] * grid[1] * grid[2];
    for (uint64_t k = 0; k < count; k++) {
        uint64_t i = descends ? count - 1 - k : k;
        blockIdx = {unsigned(i % grid[0]), unsigned(i / grid[0] % grid[1]), unsigned(i / grid[0] / grid[1])};
        memset(dynamic, 0xff, sizeof dynamic);
        run_block((int)block, descends);
    }
}
}  // namespace shim

static void __syncthreads() {
    shim::pause(shim::BLOCK);
}
static void __syncwarp() {
    shim::pause(shim::WARP);
}
template <class E>
static E __shfl_xor_sync(unsigned, E value, int mask) {
    uint32_t words[2] = {};
    memcpy(words, &value, sizeof value);
    int turn = shim::meet(words, 2);
    memcpy(&value, shim::offered((threadIdx.x % 32) ^ mask, turn), sizeof value);
    return value;
}
static unsigned __ballot_sync(unsigned, bool vote) {
    uint32_t word = vote, all = 0;
    int turn = shim::meet(&word, 1);
    for (int lane = 0; lane < 32; lane++) all |= *shim::offered(lane, turn) << lane;
    return all;
}
static int __ffs(unsigned bits) {
    return __builtin_ffs((int)bits);
}
static void atomicMin(unsigned* at, unsigned value) {
    if (value < *at) *at = value;
}
static float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static void sincospif(float x, float* sine, float* cosine) {
    *sine = (float)sin(M_PI * x), *cosine = (float)cos(M_PI * x);
}
static unsigned short round_bits(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static unsigned round_pair(float first, float second) {
    return round_bits(first) | (unsigned)round_bits(second) << 16;
}
static float power_of_two(float x) {
    return exp2f(x);
}
static float reciprocal(float x) {
    return 1.0f / x;
}

struct bf16;
static float half_of(unsigned pair, int half) {
    return __uint_as_float(half ? pair & 0xffff0000u : pair << 16);
}
static void multiply_tile(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    uint32_t words[6] = {a[0], a[1], a[2], a[3], b0, b1};
    int turn = shim::meet(words, 6), lane = threadIdx.x % 32;
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const uint32_t* from_a = shim::offered(row % 8 * 4 + k % 8 / 2, turn);
            const uint32_t* from_b = shim::offered(column * 4 + k % 8 / 2, turn);
            sums[i] += half_of(from_a[row / 8 + k / 8 * 2], k % 2) * half_of(from_b[4 + k / 8], k % 2);
        }
    }
}
static const unsigned short* row_of_lane(int lane, int turn) {
    const unsigned short* row;
    memcpy(&row, shim::offered(lane, turn), sizeof row);
    return row;
}
static void load_tiles(unsigned (&tiles)[4], const bf16* own) {
    uint32_t words[2];
    memcpy(words, &own, sizeof own);
    int turn = shim::meet(words, 2), lane = threadIdx.x % 32;
    for (int tile = 0; tile < 4; tile++) memcpy(&tiles[tile], row_of_lane(tile * 8 + lane / 4, turn) + lane % 4 * 2, 4);
}
static void load_tiles_transposed(unsigned (&tiles)[4], const bf16* own) {
    uint32_t words[2];
    memcpy(words, &own, sizeof own);
    int turn = shim::meet(words, 2), lane = threadIdx.x % 32;
    for (int tile = 0; tile < 4; tile++) {
        const unsigned short* first = row_of_lane(tile * 8 + lane % 4 * 2, turn);
        const unsigned short* second = row_of_lane(tile * 8 + lane % 4 * 2 + 1, turn);
        tiles[tile] = first[lane / 4] | (unsigned)second[lane / 4] << 16;
    }
}
static void begin_copy(bf16* to, const bf16* from, bool is_inside) {
    if (((uintptr_t)to | (uintptr_t)from) & 15) shim::fail("a copy of 16 bytes that is not aligned");
    if (is_inside) memcpy(to, from, 16);
    else memset(to, 0, 16);
}
static void end_group() {}
template <int pending>
static void await_groups() {}
