// The weighted sum of squares, added to a number.
//
// Idea: blocks sum stretches in double precision, and one block adds their sums in order.
// Bytes: x once. FLOPs: 2 an element, in double precision: at 4 bytes each, memory still bounds it.

extern "C" __global__ void square_sum(const T* x, double* partials, Index elements) {
    constexpr int LANES = Lanes<T>::count;
    Index stride = (Index)gridDim.x * blockDim.x * LANES;
    Index whole = is_aligned(x) ? elements / LANES * LANES : 0;
    double sum = 0;
    for (Index at = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * LANES; at < whole; at += stride) {
        float values[LANES];
        load<LANES>(x + at, values);
        for (int i = 0; i < LANES; i++) sum += (double)values[i] * values[i];
    }
    for (Index at = whole + (Index)blockIdx.x * blockDim.x + threadIdx.x; at < elements; at += stride / LANES)
        sum += (double)widen(x[at]) * widen(x[at]);
    sum = join_block<Sum>(sum, 0.0);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

extern "C" __global__ void square_sum_finish(const double* partials, float* total, Index count, double weight, Index adds) {
    double sum = 0;
    for (Index i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
    sum = join_block<Sum>(sum, 0.0);
    if (threadIdx.x == 0) total[0] = (float)((adds ? (double)total[0] : 0.0) + weight * sum);
}
