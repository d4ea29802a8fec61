// a + b; the result may be either of them.
//
// Idea: 16 bytes of each operand a thread. Bytes: every operand once. FLOPs: one an element.

template <int count>
__device__ void add_at(const T* a, const T* b, T* y, Index at) {
    float left[count], right[count];
    load<count>(a + at, left);
    load<count>(b + at, right);
    for (int i = 0; i < count; i++) left[i] += right[i];
    store<count>(y + at, left);
}

extern "C" __global__ void add(const T* a, const T* b, T* y, Index elements) {
    constexpr int LANES = Lanes<T>::count;
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    if (begin + LANES <= elements && is_aligned(a) && is_aligned(b) && is_aligned(y)) add_at<LANES>(a, b, y, begin);
    else
        for (Index at = begin; at < begin + LANES && at < elements; at++) add_at<1>(a, b, y, at);
}
