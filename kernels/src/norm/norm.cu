// Layer and root-mean-square normalisation, and their gradients.
//
// Idea: a block holds a row in registers, so that mean, variance and result take one pass over memory. In the gradient
// a block walks down a stretch of rows and sums the gradients of weight and bias in registers; stretches are added in
// order by a second kernel.
// Bytes: forward x and y once; gradient x, dy and dx once, and the partial sums twice. FLOPs: about 8 an element.
//
// The compiler gets WIDTH, COUNT (numbers of one access), THREADS, ROUNDS with COUNT * THREADS * ROUNDS >= WIDTH,
// BLOCKS (of a gradient, at least so many on a processor), LAYER (1: mean and bias; 0: neither), and ADD (1: the gradient has an addend, which is read once; 0: none).

__device__ __forceinline__ int column_of(int round) {
    return (round * THREADS + threadIdx.x) * COUNT;
}

// A row of numbers, zeros past its end.
template <class E>
__device__ __forceinline__ void load_row(const E* row, float (&x)[ROUNDS][COUNT]) {
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < COUNT; i++) x[round][i] = 0;
        if (column_of(round) < WIDTH) load<COUNT>(row + column_of(round), x[round]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
normalise(const T* x, const T* weight, const T* bias, T* y, float* means, float* deviations, double epsilon) {
    const T* row = x + (Index)blockIdx.x * WIDTH;
    float values[ROUNDS][COUNT], sum = 0;
    load_row(row, values);
    float mean = 0;
    if constexpr (LAYER) {
        for (int round = 0; round < ROUNDS; round++)
            for (int i = 0; i < COUNT; i++) sum += values[round][i];
        mean = sum_block(sum) * (1.0f / WIDTH);
    }
    float squares = 0;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < COUNT; i++)
            if (column_of(round) < WIDTH) squares += (values[round][i] - mean) * (values[round][i] - mean);
    float deviation = 1.0f / sqrtf(sum_block(squares) * (1.0f / WIDTH) + (float)epsilon);
    for (int round = 0; round < ROUNDS; round++) {
        int column = column_of(round);
        if (column >= WIDTH) continue;
        float scale[COUNT], shift[COUNT] = {};
        load<COUNT>(weight + column, scale);
        if constexpr (LAYER) load<COUNT>(bias + column, shift);
        for (int i = 0; i < COUNT; i++) scale[i] = (values[round][i] - mean) * deviation * scale[i] + shift[i];
        store<COUNT>(y + (Index)blockIdx.x * WIDTH + column, scale);
    }
    if (threadIdx.x == 0) {
        if constexpr (LAYER) means[blockIdx.x] = mean;
        deviations[blockIdx.x] = deviation;
    }
}

// Sums over a block of several numbers at one meeting; all threads get them.
template <int count>
__device__ __forceinline__ void sum_block_each(float (&x)[count]) {
    __shared__ float parts[count][THREADS / 32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int i = 0; i < count; i++) x[i] = join_warp<Sum>(x[i]);
    __syncthreads();
    if (lane == 0)
        for (int i = 0; i < count; i++) parts[i][warp] = x[i];
    __syncthreads();
    for (int i = 0; i < count; i++) x[i] = join_warp<Sum>(lane < THREADS / 32 ? parts[i][lane] : 0.0f);
}

// Partial sums of a stretch of rows go to partials [stretches, WIDTH] of the weight, then of the bias. Rows come in
// pairs, whose loads are under way together and whose sums take one meeting.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
normalise_gradient(const T* dy, const T* x, const T* weight, const float* means, const float* deviations,
              const T* addend, T* dx, float* partials, Index rows) {
    constexpr int PAIR = 2;
    float dweight[ROUNDS][COUNT] = {}, dbias[LAYER ? ROUNDS : 1][COUNT] = {};
    Index stretch = (rows + gridDim.x - 1) / gridDim.x, begin = stretch * blockIdx.x;
    Index end = begin + stretch < rows ? begin + stretch : rows;
    for (Index first = begin; first < end; first += PAIR) {
        float normal[PAIR][ROUNDS][COUNT], slope[PAIR][ROUNDS][COUNT], deviation[PAIR];
        // Of slopes times normals, then of slopes, which only a mean needs.
        float sums[LAYER ? 2 * PAIR : PAIR] = {};
        for (int r = 0; r < PAIR; r++) {
            Index row = first + r < end ? first + r : first;
            load_row(x + row * WIDTH, normal[r]);
            load_row(dy + row * WIDTH, slope[r]);
        }
        for (int r = 0; r < PAIR; r++) {
            if (first + r >= end) continue;
            float mean = LAYER ? means[first + r] : 0.0f;
            deviation[r] = deviations[first + r];
            for (int round = 0; round < ROUNDS; round++) {
                if (column_of(round) >= WIDTH) continue;
                float scale[COUNT];
                load<COUNT>(weight + column_of(round), scale);
                for (int i = 0; i < COUNT; i++) {
                    normal[r][round][i] = (normal[r][round][i] - mean) * deviation[r];
                    dweight[round][i] += slope[r][round][i] * normal[r][round][i];
                    if constexpr (LAYER) dbias[round][i] += slope[r][round][i];
                    slope[r][round][i] *= scale[i];
                    sums[r] += slope[r][round][i] * normal[r][round][i];
                    if constexpr (LAYER) sums[PAIR + r] += slope[r][round][i];
                }
            }
        }
        sum_block_each(sums);
        for (int r = 0; r < PAIR; r++) {
            if (first + r >= end) continue;
            float products = sums[r] * (1.0f / WIDTH), slopes = 0;
            if constexpr (LAYER) slopes = sums[PAIR + r] * (1.0f / WIDTH);
            for (int round = 0; round < ROUNDS; round++) {
                if (column_of(round) >= WIDTH) continue;
                Index at = (first + r) * WIDTH + column_of(round);
                for (int i = 0; i < COUNT; i++)
                    slope[r][round][i] = deviation[r] * (slope[r][round][i] - slopes - normal[r][round][i] * products);
                if constexpr (ADD) {
                    float added[COUNT];
                    load<COUNT>(addend + at, added);
                    for (int i = 0; i < COUNT; i++) slope[r][round][i] += added[i];
                }
                store<COUNT>(dx + at, slope[r][round]);
            }
        }
    }
    for (int round = 0; round < ROUNDS; round++) {
        int column = column_of(round);
        if (column >= WIDTH) continue;
        Index at = (Index)blockIdx.x * WIDTH + column;
        for (int i = 0; i < COUNT; i++) {
            partials[at + i] = dweight[round][i];
            if constexpr (LAYER) partials[(Index)gridDim.x * WIDTH + at + i] = dbias[round][i];
        }
    }
}

extern "C" __global__ void normalise_gradient_finish(const float* partials, float* out, Index count, Index adds) {
    sum_partials(partials, count, WIDTH, out, adds);
}
