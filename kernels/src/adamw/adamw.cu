// Adam with decoupled weight decay and clipping by the global norm.
//
// Idea: one pass over parameters, gradients and moments, 16 bytes of each a thread; what changes from step to step
// is read from memory, so that a recorded step can be played again. A copy of the parameters in bf16 is written beside.
// `Constants` is declared in `mod.rs`.
// Bytes: 4 * (4 + 3) an element, 2 more for the copy. FLOPs: about 14 an element.
//
// The compiler gets COPY: 1 if there is a copy.

struct Constants {
    float keep, rate, root_scale, beta1, beta2, rest1, rest2, epsilon, gradient_norm_max;
};

__device__ __forceinline__ void update_at(const Constants& c, float coefficient, float& w, float g, float& m, float& v, float keep) {
    g *= coefficient;
    m = c.beta1 * m + c.rest1 * g;
    v = c.beta2 * v + c.rest2 * g * g;
    w = w * keep - c.rate * m / (sqrtf(v) * c.root_scale + c.epsilon);
}

extern "C" __global__ void adamw(const float* weights, const float* gradients, const float* means, const float* squares,
                                 const float* square_norm, const Constants* constants, float* weights_after,
                                 float* means_after, float* squares_after, bf16* copy, Index elements, Index decayed,
                                 Index end) {
    Constants c = *constants;
    float norm = sqrtf(*square_norm);
    float coefficient = norm > c.gradient_norm_max ? c.gradient_norm_max / norm : 1.0f;
    Index begin = ((Index)blockIdx.x * blockDim.x + threadIdx.x) * 4;
    bool is_whole = begin + 4 <= elements && is_aligned(weights) && is_aligned(gradients) && is_aligned(means) &&
                    is_aligned(squares) && is_aligned(weights_after) && is_aligned(means_after) && is_aligned(squares_after);
    float w[4] = {}, g[4] = {}, m[4] = {}, v[4] = {};
    if (is_whole) load4(weights + begin, w), load4(gradients + begin, g), load4(means + begin, m), load4(squares + begin, v);
    else
        for (int i = 0; i < 4; i++)
            if (begin + i < elements)
                w[i] = weights[begin + i], g[i] = gradients[begin + i], m[i] = means[begin + i], v[i] = squares[begin + i];
    // Elements from `end` on are padding and stay as they are.
    for (int i = 0; i < 4; i++)
        if (begin + i < end) update_at(c, coefficient, w[i], g[i], m[i], v[i], begin + i < decayed ? c.keep : 1.0f);
    if (is_whole) store4(weights_after + begin, w), store4(means_after + begin, m), store4(squares_after + begin, v);
    else
        for (int i = 0; i < 4; i++)
            if (begin + i < elements)
                weights_after[begin + i] = w[i], means_after[begin + i] = m[i], squares_after[begin + i] = v[i];
    if constexpr (COPY) {
        if (is_whole && is_aligned(copy)) store4(copy + begin, w);
        else
            for (int i = 0; i < 4; i++)
                if (begin + i < elements) put(copy[begin + i], w[i]);
    }
}
