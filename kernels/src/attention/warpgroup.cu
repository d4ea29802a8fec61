// Softmax attention on packed rows [b s g c d] and its gradient in bf16 by products of warp groups (sm_90a); heads of
// 64 or 128. What its kernels share; they follow in warpgroup_forward.cu and warpgroup_gradient.cu.
//
// Idea: one warp group loads tiles of the other side into a ring, and every other one owns 64 rows. Scores stay in
// registers, where they are the factor of the next product; a product is under way while the results of another are
// turned into probabilities, within a group and between groups (Dao 2023, Shah et al. 2024). As many blocks as there
// are multiprocessors take tiles of rows one after another, so that the next tile is there when one is done. The
// gradient computes scores again; one kernel owns keys, another queries, so that no sum needs atomics, and results
// are the same to the bit each time, whichever block takes a tile.
// Bytes: keys and values once for OWN queries. FLOPs: 4 s^2 d a head and sequence, the gradient 14 s^2 d in place of
// 10, as both of its kernels compute scores; half if causal. The tensor cores bound it.
//
// The compiler gets HEAD, CAUSAL (1 or 0), and for its kernel: GROUPS (warp groups that own rows), ACROSS (rows of the
// other side in a tile), STAGES (of the ring), TURNS (1: groups begin products by turns).

constexpr int OWN = GROUPS * 64, STEPS = HEAD / 16, COLUMNS = HEAD / 8;
constexpr unsigned OWN_TILE = OWN * HEAD * 2, TILE = ACROSS * HEAD * 2;
// The register file, divided: who only loads needs few.
constexpr int LOADER_REGISTERS = GROUPS == 2 ? 56 : 32, OWNER_REGISTERS = GROUPS == 2 ? 224 : 160;
// Items of which a block has own tiles in shared memory, and heads of which blocks take items at once.
constexpr int ITEMS = 2, SECTION = 512 / HEAD;

// How many items blocks of this launch have taken; 0 again when all blocks are done. Launches of one kernel on one
// device follow one another: they stand on the one stream of its products.
__device__ unsigned taken;

// A tile of rows that a block owns for a while. Blocks take items in this order: a few heads at a time, so that what
// blocks read at once is near, and of those the longest first. (Longest are those with the greatest `tile`.)
struct Item {
    int tile, head, batch;
    __device__ __forceinline__ Item(int number, int tiles, int heads, int batches) {
        int lines = heads * batches, section = number / (tiles * SECTION), rest = number - section * tiles * SECTION;
        int wide = min(SECTION, lines - section * SECTION), line = section * SECTION + rest % wide;
        tile = tiles - 1 - rest / wide, head = line % heads, batch = line / heads;
    }
};

// Where the parts of one sequence begin.
struct Place {
    Index row_stride, query_stride;
    const bf16 *query, *key, *value;
    Index output, statistic;
    __device__ __forceinline__ Place(const bf16* qkv, Index sequence, Index groups, Index queries, Index head, Index batch) {
        Index group = head / queries;
        row_stride = groups * (queries + 2) * HEAD, query_stride = groups * queries * HEAD;
        const bf16* base = qkv + batch * sequence * row_stride + group * (queries + 2) * HEAD;
        query = base + head % queries * HEAD;
        key = base + queries * HEAD, value = key + HEAD;
        output = batch * sequence * query_stride + head * HEAD, statistic = output / HEAD;
    }
};

// A place in a ring.
template <int slots>
struct Turn {
    int slot = 0;
    unsigned parity = 0;
    __device__ __forceinline__ void next() {
        if (++slot == slots) slot = 0, parity ^= 1;
    }
};

// Shared memory: own tiles of so many items, a ring of stages of the other side, what else a stage has, which items,
// and barriers.
template <int own_tiles, int stage_tiles, int words>
struct Shared {
    static constexpr unsigned STAGE = stage_tiles * TILE, OWNED = own_tiles * OWN_TILE;
    unsigned own_at, ring, extra, items, own_full, own_empty, full, empty;
    float* extra_words;
    __device__ __forceinline__ Shared(unsigned char* memory) {
        unsigned begin = shared_address(memory);
        own_at = (begin + 1023) / 1024 * 1024, ring = own_at + ITEMS * OWNED, extra = ring + STAGES * STAGE;
        extra_words = (float*)(memory + (extra - begin));
        items = extra + STAGES * words * 4, own_full = items + ITEMS * 8, own_empty = own_full + ITEMS * 8;
        full = own_empty + ITEMS * 8, empty = full + STAGES * 8;
        if (threadIdx.x == 0) {
            for (int slot = 0; slot < ITEMS; slot++) make_barrier(own_full + slot * 8, 129), make_barrier(own_empty + slot * 8, GROUPS * 4);
            for (int slot = 0; slot < STAGES; slot++) make_barrier(full + slot * 8, 128), make_barrier(empty + slot * 8, GROUPS);
        }
        __syncthreads();
    }
    __device__ __forceinline__ unsigned own(const Turn<ITEMS>& turn) const { return own_at + turn.slot * OWNED; }
    __device__ __forceinline__ unsigned stage(const Turn<STAGES>& turn) const { return ring + turn.slot * STAGE; }
    // Waits for a stage.
    __device__ __forceinline__ void await(const Turn<STAGES>& turn) const {
        await_phase(full + turn.slot * 8, turn.parity);
        show_to_products();
    }
    // This group needs a stage no longer.
    __device__ __forceinline__ void pass(const Turn<STAGES>& turn) const {
        if (threadIdx.x % 128 == 0) arrive(empty + turn.slot * 8);
    }
    // Waits for own tiles; which item.
    __device__ __forceinline__ int await_own(const Turn<ITEMS>& turn) const {
        await_phase(own_full + turn.slot * 8, turn.parity);
        show_to_products();
        return get_shared(items + turn.slot * 8);
    }
    // This warp needs own tiles no longer.
    __device__ __forceinline__ void pass_own(const Turn<ITEMS>& turn) const {
        __syncwarp();
        if (threadIdx.x % 32 == 0) arrive(own_empty + turn.slot * 8);
    }
    // The loader waits until a stage is free, lets `begin` copy to it, and goes on.
    template <class Begin>
    __device__ __forceinline__ void load(Turn<STAGES>& turn, Begin begin) const {
        await_phase(empty + turn.slot * 8, turn.parity ^ 1);
        begin(stage(turn));
        arrive_with_copies(full + turn.slot * 8);
        turn.next();
    }
};

// The loader's work: takes items, begins to copy own tiles, then stages, until no item is left.
template <class Memory, class BeginOwn, class LoadStages>
__device__ __forceinline__ void load_items(const Memory& shared, int items, BeginOwn begin_own, LoadStages load_stages) {
    Turn<ITEMS> own;
    Turn<STAGES> turn;
    for (;; own.next()) {
        await_phase(shared.own_empty + own.slot * 8, own.parity ^ 1);
        if (threadIdx.x == 0) put_shared(shared.items + own.slot * 8, atomicInc(&taken, items + gridDim.x - 1));
        meet<128>(1);
        int item = get_shared(shared.items + own.slot * 8);
        if (item < items) begin_own(item, shared.own(own));
        if (threadIdx.x == 0) arrive(shared.own_full + own.slot * 8);
        arrive_with_copies(shared.own_full + own.slot * 8);
        if (item >= items) break;
        load_stages(item, turn);
    }
    await_copies();
}

// scores = own rows of this group times rows of a tile, both over the head.
__device__ __forceinline__ void begin_scores(float (&scores)[ACROSS / 2], unsigned own, unsigned across) {
    begin_products();
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        unsigned long long a = describe(own + step / 4 * OWN * 128 + step % 4 * 32, 16);
        unsigned long long b = describe(across + step / 4 * ACROSS * 128 + step % 4 * 32, 16);
        if (step == 0) begin_multiply(scores, a, b);
        else multiply(scores, a, b);
    }
    end_products();
}

typedef unsigned Factors[ACROSS / 16][4];

// sums += factors (own rows over ACROSS) times the rows of a tile.
__device__ __forceinline__ void begin_sums(float (&sums)[HEAD / 2], const Factors& factors, unsigned across) {
    begin_products();
#pragma unroll
    for (int step = 0; step < ACROSS / 16; step++) multiply(sums, factors[step], describe(across + step * 2048, ACROSS * 128));
    end_products();
}

__device__ __forceinline__ void round_all(Factors& factors, const float (&results)[ACROSS / 2]) {
#pragma unroll
    for (int step = 0; step < ACROSS / 16; step++) round_factor(factors[step], results, step);
}

// The row of this group that element i belongs to, and its column.
__device__ __forceinline__ int row_of(int i) {
    return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
}

__device__ __forceinline__ int column_of(int i) {
    return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
}

// Rounds rows of this group into its own tile, then to memory in 16 bytes; `factor` is for rows. `own` is where the
// group's rows begin, `first` which they are.
__device__ __forceinline__ void store_rows(unsigned own, const float (&sums)[HEAD / 2], float factor0, float factor1, bf16* to,
                                           Index row_stride, Index first, Index end) {
    int lane = threadIdx.x % 32, warp = threadIdx.x % 128 / 32;
#pragma unroll
    for (int n = 0; n < COLUMNS; n++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float f = half ? factor1 : factor0;
            unsigned pair = round_pair(sums[n * 4 + 2 * half] * f, sums[n * 4 + 2 * half + 1] * f);
            asm volatile("st.shared.b32 [%0], %1;" ::"r"(own + chunk_at<OWN>(row_of(2 * half), n) + lane % 4 * 4), "r"(pair) : "memory");
        }
    __syncwarp();
    for (int i = lane; i < 16 * COLUMNS; i += 32) {
        int row = warp * 16 + i / COLUMNS, chunk = i % COLUMNS;
        uint4 words;
        asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
                     : "r"(own + chunk_at<OWN>(row, chunk))
                     : "memory");
        if (first + row < end) *(uint4*)(to + (first + row) * row_stride + chunk * 8) = words;
    }
}

// Hides scores of queries that own rows, `first` and on, with keys from `start` that come later or past the end.
__device__ __forceinline__ void hide(float (&scores)[ACROSS / 2], int first, int start, int sequence) {
    int last = min(sequence - start, ACROSS) - 1, ahead = first - start;
#pragma unroll
    for (int i = 0; i < ACROSS / 2; i++) {
        int most = CAUSAL ? min(ahead + row_of(i), last) : last;
        if (column_of(i) > most) scores[i] = -INFINITY;
    }
}

// A group's turn to begin products: while others wait for theirs, they turn results into factors.
__device__ __forceinline__ void await_turn(int group) {
    if (TURNS) meet<256>(2 + GROUPS + group);
}

__device__ __forceinline__ void end_turn(int group) {
    if (TURNS) asm volatile("bar.arrive %0, 256;" ::"r"(2 + GROUPS + (group + 1) % GROUPS) : "memory");
}
