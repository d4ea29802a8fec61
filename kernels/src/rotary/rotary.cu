// Rotary positions on packed rows [b s g c d].
//
// Idea: a block turns one position: it computes the sine and cosine of each pair once, for all heads. Angles are
// reduced to turns in double precision, as a float has no fraction left where positions are many.
// Bytes: x and y once. FLOPs: 3 an element.

extern "C" __global__ void rotary(const T* x, T* y, Index sequence, Index slots, Index queries, Index head,
                                  Index first, double base_exponent, double direction) {
    constexpr int LANES = Lanes<T>::count;
    __shared__ float cosines[512], sines[512];
    Index pairs = head / 2, position = blockIdx.x % sequence, row = (Index)blockIdx.x * slots * head;
    for (Index i = threadIdx.x; i < pairs; i += blockDim.x) {
        // base_exponent is the binary logarithm of the base.
        double turns = (double)(first + position) * exp2(-base_exponent * (double)(2 * i) / (double)head) * 0.15915494309189535;
        float sine, cosine;
        sincospif(2.0f * (float)(turns - rint(turns)), &sine, &cosine);
        cosines[i] = cosine;
        sines[i] = sine * (float)direction;
    }
    __syncthreads();
    bool is_whole = pairs % LANES == 0 && is_aligned(x) && is_aligned(y);
    int count = is_whole ? LANES : 1;
    Index groups_of_pairs = pairs / count, all = slots * groups_of_pairs;
    for (Index work = threadIdx.x; work < all; work += blockDim.x) {
        Index slot = work / groups_of_pairs, pair = work % groups_of_pairs * count;
        Index at = row + slot * head + pair;
        // Every group ends with a value, which is not turned.
        bool is_value = slot % (queries + 2) == queries + 1;
        float left[LANES] = {}, right[LANES] = {};
        if (is_whole) {
            load<LANES>(x + at, left);
            load<LANES>(x + at + pairs, right);
        } else {
            left[0] = widen(x[at]);
            right[0] = widen(x[at + pairs]);
        }
        if (!is_value)
            for (int i = 0; i < LANES; i++) {
                if (i >= count) break;
                float cosine = cosines[pair + i], sine = sines[pair + i], before = left[i];
                left[i] = before * cosine - right[i] * sine;
                right[i] = right[i] * cosine + before * sine;
            }
        if (is_whole) {
            store<LANES>(y + at, left);
            store<LANES>(y + at + pairs, right);
        } else {
            put(y[at], left[0]);
            put(y[at + pairs], right[0]);
        }
    }
}
