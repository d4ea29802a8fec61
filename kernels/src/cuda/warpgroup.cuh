// Products of warp groups (wgmma, sm_90a) on tiles in shared memory, and barriers between who loads and who uses them.
//
// Tiles are columns of 64 numbers: rows of 128 bytes, in which the 16 bytes c of row r lie at c ^ r % 8, so that eight
// rows of one column lie in eight different banks. A tile begins at a multiple of 1024 bytes. Layouts of factors,
// results and descriptors are those of the PTX manual's chapter on wgmma.

// Where the 16 bytes `chunk` of a row lie in a tile of so many rows; later columns of 64 numbers lie behind.
template <int rows>
__device__ __forceinline__ unsigned chunk_at(int row, int chunk) {
    return chunk / 8 * rows * 128 + row * 128 + (chunk % 8 ^ row % 8) * 16;
}

__device__ __forceinline__ unsigned shared_address(const void* at) {
    return (unsigned)__cvta_generic_to_shared(at);
}

// Begins to copy rows of `width` numbers into a tile by so many threads; zeros from `end` on.
template <int rows, int width, int threads>
__device__ __forceinline__ void begin_tile(unsigned tile, const bf16* from, Index row_stride, Index first, Index end, int thread) {
    // Eight rows or a multiple at once, so that a thread keeps its bank.
    constexpr int chunks = width / 8, together = threads / chunks;
    int row = thread / chunks, chunk = thread % chunks;
    Index rest = end - first - row;
    int left = rest < rows ? (int)rest : rows;
    const bf16* source = from + (first + row) * row_stride + chunk * 8;
    tile += chunk_at<rows>(row, chunk);
#pragma unroll
    for (int i = 0; i < rows; i += together) {
        int bytes = i < left ? 16 : 0;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(tile + i * 128), "l"(bytes ? source : from), "r"(bytes) : "memory");
        source += together * row_stride;
    }
}

// Begins to copy a number to shared memory, or zero.
__device__ __forceinline__ void begin_number(unsigned to, const float* from, bool is_inside) {
    int bytes = is_inside ? 4 : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// What this thread sees in shared memory becomes visible to its products, and to those after the next barrier.
__device__ __forceinline__ void show_to_products() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void put_shared(unsigned to, unsigned word) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(word) : "memory");
}

__device__ __forceinline__ unsigned get_shared(unsigned from) {
    unsigned word;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(from) : "memory");
    return word;
}

__device__ __forceinline__ void make_barrier(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(unsigned barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Waits for all copies that this thread began.
__device__ __forceinline__ void await_copies() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

// Arrives when all copies that this thread began are over.
__device__ __forceinline__ void arrive_with_copies(unsigned barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Waits for the end of the phase of this parity.
__device__ __forceinline__ void await_phase(unsigned barrier, unsigned parity) {
    unsigned is_over = 0;
    while (!is_over)
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(is_over)
                     : "r"(barrier), "r"(parity)
                     : "memory");
}

// Waits for so many threads, whole warps; 0 is the barrier of the block.
template <int threads>
__device__ __forceinline__ void meet(int barrier) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(threads) : "memory");
}

template <int count>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

template <int count>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

// A factor in shared memory. `apart` is the distance of columns of 64 numbers, for factors that lie transposed.
__device__ __forceinline__ unsigned long long describe(unsigned tile, unsigned apart) {
    return (unsigned long long)((tile & 0x3ffff) >> 4) | (unsigned long long)(apart >> 4) << 16 | 64ull << 32 | 1ull << 62;
}

__device__ __forceinline__ void begin_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void end_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits until at most `pending` of the latest groups of products are still under way.
template <int pending>
__device__ __forceinline__ void await_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Nothing that uses these results moves to before this point.
template <int count>
__device__ __forceinline__ void hold(float (&results)[count]) {
#pragma unroll
    for (int i = 0; i < count; i++) asm volatile("" : "+f"(results[i])::"memory");
}

#define RESULTS8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define RESULTS32(d, i) RESULTS8(d, i), RESULTS8(d, i + 8), RESULTS8(d, i + 16), RESULTS8(d, i + 24)
#define NEW8(d, i) "=f"(d[i]), "=f"(d[i + 1]), "=f"(d[i + 2]), "=f"(d[i + 3]), "=f"(d[i + 4]), "=f"(d[i + 5]), "=f"(d[i + 6]), "=f"(d[i + 7])
#define NEW32(d, i) NEW8(d, i), NEW8(d, i + 8), NEW8(d, i + 16), NEW8(d, i + 24)
#define NAMES32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES64 NAMES32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

// results (64 x 64 or 128) = a (64 x 16) * b (16 x 64 or 128), both in shared memory along their sums.
__device__ __forceinline__ void begin_multiply(float (&d)[32], unsigned long long a, unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES32 "}, %32, %33, p, 1, 1, 0, 0;\n}"
                 : NEW32(d, 0)
                 : "l"(a), "l"(b));
}

__device__ __forceinline__ void begin_multiply(float (&d)[64], unsigned long long a, unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 0, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES64 "}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : NEW32(d, 0), NEW32(d, 32)
                 : "l"(a), "l"(b));
}

// The same, added to results.
__device__ __forceinline__ void multiply(float (&d)[32], unsigned long long a, unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES32 "}, %32, %33, p, 1, 1, 0, 0;\n}"
                 : RESULTS32(d, 0)
                 : "l"(a), "l"(b));
}

__device__ __forceinline__ void multiply(float (&d)[64], unsigned long long a, unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES64 "}, %64, %65, p, 1, 1, 0, 0;\n}"
                 : RESULTS32(d, 0), RESULTS32(d, 32)
                 : "l"(a), "l"(b));
}

// The same with a in registers, and b transposed: along its columns.
__device__ __forceinline__ void multiply(float (&d)[32], const unsigned (&a)[4], unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" NAMES32 "}, {%32,%33,%34,%35}, %36, p, 1, 1, 1;\n}"
                 : RESULTS32(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ void multiply(float (&d)[64], const unsigned (&a)[4], unsigned long long b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" NAMES64 "}, {%64,%65,%66,%67}, %68, p, 1, 1, 1;\n}"
                 : RESULTS32(d, 0), RESULTS32(d, 32)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Results of a product, 64 x 16 of them, as the first factor of another.
template <int count>
__device__ __forceinline__ void round_factor(unsigned (&factor)[4], const float (&results)[count], int step) {
#pragma unroll
    for (int i = 0; i < 4; i++) factor[i] = round_pair(results[step * 8 + 2 * i], results[step * 8 + 2 * i + 1]);
}
