// Rotary positions on packed rows [b s g c d].
//
// Idea: a block turns as many rows as there are threads for their pairs: each thread computes the sine and cosine of
// one pair, which all heads of its row share. Angles are reduced to turns in double precision, as a float has no
// fraction left where positions are many.
// Bytes: x and y once. FLOPs: 3 an element.
//
// Blocks have THREADS threads and ROWS rows; a head has HEAD numbers, a row SLOTS heads. Every QUERIES + 2nd of them is
// a value, which is not turned.

constexpr int LANES = Lanes<T>::count, PAIRS = HEAD / 2;
constexpr int COUNT = PAIRS % LANES == 0 ? LANES : 1, PARTS = PAIRS / COUNT;

template <int count>
__device__ __forceinline__ void turn(const T* x, T* y, const float* cosines, const float* sines, bool is_value) {
    float left[count], right[count];
    load<count>(x, left);
    load<count>(x + PAIRS, right);
    if (!is_value)
        for (int i = 0; i < count; i++) {
            float before = left[i];
            left[i] = before * cosines[i] - right[i] * sines[i];
            right[i] = right[i] * cosines[i] + before * sines[i];
        }
    store<count>(y, left);
    store<count>(y + PAIRS, right);
}

extern "C" __global__ void __launch_bounds__(THREADS)
rotary(const T* x, T* y, Index rows, Index sequence, Index first, double base_exponent, double direction) {
    __shared__ float cosines[ROWS * PAIRS], sines[ROWS * PAIRS];
    Index begin = (Index)blockIdx.x * ROWS;
    for (int i = threadIdx.x; i < ROWS * PAIRS; i += THREADS) {
        // base_exponent is the binary logarithm of the base.
        Index position = first + (begin + i / PAIRS) % sequence;
        double turns = (double)position * exp2(-base_exponent * (double)(i % PAIRS) / (double)PAIRS) * 0.15915494309189535;
        float sine, cosine;
        sincospif(2.0f * (float)(turns - rint(turns)), &sine, &cosine);
        cosines[i] = cosine;
        sines[i] = sine * (float)direction;
    }
    __syncthreads();
    bool is_whole = is_aligned(x) && is_aligned(y);
    int count = rows - begin < ROWS ? (int)(rows - begin) : ROWS;
    for (int work = threadIdx.x; work < count * SLOTS * PARTS; work += THREADS) {
        int head = work / PARTS, angle = head / SLOTS * PAIRS + work % PARTS * COUNT;
        Index at = (begin * SLOTS + head) * HEAD + work % PARTS * COUNT;
        bool is_value = head % SLOTS % (QUERIES + 2) == QUERIES + 1;
        if (is_whole) turn<COUNT>(x + at, y + at, cosines + angle, sines + angle, is_value);
        else
            for (int i = 0; i < COUNT; i++) turn<1>(x + at + i, y + at + i, cosines + angle + i, sines + angle + i, is_value);
    }
}
