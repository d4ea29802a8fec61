// Copies that change how numbers are stored: from T to S.
//
// Idea: 8 numbers a thread. Bytes: every operand once. FLOPs: none.

extern "C" __global__ void cast(const T* from, S* to, Index elements) {
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (begin + 8 <= elements && is_aligned(from) && is_aligned(to)) {
        float x[8];
        load8(from + begin, x);
        store8(to + begin, x);
    } else {
        for (Index at = begin; at < begin + 8 && at < elements; at++) put(to[at], widen(from[at]));
    }
}
