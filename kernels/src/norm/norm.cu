// Layer and root-mean-square normalisation, and their gradients.
//
// Idea: a block holds a row in registers, so that mean, variance and result take one pass over memory. In the gradient
// a block walks down a stretch of rows and sums the gradients of weight and bias in registers; stretches are added in
// order by a second kernel.
// Bytes: forward x and y once; gradient x, dy and dx once, and the partial sums twice. FLOPs: about 8 an element.
//
// The compiler gets WIDTH, COUNT (numbers of one access), THREADS, ROUNDS with COUNT * THREADS * ROUNDS >= WIDTH,
// LAYER (1: mean and bias; 0: neither), and ADD (1: the gradient has an addend, which is read once; 0: none).

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

// Partial sums of a stretch of rows go to partials [stretches, WIDTH] of the weight, then of the bias.
extern "C" __global__ void __launch_bounds__(THREADS)
normalise_gradient(const T* dy, const T* x, const T* weight, const float* means, const float* deviations,
              const T* addend, T* dx, float* partials, Index rows) {
    float dweight[ROUNDS][COUNT] = {}, dbias[LAYER ? ROUNDS : 1][COUNT] = {};
    Index stretch = (rows + gridDim.x - 1) / gridDim.x, begin = stretch * blockIdx.x;
    Index end = begin + stretch < rows ? begin + stretch : rows;
    for (Index row = begin; row < end; row++) {
        float normal[ROUNDS][COUNT], slope[ROUNDS][COUNT], slopes = 0, products = 0;
        load_row(x + row * WIDTH, normal);
        load_row(dy + row * WIDTH, slope);
        float mean = LAYER ? means[row] : 0.0f, deviation = deviations[row];
        for (int round = 0; round < ROUNDS; round++) {
            if (column_of(round) >= WIDTH) continue;
            float scale[COUNT];
            load<COUNT>(weight + column_of(round), scale);
            for (int i = 0; i < COUNT; i++) {
                normal[round][i] = (normal[round][i] - mean) * deviation;
                dweight[round][i] += slope[round][i] * normal[round][i];
                if constexpr (LAYER) dbias[round][i] += slope[round][i];
                slope[round][i] *= scale[i];
                slopes += slope[round][i];
                products += slope[round][i] * normal[round][i];
            }
        }
        if constexpr (LAYER) slopes = sum_block(slopes) * (1.0f / WIDTH);
        else slopes = 0;
        products = sum_block(products) * (1.0f / WIDTH);
        for (int round = 0; round < ROUNDS; round++) {
            if (column_of(round) >= WIDTH) continue;
            for (int i = 0; i < COUNT; i++)
                slope[round][i] = deviation * (slope[round][i] - slopes - normal[round][i] * products);
            if constexpr (ADD) {
                float added[COUNT];
                load<COUNT>(addend + row * WIDTH + column_of(round), added);
                for (int i = 0; i < COUNT; i++) slope[round][i] += added[i];
            }
            store<COUNT>(dx + row * WIDTH + column_of(round), slope[round]);
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
