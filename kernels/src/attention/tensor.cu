// Softmax attention on packed rows [b s g c d] and its gradient in bf16 on tensor cores; the head size is a multiple
// of 16 up to 128.
//
// Idea: tiles in shared memory, two of each so that the next is under way while one is used; products of 16 x 8 x 16
// in registers, where the scores of one product are the factor of the next without being moved (Dao 2023). Warps own
// rows (of queries, or of keys in the gradient of keys) and never exchange anything. The gradient computes scores
// again; one kernel owns keys, another queries, so that no sum needs atomics.
// Bytes: keys and values once for 128 queries. FLOPs: 4 s^2 d a head and sequence, the gradient 14 s^2 d in place of
// 10, as both of its kernels compute scores; half if causal. The tensor cores bound it.
//
// The compiler gets HEAD, CAUSAL (1 or 0), WARPS, and for its kernel: TILES (16-row tiles a warp owns) and ACROSS
// (rows of the other side in a tile).

constexpr int OWN = WARPS * TILES * 16, STRIDE = HEAD + 8, STEPS = HEAD / 16, COLUMNS = HEAD / 8;
typedef bf16 Row[STRIDE];
// Accumulators of a warp: for each of its 16-row tiles, columns in eights.
typedef float Scores[TILES][ACROSS / 8][4];
typedef float Sums[TILES][COLUMNS][4];

// Begins to load rows of a slot; zeros from `end` on.
template <int rows>
__device__ __forceinline__ void begin_rows(Row* tile, const bf16* from, Index row_stride, Index first, Index end) {
    for (int i = threadIdx.x; i < rows * COLUMNS; i += WARPS * 32) {
        int row = i / COLUMNS, column = i % COLUMNS * 8;
        bool is_inside = first + row < end;
        begin_copy(&tile[row][column], from + (is_inside ? first + row : 0) * row_stride + column, is_inside);
    }
}

// scores = rows of `own` of this warp times rows of `across`, both over the head.
__device__ __forceinline__ void multiply_rows(Scores& scores, const Row* own, const Row* across) {
    int lane = threadIdx.x % 32, first = threadIdx.x / 32 * TILES * 16;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) scores[tile][n][i] = 0;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        unsigned a[TILES][4];
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
            load_tiles(a[tile], &own[first + tile * 16 + lane % 16][step * 16 + lane / 16 * 8]);
#pragma unroll
        for (int n = 0; n < ACROSS / 16; n++) {
            unsigned b[4];
            load_tiles(b, &across[n * 16 + lane % 8 + lane / 16 * 8][step * 16 + lane / 8 % 2 * 8]);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                multiply_tile(scores[tile][2 * n], a[tile], b[0], b[1]);
                multiply_tile(scores[tile][2 * n + 1], a[tile], b[2], b[3]);
            }
        }
    }
}

// sums += factors (rows of this warp, over ACROSS) times `across`.
__device__ __forceinline__ void add_products(Sums& sums, const Scores& factors, const Row* across) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < ACROSS / 16; k++) {
        unsigned a[TILES][4];
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[tile][i] = round_pair(factors[tile][2 * k + i / 2][i % 2 * 2], factors[tile][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < STEPS; n++) {
            unsigned b[4];
            load_tiles_transposed(b, &across[k * 16 + lane % 8 + lane / 8 % 2 * 8][n * 16 + lane / 16 * 8]);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++) {
                multiply_tile(sums[tile][2 * n], a[tile], b[0], b[1]);
                multiply_tile(sums[tile][2 * n + 1], a[tile], b[2], b[3]);
            }
        }
    }
}

// Rounds rows of this warp into its own rows of a tile, then to memory in 16 bytes; `factor` is for rows.
__device__ __forceinline__ void store_rows(Row* tile, const Sums& sums, const float (&factor)[TILES][2], bf16* to,
                                           Index row_stride, Index first, Index end) {
    int lane = threadIdx.x % 32, own = threadIdx.x / 32 * TILES * 16;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int n = 0; n < COLUMNS; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float f = factor[t][half];
                *(unsigned*)&tile[own + t * 16 + lane / 4 + half * 8][n * 8 + lane % 4 * 2] =
                    round_pair(sums[t][n][2 * half] * f, sums[t][n][2 * half + 1] * f);
            }
    __syncwarp();
    for (int i = lane; i < TILES * 16 * COLUMNS; i += 32) {
        int row = own + i / COLUMNS, column = i % COLUMNS * 8;
        if (first + row < end) *(uint4*)(to + (first + row) * row_stride + column) = *(const uint4*)&tile[row][column];
    }
}

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

// The row that element i of a tile belongs to, and its column among ACROSS.
__device__ __forceinline__ int row_of(int tile, int i) {
    return threadIdx.x / 32 * TILES * 16 + tile * 16 + threadIdx.x % 32 / 4 + i / 2 * 8;
}

__device__ __forceinline__ int column_of(int n, int i) {
    return n * 8 + threadIdx.x % 4 * 2 + i % 2;
}

__device__ __forceinline__ void hide(Scores& scores, Index first_query, Index first_key, Index sequence) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                Index key = first_key + column_of(n, i);
                if (key >= sequence || (CAUSAL && key > first_query + row_of(t, i))) scores[t][n][i] = -INFINITY;
            }
}

// Turns scores into shares of a row's greatest so far, and what was summed before to the same measure.
__device__ __forceinline__ void soften(Scores& scores, Sums& sums, float (&most)[TILES][2], float (&total)[TILES][2], float scale) {
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float greatest = most[t][half];
#pragma unroll
            for (int n = 0; n < ACROSS / 8; n++)
                greatest = fmaxf(greatest, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
            greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
            greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
            float fade = power_of_two((most[t][half] - greatest) * scale), sum = 0, shift = greatest * scale;
            most[t][half] = greatest;
#pragma unroll
            for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    scores[t][n][i] = power_of_two(fmaf(scores[t][n][i], scale, -shift));
                    sum += scores[t][n][i];
                }
            total[t][half] = total[t][half] * fade + sum;
#pragma unroll
            for (int n = 0; n < COLUMNS; n++) sums[t][n][2 * half] *= fade, sums[t][n][2 * half + 1] *= fade;
        }
}

#ifdef FORWARD
extern "C" __global__ void __launch_bounds__(WARPS * 32)
attention_tensor(const bf16* qkv, bf16* y, float* lse, Index sequence, Index groups, Index queries, double scale) {
    DYNAMIC_SHARED(memory);
    Row *query_tile = (Row*)memory, *tiles = query_tile + OWN;
    Place place(qkv, sequence, groups, queries, blockIdx.y);
    // Later queries see more keys: they begin first.
    Index first = (Index)(gridDim.x - 1 - blockIdx.x) * OWN;
    Index end = CAUSAL && first + OWN < sequence ? first + OWN : sequence;
    auto begin = [&](Index start, int stage) {
        begin_rows<ACROSS>(tiles + stage * 2 * ACROSS, place.key, place.row_stride, start, sequence);
        begin_rows<ACROSS>(tiles + (stage * 2 + 1) * ACROSS, place.value, place.row_stride, start, sequence);
    };
    begin_rows<OWN>(query_tile, place.query, place.row_stride, first, sequence);
    begin(0, 0);
    end_group();
    Sums sums = {};
    float most[TILES][2], total[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; t++) most[t][0] = most[t][1] = -INFINITY, total[t][0] = total[t][1] = 0;
    int stage = 0;
    for (Index start = 0; start < end; start += ACROSS, stage ^= 1) {
        if (start + ACROSS < end) begin(start + ACROSS, stage ^ 1);
        end_group();
        await_groups<1>();
        __syncthreads();
        const Row *keys = tiles + stage * 2 * ACROSS, *values = keys + ACROSS;
        Scores scores;
        multiply_rows(scores, query_tile, keys);
        if (start + ACROSS > sequence || (CAUSAL && start + ACROSS > first + 1)) hide(scores, first, start, sequence);
        soften(scores, sums, most, total, (float)scale * LOG2_E);
        add_products(sums, scores, values);
        __syncthreads();
    }
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[t][half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            Index query = first + row_of(t, 2 * half);
            if (lane % 4 == 0 && query < sequence)
                lse[place.statistic + query * (place.query_stride / HEAD)] = most[t][half] * (float)scale + logf(sum);
            total[t][half] = 1.0f / sum;
        }
    store_rows(query_tile, sums, total, y + place.output, place.query_stride, first, sequence);
}
#endif

// Probabilities from scores, gradients of scores from those of probabilities. `lse` in units of log2.
__device__ __forceinline__ void slope(float& score, float& dscore, float scale, float lse, float offset) {
    score = power_of_two(fmaf(score, scale * LOG2_E, -lse));
    dscore = score * (dscore - offset) * scale;
}

#ifdef KEYS
// Gradients of keys and values. Blocks: (tile of keys, group, sequence); the other side is queries.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
attention_tensor_keys(const bf16* dy, const bf16* qkv, const float* lse, const float* offsets, bf16* dqkv, Index sequence,
                      Index groups, Index queries, double scale) {
    DYNAMIC_SHARED(memory);
    Row *key_tile = (Row*)memory, *value_tile = key_tile + OWN, *tiles = value_tile + OWN;
    float* statistics = (float*)(tiles + 4 * ACROSS);
    Index first = (Index)blockIdx.x * OWN, start_of_all = CAUSAL ? first / ACROSS * ACROSS : 0;
    Index steps = (sequence - start_of_all + ACROSS - 1) / ACROSS;
    Place place(qkv, sequence, groups, queries, blockIdx.y * queries);
    auto begin = [&](Index step, int stage) {
        Index slot = step / steps, start = start_of_all + step % steps * ACROSS;
        Row* to = tiles + stage * 2 * ACROSS;
        begin_rows<ACROSS>(to, place.query + slot * HEAD, place.row_stride, start, sequence);
        begin_rows<ACROSS>(to + ACROSS, dy + place.output + slot * HEAD, place.query_stride, start, sequence);
        for (int i = threadIdx.x; i < ACROSS; i += WARPS * 32) {
            Index at = place.statistic + slot + (start + i) * (place.query_stride / HEAD);
            // A query past the end has probability 0 everywhere.
            statistics[stage * 2 * ACROSS + i] = start + i < sequence ? lse[at] * LOG2_E : INFINITY;
            statistics[(stage * 2 + 1) * ACROSS + i] = start + i < sequence ? offsets[at] : 0.0f;
        }
    };
    begin_rows<OWN>(key_tile, place.key, place.row_stride, first, sequence);
    begin_rows<OWN>(value_tile, place.value, place.row_stride, first, sequence);
    begin(0, 0);
    end_group();
    Sums dkeys = {}, dvalues = {};
    int stage = 0;
    for (Index step = 0; step < steps * queries; step++, stage ^= 1) {
        if (step + 1 < steps * queries) begin(step + 1, stage ^ 1);
        end_group();
        await_groups<1>();
        __syncthreads();
        const Row *query_tile = tiles + stage * 2 * ACROSS, *dy_tile = query_tile + ACROSS;
        const float *lses = statistics + stage * 2 * ACROSS, *shifts = lses + ACROSS;
        Index start = start_of_all + step % steps * ACROSS;
        Scores scores, dscores;
        multiply_rows(scores, key_tile, query_tile);
        multiply_rows(dscores, value_tile, dy_tile);
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    int column = column_of(n, i);
                    if (CAUSAL && first + row_of(t, i) > start + column) scores[t][n][i] = -INFINITY;
                    slope(scores[t][n][i], dscores[t][n][i], (float)scale, lses[column], shifts[column]);
                }
        add_products(dvalues, scores, dy_tile);
        add_products(dkeys, dscores, query_tile);
        __syncthreads();
    }
    float one[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; t++) one[t][0] = one[t][1] = 1;
    store_rows(key_tile, dkeys, one, dqkv + (place.key - qkv), place.row_stride, first, sequence);
    store_rows(value_tile, dvalues, one, dqkv + (place.value - qkv), place.row_stride, first, sequence);
}
#endif

#ifdef QUERIES
// Gradients of queries. Blocks: (tile of queries, head, sequence); the other side is keys.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
attention_tensor_queries(const bf16* dy, const bf16* qkv, const float* lse, const float* offsets, bf16* dqkv,
                         Index sequence, Index groups, Index queries, double scale) {
    DYNAMIC_SHARED(memory);
    Row *query_tile = (Row*)memory, *dy_tile = query_tile + OWN, *tiles = dy_tile + OWN;
    Place place(qkv, sequence, groups, queries, blockIdx.y);
    Index first = (Index)(gridDim.x - 1 - blockIdx.x) * OWN;
    Index end = CAUSAL && first + OWN < sequence ? first + OWN : sequence;
    auto begin = [&](Index start, int stage) {
        begin_rows<ACROSS>(tiles + stage * 2 * ACROSS, place.key, place.row_stride, start, sequence);
        begin_rows<ACROSS>(tiles + (stage * 2 + 1) * ACROSS, place.value, place.row_stride, start, sequence);
    };
    begin_rows<OWN>(query_tile, place.query, place.row_stride, first, sequence);
    begin_rows<OWN>(dy_tile, dy + place.output, place.query_stride, first, sequence);
    begin(0, 0);
    end_group();
    float lses[TILES][2], shifts[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Index query = first + row_of(t, 2 * half), at = place.statistic + query * (place.query_stride / HEAD);
            lses[t][half] = query < sequence ? lse[at] * LOG2_E : INFINITY;
            shifts[t][half] = query < sequence ? offsets[at] : 0.0f;
        }
    Sums dqueries = {};
    int stage = 0;
    for (Index start = 0; start < end; start += ACROSS, stage ^= 1) {
        if (start + ACROSS < end) begin(start + ACROSS, stage ^ 1);
        end_group();
        await_groups<1>();
        __syncthreads();
        const Row *keys = tiles + stage * 2 * ACROSS, *values = keys + ACROSS;
        Scores scores, dscores;
        multiply_rows(scores, query_tile, keys);
        if (start + ACROSS > sequence || (CAUSAL && start + ACROSS > first + 1)) hide(scores, first, start, sequence);
        multiply_rows(dscores, dy_tile, values);
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    slope(scores[t][n][i], dscores[t][n][i], (float)scale, lses[t][i / 2], shifts[t][i / 2]);
        add_products(dqueries, dscores, keys);
        __syncthreads();
    }
    float one[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; t++) one[t][0] = one[t][1] = 1;
    store_rows(query_tile, dqueries, one, dqkv + (place.query - qkv), place.row_stride, first, sequence);
}
#endif
