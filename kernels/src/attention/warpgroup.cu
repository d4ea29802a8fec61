// Softmax attention on packed rows [b s g c d] and its gradient in bf16 by products of warp groups (sm_90a); heads of
// 64 or 128.
//
// Idea: one warp group loads tiles of the other side into a ring, and every other one owns 64 rows. Scores stay in
// registers, where they are the factor of the next product; a product is under way while the results of another are
// turned into probabilities (Dao 2023, Shah et al. 2024). The gradient computes scores again; one kernel owns keys,
// another queries, so that no sum needs atomics, and results are the same to the bit each time.
// Bytes: keys and values once for OWN queries. FLOPs: 4 s^2 d a head and sequence, the gradient 14 s^2 d in place of
// 10, as both of its kernels compute scores; half if causal. The tensor cores bound it.
//
// The compiler gets HEAD, CAUSAL (1 or 0), and for its kernel: GROUPS (warp groups that own rows), ACROSS (rows of the
// other side in a tile), STAGES (tiles in the ring).

constexpr int OWN = GROUPS * 64, STEPS = HEAD / 16, COLUMNS = HEAD / 8;
constexpr unsigned OWN_TILE = OWN * HEAD * 2, TILE = ACROSS * HEAD * 2, STAGE = 2 * TILE;
// The register file, divided: who only loads needs few.
constexpr int LOADER_REGISTERS = GROUPS == 2 ? 40 : 32, OWNER_REGISTERS = GROUPS == 2 ? 232 : 160;
constexpr float LOG2_E = 1.4426950408889634f;

// Where the parts of one sequence begin. Blocks: (tile, head, sequence).
struct Place {
    Index row_stride, query_stride;
    const bf16 *query, *key, *value;
    Index output, statistic;
    __device__ __forceinline__ Place(const bf16* qkv, Index sequence, Index groups, Index queries, Index head) {
        Index group = head / queries;
        row_stride = groups * (queries + 2) * HEAD, query_stride = groups * queries * HEAD;
        const bf16* base = qkv + blockIdx.z * sequence * row_stride + group * (queries + 2) * HEAD;
        query = base + head % queries * HEAD;
        key = base + queries * HEAD, value = key + HEAD;
        output = blockIdx.z * sequence * query_stride + head * HEAD, statistic = output / HEAD;
    }
};

// Shared memory: own tiles, the ring, what else a stage has, barriers.
template <int own_tiles, int words>
struct Shared {
    unsigned own, ring, extra, full, empty;
    float* extra_words;
    __device__ __forceinline__ Shared(unsigned char* memory) {
        unsigned begin = shared_address(memory);
        own = (begin + 1023) / 1024 * 1024, ring = own + own_tiles * OWN_TILE, extra = ring + STAGES * STAGE;
        extra_words = (float*)(memory + (extra - begin));
        full = extra + STAGES * words * 4, empty = full + STAGES * 8;
    }
    __device__ __forceinline__ void make_barriers() const {
        if (threadIdx.x == 0)
            for (int stage = 0; stage < STAGES; stage++) make_barrier(full + stage * 8, 128), make_barrier(empty + stage * 8, GROUPS);
        __syncthreads();
    }
};

// A place in the ring.
struct Turn {
    int stage = 0;
    unsigned parity = 0;
    __device__ __forceinline__ void next() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

// The loader's way through all tiles: `begin(step, stage)` begins to copy.
template <int own_tiles, int words, class Begin>
__device__ __forceinline__ void load_all(const Shared<own_tiles, words>& shared, int steps, Begin begin) {
    Turn turn;
    for (int step = 0; step < steps; step++, turn.next()) {
        if (step >= STAGES) await_phase(shared.empty + turn.stage * 8, turn.parity ^ 1);
        begin(step, turn.stage);
        arrive_with_copies(shared.full + turn.stage * 8);
    }
    await_copies();
}

// Waits until a tile of the ring is there.
template <class Ring>
__device__ __forceinline__ void await_tile(const Ring& shared, const Turn& turn) {
    await_phase(shared.full + turn.stage * 8, turn.parity);
    show_to_products();
}

// The owners load what the block owns.
__device__ __forceinline__ void begin_own(unsigned tile, const bf16* from, Index row_stride, Index first, Index end) {
    begin_tile<OWN, HEAD, GROUPS * 128>(tile, from, row_stride, first, end, threadIdx.x - 128);
}

__device__ __forceinline__ void await_own() {
    await_copies();
    show_to_products();
    meet<GROUPS * 128>(1);
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

#ifdef FORWARD
// Turns scores into shares of a row's greatest so far; `fade` is what brings earlier sums to the same measure.
__device__ __forceinline__ void soften(float (&scores)[ACROSS / 2], float (&fade)[2], float (&most)[2], float (&total)[2], float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float greatest = most[half];
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++) greatest = fmaxf(greatest, fmaxf(scores[n * 4 + 2 * half], scores[n * 4 + 2 * half + 1]));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
        fade[half] = power_of_two((most[half] - greatest) * scale), most[half] = greatest;
        float sum = 0, shift = greatest * scale;
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
            for (int i = n * 4 + 2 * half; i < n * 4 + 2 * half + 2; i++) {
                scores[i] = power_of_two(fmaf(scores[i], scale, -shift));
                sum += scores[i];
            }
        total[half] = total[half] * fade[half] + sum;
    }
}

__device__ __forceinline__ void fade_rows(float (&sums)[HEAD / 2], const float (&fade)[2]) {
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) sums[i] *= fade[i / 2 % 2];
}

extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
attention_groups(const bf16* qkv, bf16* y, float* lse, Index given_sequence, Index groups, Index queries, double given_scale) {
    int sequence = (int)given_sequence;
    DYNAMIC_SHARED(memory);
    Shared<1, 0> shared(memory);
    shared.make_barriers();
    Place place(qkv, sequence, groups, queries, blockIdx.y);
    // Later queries see more keys: they begin first.
    int first = (gridDim.x - 1 - blockIdx.x) * OWN;
    int end = CAUSAL && first + OWN < sequence ? first + OWN : sequence, steps = (end + ACROSS - 1) / ACROSS;
    int group = threadIdx.x / 128 - 1;
    if (group < 0) {
        give_registers<LOADER_REGISTERS>();
        load_all(shared, steps, [&](int step, int stage) {
            unsigned tile = shared.ring + stage * STAGE;
            begin_tile<ACROSS, HEAD, 128>(tile, place.key, place.row_stride, step * ACROSS, sequence, threadIdx.x);
            begin_tile<ACROSS, HEAD, 128>(tile + TILE, place.value, place.row_stride, step * ACROSS, sequence, threadIdx.x);
        });
        return;
    }
    take_registers<OWNER_REGISTERS>();
    begin_own(shared.own, place.query, place.row_stride, first, sequence);
    await_own();
    first += group * 64;
    unsigned own = shared.own + group * 64 * 128;
    float scale = (float)given_scale * LOG2_E;
    float sums[HEAD / 2], scores[ACROSS / 2], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, fade[2];
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) sums[i] = 0;
    hold(sums);
    Factors factors;
    Turn turn, before;
    auto soften_step = [&](int step) {
        int start = step * ACROSS;
        if (start + ACROSS > sequence || (CAUSAL && start + ACROSS > first + 1)) hide(scores, first, start, sequence);
        soften(scores, fade, most, total, scale);
    };
    // Tiles in which this group sees no key are only passed on.
    int seen = CAUSAL && first + 64 < end ? (first + 64 + ACROSS - 1) / ACROSS : steps;
    await_tile(shared, turn);
    begin_scores(scores, own, shared.ring + turn.stage * STAGE);
    await_products<0>();
    hold(scores);
    soften_step(0);
    round_all(factors, scores);
    turn.next();
    for (int step = 1; step < seen; step++, turn.next(), before.next()) {
        await_tile(shared, turn);
        begin_scores(scores, own, shared.ring + turn.stage * STAGE);
        begin_sums(sums, factors, shared.ring + before.stage * STAGE + TILE);
        await_products<1>();
        hold(scores);
        soften_step(step);
        await_products<0>();
        hold(sums);
        if (threadIdx.x % 128 == 0) arrive(shared.empty + before.stage * 8);
        fade_rows(sums, fade);
        round_all(factors, scores);
    }
    begin_sums(sums, factors, shared.ring + before.stage * STAGE + TILE);
    await_products<0>();
    hold(sums);
    if (threadIdx.x % 128 == 0) arrive(shared.empty + before.stage * 8);
    for (int step = seen; step < steps; step++, turn.next()) {
        await_tile(shared, turn);
        if (threadIdx.x % 128 == 0) arrive(shared.empty + turn.stage * 8);
    }
    meet<128>(2 + group);
    int lane = threadIdx.x % 32;
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = total[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        Index query = first + row_of(2 * half);
        if (lane % 4 == 0 && query < sequence)
            lse[place.statistic + query * (place.query_stride / HEAD)] = most[half] * (float)given_scale + logf(sum);
        factor[half] = 1.0f / sum;
    }
    store_rows(own, sums, factor[0], factor[1], y + place.output, place.query_stride, first, sequence);
}
#endif

#ifdef KEYS
// Gradients of keys and values. Blocks: (tile of keys, group, sequence); the other side is queries.
extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
attention_groups_keys(const bf16* dy, const bf16* qkv, const float* lse, const float* offsets, bf16* dqkv, Index given_sequence,
                      Index groups, Index queries, double given_scale) {
    int sequence = (int)given_sequence;
    DYNAMIC_SHARED(memory);
    Shared<2, 2 * ACROSS> shared(memory);
    shared.make_barriers();
    int first = blockIdx.x * OWN, start_of_all = CAUSAL ? first / ACROSS * ACROSS : 0;
    int tiles = (sequence - start_of_all + ACROSS - 1) / ACROSS, steps = tiles * queries;
    Place place(qkv, sequence, groups, queries, blockIdx.y * queries);
    int group = threadIdx.x / 128 - 1;
    if (group < 0) {
        give_registers<LOADER_REGISTERS>();
        load_all(shared, steps, [&](int step, int stage) {
            int slot = step / tiles, start = start_of_all + step % tiles * ACROSS;
            unsigned tile = shared.ring + stage * STAGE;
            begin_tile<ACROSS, HEAD, 128>(tile, place.query + slot * HEAD, place.row_stride, start, sequence, threadIdx.x);
            begin_tile<ACROSS, HEAD, 128>(tile + TILE, dy + place.output + slot * HEAD, place.query_stride, start, sequence, threadIdx.x);
            // Past the end all is zero, and so are all products.
            unsigned words = shared.extra + stage * 2 * ACROSS * 4;
            for (int i = threadIdx.x; i < 2 * ACROSS; i += 128) {
                bool is_inside = start + i % ACROSS < sequence;
                Index at = place.statistic + slot + (is_inside ? start + i % ACROSS : 0) * (place.query_stride / HEAD);
                begin_number(words + i * 4, (i < ACROSS ? lse : offsets) + at, is_inside);
            }
        });
        return;
    }
    take_registers<OWNER_REGISTERS>();
    begin_own(shared.own, place.key, place.row_stride, first, sequence);
    begin_own(shared.own + OWN_TILE, place.value, place.row_stride, first, sequence);
    await_own();
    first += group * 64;
    unsigned own = shared.own + group * 64 * 128;
    float scale = (float)given_scale * LOG2_E;
    float dkeys[HEAD / 2], dvalues[HEAD / 2];
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) dkeys[i] = dvalues[i] = 0;
    hold(dkeys);
    hold(dvalues);
    Factors factors, dfactors;
    Turn turn, before;
    for (int step = 0; step < steps; step++, turn.next()) {
        unsigned query_tile = shared.ring + turn.stage * STAGE, dy_tile = query_tile + TILE;
        await_tile(shared, turn);
        float scores[ACROSS / 2], dscores[ACROSS / 2];
        begin_scores(scores, own, query_tile);
        begin_scores(dscores, own + OWN_TILE, dy_tile);
        await_products<1>();
        hold(scores);
        // What this group began before is over, too.
        if (step > 0) {
            if (threadIdx.x % 128 == 0) arrive(shared.empty + before.stage * 8);
            before.next();
        }
        const float* words = shared.extra_words + turn.stage * 2 * ACROSS;
        int start = start_of_all + step % tiles * ACROSS;
        if (CAUSAL && start < first + 63) {
            int ahead = first - start;
#pragma unroll
            for (int i = 0; i < ACROSS / 2; i++)
                if (column_of(i) < ahead + row_of(i)) scores[i] = -INFINITY;
        }
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++) {
            float2 shift = *(const float2*)(words + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
            for (int i = n * 4; i < n * 4 + 4; i++)
                scores[i] = power_of_two(fmaf(scores[i], scale, (i % 2 ? shift.y : shift.x) * -LOG2_E));
        }
        round_all(factors, scores);
        begin_sums(dvalues, factors, dy_tile);
        await_products<1>();
        hold(dscores);
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++) {
            float2 offset = *(const float2*)(words + ACROSS + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
            for (int i = n * 4; i < n * 4 + 4; i++) dscores[i] = scores[i] * (dscores[i] - (i % 2 ? offset.y : offset.x));
        }
        round_all(dfactors, dscores);
        begin_sums(dkeys, dfactors, query_tile);
        // Larger heads leave no registers for what is under way.
        if (HEAD > 64) await_products<0>();
    }
    await_products<0>();
    hold(dkeys);
    hold(dvalues);
    meet<128>(2 + group);
    store_rows(own, dkeys, (float)given_scale, (float)given_scale, dqkv + (place.key - qkv), place.row_stride, first, sequence);
    store_rows(own + OWN_TILE, dvalues, 1.0f, 1.0f, dqkv + (place.value - qkv), place.row_stride, first, sequence);
}
#endif

#ifdef QUERIES
// Gradients of queries. Blocks: (tile of queries, head, sequence); the other side is keys.
extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
attention_groups_queries(const bf16* dy, const bf16* qkv, const float* lse, const float* offsets, bf16* dqkv, Index given_sequence,
                         Index groups, Index queries, double given_scale) {
    int sequence = (int)given_sequence;
    DYNAMIC_SHARED(memory);
    Shared<2, 0> shared(memory);
    shared.make_barriers();
    Place place(qkv, sequence, groups, queries, blockIdx.y);
    int first = (gridDim.x - 1 - blockIdx.x) * OWN;
    int end = CAUSAL && first + OWN < sequence ? first + OWN : sequence, steps = (end + ACROSS - 1) / ACROSS;
    int group = threadIdx.x / 128 - 1;
    if (group < 0) {
        give_registers<LOADER_REGISTERS>();
        load_all(shared, steps, [&](int step, int stage) {
            unsigned tile = shared.ring + stage * STAGE;
            begin_tile<ACROSS, HEAD, 128>(tile, place.key, place.row_stride, step * ACROSS, sequence, threadIdx.x);
            begin_tile<ACROSS, HEAD, 128>(tile + TILE, place.value, place.row_stride, step * ACROSS, sequence, threadIdx.x);
        });
        return;
    }
    take_registers<OWNER_REGISTERS>();
    begin_own(shared.own, place.query, place.row_stride, first, sequence);
    begin_own(shared.own + OWN_TILE, dy + place.output, place.query_stride, first, sequence);
    await_own();
    first += group * 64;
    unsigned own = shared.own + group * 64 * 128;
    float scale = (float)given_scale * LOG2_E, shift[2], offset[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        Index query = first + row_of(2 * half), at = place.statistic + query * (place.query_stride / HEAD);
        shift[half] = query < sequence ? lse[at] * LOG2_E : INFINITY;
        offset[half] = query < sequence ? offsets[at] : 0.0f;
    }
    float dqueries[HEAD / 2];
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) dqueries[i] = 0;
    hold(dqueries);
    Factors factors;
    Turn turn, before;
    for (int step = 0; step < steps; step++, turn.next()) {
        unsigned key_tile = shared.ring + turn.stage * STAGE;
        int start = step * ACROSS;
        await_tile(shared, turn);
        float scores[ACROSS / 2], dscores[ACROSS / 2];
        begin_scores(scores, own, key_tile);
        begin_scores(dscores, own + OWN_TILE, key_tile + TILE);
        await_products<1>();
        hold(scores);
        if (step > 0) {
            if (threadIdx.x % 128 == 0) arrive(shared.empty + before.stage * 8);
            before.next();
        }
        if (start + ACROSS > sequence || (CAUSAL && start + ACROSS > first + 1)) hide(scores, first, start, sequence);
#pragma unroll
        for (int i = 0; i < ACROSS / 2; i++) scores[i] = power_of_two(fmaf(scores[i], scale, -shift[i / 2 % 2]));
        await_products<0>();
        hold(dscores);
#pragma unroll
        for (int i = 0; i < ACROSS / 2; i++) dscores[i] = scores[i] * (dscores[i] - offset[i / 2 % 2]);
        round_all(factors, dscores);
        begin_sums(dqueries, factors, key_tile);
    }
    await_products<0>();
    hold(dqueries);
    meet<128>(2 + group);
    store_rows(own, dqueries, (float)given_scale, (float)given_scale, dqkv + (place.query - qkv), place.row_stride, first, sequence);
}
#endif
