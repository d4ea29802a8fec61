// A bias added to rows, and the sum over rows that is its gradient.
//
// Idea: a thread keeps its columns of the bias and walks down the rows. The gradient is summed in two stages: a tile
// of 32 threads by 8 sums a stretch of rows, then stretches are added in order.
// Bytes: forward x and y once. Gradient: dy once, and the partial sums twice. FLOPs: one an element.

template <int count>
__device__ void add_bias(const T* x, const T* bias, T* y, Index rows, Index width) {
    Index column = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * count;
    if (column >= width) return;
    float shift[count];
    load<count>(bias + column, shift);
    for (Index row = blockIdx.y; row < rows; row += gridDim.y) {
        float values[count];
        load<count>(x + row * width + column, values);
        for (int i = 0; i < count; i++) values[i] += shift[i];
        store<count>(y + row * width + column, values);
    }
}

// 16 bytes a thread, or one column where the width or an address does not allow more: the caller's grid knows.
extern "C" __global__ void bias_wide(const T* x, const T* bias, T* y, Index rows, Index width) {
    add_bias<Lanes<T>::count>(x, bias, y, rows, width);
}

extern "C" __global__ void bias_narrow(const T* x, const T* bias, T* y, Index rows, Index width) {
    add_bias<1>(x, bias, y, rows, width);
}

// `count` columns a thread; the blocks down the grid take stretches of rows.
template <int count>
__device__ void sum_rows(const T* dy, float* partials, float* dbias, Index rows, Index width, Index adds) {
    __shared__ float parts[8][32 * count + 1];
    int x = threadIdx.x % 32, y = threadIdx.x / 32;
    Index column = ((Index)blockIdx.x * 32 + x) * count;
    Index stretch = (rows + gridDim.y - 1) / gridDim.y, begin = stretch * blockIdx.y;
    Index end = begin + stretch < rows ? begin + stretch : rows;
    float sums[count] = {};
    if (column < width)
        for (Index row = begin + y; row < end; row += 8) {
            float values[count];
            load<count>(dy + row * width + column, values);
            for (int i = 0; i < count; i++) sums[i] += values[i];
        }
    for (int i = 0; i < count; i++) parts[y][x * count + i] = sums[i];
    __syncthreads();
    for (int i = threadIdx.x; i < 32 * count; i += 256) {
        Index at = (Index)blockIdx.x * 32 * count + i;
        if (at >= width) break;
        float sum = 0;
        for (int part = 0; part < 8; part++) sum += parts[part][i];
        if (gridDim.y > 1) partials[blockIdx.y * width + at] = sum;
        else dbias[at] = adds ? dbias[at] + sum : sum;
    }
}

extern "C" __global__ void bias_gradient_wide(const T* dy, float* partials, float* dbias, Index rows, Index width, Index adds) {
    sum_rows<Lanes<T>::count>(dy, partials, dbias, rows, width, adds);
}

extern "C" __global__ void bias_gradient_narrow(const T* dy, float* partials, float* dbias, Index rows, Index width, Index adds) {
    sum_rows<1>(dy, partials, dbias, rows, width, adds);
}

extern "C" __global__ void bias_gradient_finish(const float* partials, float* dbias, Index count, Index width, Index adds) {
    sum_partials(partials, count, width, dbias, adds);
}
