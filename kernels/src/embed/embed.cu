// Rows of a table by token, and their gradient.
//
// Idea: a block copies a row. For the gradient, each token of the vocabulary that occurs is owned by the block of its
// first place, found by integer minima; the owner looks for the later places and adds their rows in order. So sums
// need no atomics on floats and are the same in every run.
// Bytes: forward 2 rows a place. Gradient: a row of dy a place, two rows of the table an occurring token, and the
// tokens once more for each occurring token (from cache). FLOPs: one addition an element of dy.

extern "C" __global__ void embed(const int* tokens, const T* table, T* y, Index first, Index rows, Index width) {
    constexpr int LANES = Lanes<T>::count;
    Index row = (Index)tokens[blockIdx.x] - first;
    bool is_held = row >= 0 && row < rows;
    const T* from = table + (is_held ? row * width : 0);
    T* to = y + (Index)blockIdx.x * width;
    if (width % LANES == 0 && is_aligned(table) && is_aligned(y)) {
        for (Index i = threadIdx.x * LANES; i < width; i += blockDim.x * LANES)
            *(uint4*)(to + i) = is_held ? *(const uint4*)(from + i) : make_uint4(0, 0, 0, 0);
    } else {
        for (Index i = threadIdx.x; i < width; i += blockDim.x) put(to[i], is_held ? widen(from[i]) : 0.0f);
    }
}

// owner[row] becomes the least place of the row's token; it begins as the greatest number.
extern "C" __global__ void embed_owners(const int* tokens, unsigned* owners, Index count, Index first, Index rows) {
    Index place = (Index)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= count) return;
    Index row = (Index)tokens[place] - first;
    if (row >= 0 && row < rows) atomicMin(owners + row, (unsigned)place);
}

// Adds to the table: blocks of 256 threads, each for 4 columns.
extern "C" __global__ void embed_gradient(const int* tokens, const T* dy, float* dtable, const unsigned* owners,
                                          Index count, Index first, Index rows, Index width) {
    constexpr int ROUNDS = 4;
    __shared__ unsigned matches[8 * ROUNDS];
    int token = tokens[blockIdx.x];
    Index row = (Index)token - first;
    if (row < 0 || row >= rows || owners[row] != blockIdx.x) return;
    Index column = ((Index)blockIdx.y * 256 + threadIdx.x) * 4;
    bool is_whole = width % 4 == 0 && is_aligned(dy) && column < width;
    float sums[4] = {0, 0, 0, 0};
    for (Index start = blockIdx.x; start < count; start += 256 * ROUNDS) {
        __syncthreads();
        for (int round = 0; round < ROUNDS; round++) {
            Index place = start + round * 256 + threadIdx.x;
            unsigned found = __ballot_sync(0xffffffffu, place < count && tokens[place] == token);
            if (threadIdx.x % 32 == 0) matches[round * 8 + threadIdx.x / 32] = found;
        }
        __syncthreads();
        for (int word = 0; word < 8 * ROUNDS; word++) {
            for (unsigned left = matches[word]; left; left &= left - 1) {
                const T* from = dy + (start + word * 32 + __ffs(left) - 1) * width + column;
                float x[4] = {0, 0, 0, 0};
                if (is_whole) load4(from, x);
                else
                    for (int i = 0; i < 4; i++)
                        if (column + i < width) x[i] = widen(from[i]);
                for (int i = 0; i < 4; i++) sums[i] += x[i];
            }
        }
    }
    for (int i = 0; i < 4; i++)
        if (column + i < width) dtable[row * width + column + i] += sums[i];
}
