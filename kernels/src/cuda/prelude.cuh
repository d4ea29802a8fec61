// What all kernels share: number types, 16-byte accesses, sums over a block, tensor-core tiles.
//
// The compiler gets T, how activations and parameters are stored: float or bf16. All arithmetic is in float, and all
// sums have an order that depends on shapes only. Nothing is included, so that a machine needs no headers; with
// HOST_SHIM the same code runs on a processor, where shim.hpp stands for the device.

typedef long long Index;

struct bf16 {
    unsigned short bits;
};

#ifndef HOST_SHIM
#define INFINITY __int_as_float(0x7f800000)
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

__device__ __forceinline__ unsigned short round_bits(float x) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// Two numbers as one word, the first in its low half.
__device__ __forceinline__ unsigned round_pair(float first, float second) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// 2 to the power of x; 0 for -infinity.
__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x to one unit of the last place or two; 0 for infinity.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// sums += a (16 x 16, rows) * b (16 x 8, columns), spread over a warp as the PTX manual says for m16n8k16.
__device__ __forceinline__ void multiply_tile(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four 8 x 8 tiles from shared memory; lane l names row l % 8 of tile l / 8.
__device__ __forceinline__ void load_tiles(unsigned (&tiles)[4], const bf16* row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(address)
                 : "memory");
}

// The same, each tile transposed.
__device__ __forceinline__ void load_tiles_transposed(unsigned (&tiles)[4], const bf16* row) {
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(address)
                 : "memory");
}

// Begins to copy 16 bytes to shared memory, or zeros where `is_inside` is not.
__device__ __forceinline__ void begin_copy(bf16* to, const bf16* from, bool is_inside) {
    unsigned address = (unsigned)__cvta_generic_to_shared(to);
    int bytes = is_inside ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void end_group() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most `pending` of the latest groups are still under way.
template <int pending>
__device__ __forceinline__ void await_groups() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
#endif

__device__ __forceinline__ float widen(float x) {
    return x;
}

__device__ __forceinline__ float widen(bf16 x) {
    return __uint_as_float((unsigned)x.bits << 16);
}

__device__ __forceinline__ void put(float& to, float x) {
    to = x;
}

__device__ __forceinline__ void put(bf16& to, float x) {
    to.bits = round_bits(x);
}

__device__ __forceinline__ void load4(const float* from, float* x) {
    float4 raw = *(const float4*)from;
    x[0] = raw.x, x[1] = raw.y, x[2] = raw.z, x[3] = raw.w;
}

__device__ __forceinline__ void unpack(unsigned pair, float* x) {
    x[0] = __uint_as_float(pair << 16);
    x[1] = __uint_as_float(pair & 0xffff0000u);
}

__device__ __forceinline__ void load4(const bf16* from, float* x) {
    uint2 raw = *(const uint2*)from;
    unpack(raw.x, x), unpack(raw.y, x + 2);
}

__device__ __forceinline__ void load8(const bf16* from, float* x) {
    uint4 raw = *(const uint4*)from;
    unpack(raw.x, x), unpack(raw.y, x + 2), unpack(raw.z, x + 4), unpack(raw.w, x + 6);
}

__device__ __forceinline__ void load8(const float* from, float* x) {
    load4(from, x), load4(from + 4, x + 4);
}

__device__ __forceinline__ void store4(float* to, const float* x) {
    *(float4*)to = make_float4(x[0], x[1], x[2], x[3]);
}

__device__ __forceinline__ void store4(bf16* to, const float* x) {
    *(uint2*)to = make_uint2(round_pair(x[0], x[1]), round_pair(x[2], x[3]));
}

__device__ __forceinline__ void store8(bf16* to, const float* x) {
    *(uint4*)to = make_uint4(round_pair(x[0], x[1]), round_pair(x[2], x[3]), round_pair(x[4], x[5]), round_pair(x[6], x[7]));
}

__device__ __forceinline__ void store8(float* to, const float* x) {
    store4(to, x), store4(to + 4, x + 4);
}

// 1, 4 or 8 numbers side by side; more than one must be aligned to their size, or to 16 bytes.
template <int count, class E>
__device__ __forceinline__ void load(const E* from, float* x) {
    if constexpr (count == 8) load8(from, x);
    else if constexpr (count == 4) load4(from, x);
    else x[0] = widen(from[0]);
}

template <int count, class E>
__device__ __forceinline__ void store(E* to, const float* x) {
    if constexpr (count == 8) store8(to, x);
    else if constexpr (count == 4) store4(to, x);
    else put(to[0], x[0]);
}

// Numbers in 16 bytes.
template <class E>
struct Lanes {
    static constexpr int count = 16 / sizeof(E);
};

__device__ __forceinline__ bool is_aligned(const void* address) {
    return ((unsigned long long)address & 15) == 0;
}

constexpr float LOG2_E = 1.4426950408889634f;

// e to the power of x by the unit for powers: its argument is rounded once more, so the error grows with |x|, to 4e-6
// where x is -30 and what comes out is next to nothing.
__device__ __forceinline__ float exponential(float x) {
    return power_of_two(x * LOG2_E);
}

__device__ __forceinline__ float sigmoid(float x) {
    return reciprocal(1.0f + exponential(-x));
}

struct Sum {
    template <class E>
    static __device__ __forceinline__ E of(E a, E b) {
        return a + b;
    }
};

struct Greater {
    static __device__ __forceinline__ float of(float a, float b) {
        return fmaxf(a, b);
    }
};

template <class Join, class E>
__device__ __forceinline__ E join_warp(E x) {
    for (int distance = 16; distance; distance /= 2) x = Join::of(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}

// Joins one number of every thread; all get the result. Blocks are whole warps.
template <class Join, class E>
__device__ __forceinline__ E join_block(E x, E nothing) {
    __shared__ E parts[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = join_warp<Join>(x);
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    return join_warp<Join>(lane < warps ? parts[lane] : nothing);
}

__device__ __forceinline__ float sum_block(float x) {
    return join_block<Sum>(x, 0.0f);
}

// Writes the sums of `count` rows of partial sums [count, width] to `out`, or adds them. For blocks of 256 threads,
// each for 32 columns.
__device__ __forceinline__ void sum_partials(const float* partials, Index count, Index width, float* out, Index adds) {
    __shared__ float parts[8][33];
    int x = threadIdx.x % 32, y = threadIdx.x / 32;
    Index column = (Index)blockIdx.x * 32 + x;
    float sum = 0;
    if (column < width)
        for (Index row = y; row < count; row += 8) sum += partials[row * width + column];
    __syncthreads();
    parts[y][x] = sum;
    __syncthreads();
    if (y == 0 && column < width) {
        sum = 0;
        for (int part = 0; part < 8; part++) sum += parts[part][x];
        out[column] = adds ? out[column] + sum : sum;
    }
}
