// Softmax attention on packed rows [b s g c d] and its gradient, for any head size and both number types.
//
// Idea: tiles of 16 queries and 16 keys, a thread a pair; softmax as it goes along (Milakov and Gimelshein 2018). The
// gradient computes scores again from the log-sum-exp (Dao et al. 2022): one kernel owns keys and sums their
// gradients over queries, another owns queries, so that no sum needs atomics. What has tensor cores uses tensor.cu.
// Bytes: keys and values once for 16 queries. FLOPs: 4 s^2 d a head and sequence, the gradient 14 s^2 d in place of
// 10, as both of its kernels compute scores; half if causal.
//
// The compiler gets HEAD and CAUSAL (1 or 0).

constexpr int TILE = 16, STRIDE = HEAD + 1, PARTS = (HEAD + TILE - 1) / TILE;
typedef float Rows[TILE][STRIDE];

// Rows of one slot of a packed tensor; zeros from `end` on.
__device__ __forceinline__ void load_rows(Rows& tile, const T* from, Index row_stride, Index first, Index end) {
    for (int i = threadIdx.x; i < TILE * HEAD; i += TILE * TILE) {
        Index row = first + i / HEAD;
        tile[i / HEAD][i % HEAD] = row < end ? widen(from[row * row_stride + i % HEAD]) : 0.0f;
    }
}

__device__ __forceinline__ float dot(const float* a, const float* b) {
    float sum = 0;
#pragma unroll 4
    for (int i = 0; i < HEAD; i++) sum += a[i] * b[i];
    return sum;
}

__device__ __forceinline__ bool sees(Index query, Index key, Index sequence) {
    return key < sequence && (!CAUSAL || key <= query);
}

// The first key after those that a tile of queries sees.
__device__ __forceinline__ Index keys_end(Index first, Index sequence) {
    return CAUSAL && first + TILE < sequence ? first + TILE : sequence;
}

// Adds sums over j of factor[row][j] * tile[j] to a row of which each thread has every 16th column.
__device__ __forceinline__ void add_products(float (&out)[PARTS], const float* factors, const Rows& tile, int x) {
#pragma unroll 2
    for (int j = 0; j < TILE; j++)
        for (int part = 0; part < PARTS; part++)
            if (part * TILE + x < HEAD) out[part] += factors[j] * tile[j][part * TILE + x];
}

__device__ __forceinline__ void store_row(T* to, const float (&row)[PARTS], float factor, int x) {
    for (int part = 0; part < PARTS; part++)
        if (part * TILE + x < HEAD) put(to[part * TILE + x], row[part] * factor);
}

// Where the parts of one sequence begin. Blocks: (tile, head, sequence).
struct Place {
    Index row_stride, query_stride;
    const T *query, *key, *value;
    Index output, statistic;
    __device__ __forceinline__ Place(const T* qkv, Index sequence, Index groups, Index queries, Index head) {
        Index group = head / queries, slots = groups * (queries + 2);
        row_stride = slots * HEAD, query_stride = groups * queries * HEAD;
        const T* base = qkv + blockIdx.z * sequence * row_stride + group * (queries + 2) * HEAD;
        query = base + head % queries * HEAD;
        key = base + queries * HEAD, value = key + HEAD;
        output = blockIdx.z * sequence * query_stride + head * HEAD, statistic = output / HEAD;
    }
};

extern "C" __global__ void __launch_bounds__(TILE * TILE, 1)
attention(const T* qkv, T* y, float* lse, Index sequence, Index groups, Index queries, double scale) {
    DYNAMIC_SHARED(memory);
    Rows *query_tile = (Rows*)memory, *key_tile = query_tile + 1;
    __shared__ float factors[TILE][TILE + 1];
    Place place(qkv, sequence, groups, queries, blockIdx.y);
    int x = threadIdx.x % TILE, row = threadIdx.x / TILE;
    Index first = (Index)blockIdx.x * TILE, query = first + row;
    load_rows(*query_tile, place.query, place.row_stride, first, sequence);
    float out[PARTS] = {}, most = -INFINITY, total = 0;
    for (Index start = 0; start < keys_end(first, sequence); start += TILE) {
        __syncthreads();
        load_rows(*key_tile, place.key, place.row_stride, start, sequence);
        __syncthreads();
        float score = dot((*query_tile)[row], (*key_tile)[x]) * (float)scale;
        if (!sees(query, start + x, sequence)) score = -INFINITY;
        float greatest = score;
        for (int d = 8; d; d /= 2) greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, d));
        greatest = fmaxf(greatest, most);
        float share = expf(score - greatest), fade = expf(most - greatest);
        most = greatest;
        factors[row][x] = share;
        for (int d = 8; d; d /= 2) share += __shfl_xor_sync(0xffffffffu, share, d);
        total = total * fade + share;
        __syncthreads();
        load_rows(*key_tile, place.value, place.row_stride, start, sequence);
        __syncthreads();
        for (int part = 0; part < PARTS; part++) out[part] *= fade;
        add_products(out, factors[row], *key_tile, x);
    }
    if (query >= sequence) return;
    store_row(y + place.output + query * place.query_stride, out, 1.0f / total, x);
    if (x == 0) lse[place.statistic + query * place.query_stride / HEAD] = most + logf(total);
}

// D: the sum of dy * y of each row of a head; a warp a row.
extern "C" __global__ void attention_offsets(const T* dy, const T* y, float* offsets, Index rows) {
    Index row = ((Index)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= rows) return;
    float sum = 0;
    for (Index i = row * HEAD + threadIdx.x % 32; i < (row + 1) * HEAD; i += 32) sum += widen(dy[i]) * widen(y[i]);
    sum = join_warp<Sum>(sum);
    if (threadIdx.x % 32 == 0) offsets[row] = sum;
}

// The probability of a pair, and the gradient of its score, from dot products.
__device__ __forceinline__ void slope(float& score, float& dscore, float scale, float lse, float offset, bool is_seen) {
    score = is_seen ? expf(score * scale - lse) : 0.0f;
    dscore = score * (dscore - offset) * scale;
}

// Gradients of keys and values. Blocks: (tile of keys, group, sequence).
extern "C" __global__ void __launch_bounds__(TILE * TILE, 1)
attention_gradient_keys(const T* dy, const T* qkv, const float* lse, const float* offsets, T* dqkv, Index sequence,
                        Index groups, Index queries, double scale) {
    DYNAMIC_SHARED(memory);
    Rows *key_tile = (Rows*)memory, *value_tile = key_tile + 1, *query_tile = key_tile + 2, *dy_tile = key_tile + 3;
    __shared__ float factors[TILE][TILE + 1], dfactors[TILE][TILE + 1];
    int x = threadIdx.x % TILE, row = threadIdx.x / TILE;
    Index first = (Index)blockIdx.x * TILE, key = first + row;
    float dkey[PARTS] = {}, dvalue[PARTS] = {};
    for (Index slot = 0; slot < queries; slot++) {
        Place place(qkv, sequence, groups, queries, blockIdx.y * queries + slot);
        load_rows(*key_tile, place.key, place.row_stride, first, sequence);
        load_rows(*value_tile, place.value, place.row_stride, first, sequence);
        for (Index start = CAUSAL ? first : 0; start < sequence; start += TILE) {
            __syncthreads();
            load_rows(*query_tile, place.query, place.row_stride, start, sequence);
            load_rows(*dy_tile, dy + place.output, place.query_stride, start, sequence);
            __syncthreads();
            Index query = start + x, statistic = place.statistic + query * place.query_stride / HEAD;
            bool is_seen = query < sequence && sees(query, key, sequence);
            float score = dot((*key_tile)[row], (*query_tile)[x]), dscore = dot((*value_tile)[row], (*dy_tile)[x]);
            slope(score, dscore, (float)scale, is_seen ? lse[statistic] : 0, is_seen ? offsets[statistic] : 0, is_seen);
            factors[row][x] = score, dfactors[row][x] = dscore;
            __syncthreads();
            add_products(dvalue, factors[row], *dy_tile, x);
            add_products(dkey, dfactors[row], *query_tile, x);
        }
        __syncthreads();
    }
    if (key >= sequence) return;
    Place place(qkv, sequence, groups, queries, blockIdx.y * queries);
    store_row(dqkv + (place.key - qkv) + key * place.row_stride, dkey, 1.0f, x);
    store_row(dqkv + (place.value - qkv) + key * place.row_stride, dvalue, 1.0f, x);
}

// Gradients of queries. Blocks: (tile of queries, head, sequence).
extern "C" __global__ void __launch_bounds__(TILE * TILE, 1)
attention_gradient_queries(const T* dy, const T* qkv, const float* lse, const float* offsets, T* dqkv, Index sequence,
                           Index groups, Index queries, double scale) {
    DYNAMIC_SHARED(memory);
    Rows *key_tile = (Rows*)memory, *value_tile = key_tile + 1, *query_tile = key_tile + 2, *dy_tile = key_tile + 3;
    __shared__ float dfactors[TILE][TILE + 1];
    Place place(qkv, sequence, groups, queries, blockIdx.y);
    int x = threadIdx.x % TILE, row = threadIdx.x / TILE;
    Index first = (Index)blockIdx.x * TILE, query = first + row;
    Index statistic = place.statistic + query * place.query_stride / HEAD;
    load_rows(*query_tile, place.query, place.row_stride, first, sequence);
    load_rows(*dy_tile, dy + place.output, place.query_stride, first, sequence);
    float dquery[PARTS] = {};
    float lse_here = query < sequence ? lse[statistic] : 0, offset = query < sequence ? offsets[statistic] : 0;
    for (Index start = 0; start < keys_end(first, sequence); start += TILE) {
        __syncthreads();
        load_rows(*key_tile, place.key, place.row_stride, start, sequence);
        load_rows(*value_tile, place.value, place.row_stride, start, sequence);
        __syncthreads();
        float score = dot((*query_tile)[row], (*key_tile)[x]), dscore = dot((*dy_tile)[row], (*value_tile)[x]);
        slope(score, dscore, (float)scale, lse_here, offset, query < sequence && sees(query, start + x, sequence));
        dfactors[row][x] = dscore;
        __syncthreads();
        add_products(dquery, dfactors[row], *key_tile, x);
    }
    if (query < sequence) store_row(dqkv + (place.query - qkv) + query * place.row_stride, dquery, 1.0f, x);
}
