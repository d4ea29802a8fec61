// Activations of the feed-forward block and their gradients, element by element.
//
// Idea: 16 bytes of each operand a thread, so that many loads are under way at once.
// Bytes: every operand once. FLOPs: about 10 an element; memory bounds it.

constexpr float GELU_SCALE = 1.5957691216057309f, GELU_CUBE = 0.044715f;

struct Gelu {
    static __device__ __forceinline__ float of(float x) {
        return x * sigmoid(GELU_SCALE * x * (GELU_CUBE * x * x + 1.0f));
    }
};

template <int count>
__device__ void gelu_at(const T* x, T* y, Index at) {
    float values[count];
    load<count>(x + at, values);
    for (int i = 0; i < count; i++) values[i] = Gelu::of(values[i]);
    store<count>(y + at, values);
}

template <int count>
__device__ void gelu_gradient_at(const T* dy, const T* x, T* dx, Index at) {
    float values[count], slopes[count];
    load<count>(x + at, values);
    load<count>(dy + at, slopes);
    for (int i = 0; i < count; i++) {
        float v = values[i], gate = sigmoid(GELU_SCALE * v * (GELU_CUBE * v * v + 1.0f));
        float slope = GELU_SCALE * (3.0f * GELU_CUBE * v * v + 1.0f);
        slopes[i] *= v * gate * (1.0f - gate) * slope + gate;
    }
    store<count>(dx + at, slopes);
}

// Threads for 16 bytes each; what is left over, or not aligned, goes one by one.
extern "C" __global__ void gelu(const T* x, T* y, Index elements) {
    constexpr int LANES = Lanes<T>::count;
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    if (begin + LANES <= elements && is_aligned(x) && is_aligned(y)) gelu_at<LANES>(x, y, begin);
    else
        for (Index at = begin; at < begin + LANES && at < elements; at++) gelu_at<1>(x, y, at);
}

extern "C" __global__ void gelu_gradient(const T* dy, const T* x, T* dx, Index elements) {
    constexpr int LANES = Lanes<T>::count;
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    if (begin + LANES <= elements && is_aligned(x) && is_aligned(dy) && is_aligned(dx))
        gelu_gradient_at<LANES>(dy, x, dx, begin);
    else
        for (Index at = begin; at < begin + LANES && at < elements; at++) gelu_gradient_at<1>(dy, x, dx, at);
}

template <int count>
__device__ void swiglu_at(const T* gates, const T* ups, T* y) {
    float gate[count], up[count];
    load<count>(gates, gate);
    load<count>(ups, up);
    for (int i = 0; i < count; i++) gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
    store<count>(y, gate);
}

template <int count>
__device__ void swiglu_gradient_at(const T* slopes, const T* gates, const T* ups, T* dgates, T* dups) {
    float gate[count], up[count], slope[count];
    load<count>(gates, gate);
    load<count>(ups, up);
    load<count>(slopes, slope);
    for (int i = 0; i < count; i++) {
        float open = sigmoid(gate[i]), dy = slope[i];
        slope[i] = dy * up[i] * open * (gate[i] * (1.0f - open) + 1.0f);
        up[i] = dy * gate[i] * open;
    }
    store<count>(dgates, slope);
    store<count>(dups, up);
}

// Threads for 16 bytes of a row, rows down the grid.
extern "C" __global__ void swiglu(const T* x, T* y, Index rows, Index width) {
    constexpr int LANES = Lanes<T>::count;
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    bool is_whole = width % LANES == 0 && is_aligned(x) && is_aligned(y);
    for (Index row = blockIdx.y; row < rows; row += gridDim.y) {
        const T* gates = x + row * 2 * width;
        T* out = y + row * width;
        if (is_whole && begin < width) swiglu_at<LANES>(gates + begin, gates + width + begin, out + begin);
        if (!is_whole)
            for (Index at = begin; at < begin + LANES && at < width; at++)
                swiglu_at<1>(gates + at, gates + width + at, out + at);
    }
}

extern "C" __global__ void swiglu_gradient(const T* dy, const T* x, T* dx, Index rows, Index width) {
    constexpr int LANES = Lanes<T>::count;
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    bool is_whole = width % LANES == 0 && is_aligned(x) && is_aligned(dy) && is_aligned(dx);
    for (Index row = blockIdx.y; row < rows; row += gridDim.y) {
        const T *gates = x + row * 2 * width, *slopes = dy + row * width;
        T* out = dx + row * 2 * width;
        if (is_whole && begin < width)
            swiglu_gradient_at<LANES>(slopes + begin, gates + begin, gates + width + begin, out + begin, out + width + begin);
        if (!is_whole)
            for (Index at = begin; at < begin + LANES && at < width; at++)
                swiglu_gradient_at<1>(slopes + at, gates + at, gates + width + at, out + at, out + width + at);
    }
}
