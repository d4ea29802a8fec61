// Cross-entropy in parts, so that the vocabulary may be split over ranks.
//
// Idea: a block walks along a row of logits, 16 bytes a thread; rows may begin anywhere (vocabularies are odd), so the
// first and last few numbers go one by one. The loss is added up by one block, in double precision.
// Bytes: logits once in each part; the gradient writes as many. FLOPs: 1, 3 and 4 a logit, an exponential among them.

// Calls visit(column) for single numbers and visit_whole(column) for 16 bytes of a row.
template <class One, class Whole>
__device__ __forceinline__ void walk(const T* row, Index width, bool may_be_whole, One visit, Whole visit_whole) {
    constexpr int LANES = Lanes<T>::count;
    Index past = ((unsigned long long)row & 15) / sizeof(T), first = (LANES - past) % LANES;
    if (!may_be_whole || first > width) first = width;
    Index whole = (width - first) / LANES * LANES;
    for (Index column = threadIdx.x; column < first; column += blockDim.x) visit(column);
    for (Index column = first + threadIdx.x * LANES; column < first + whole; column += blockDim.x * LANES) visit_whole(column);
    for (Index column = first + whole + threadIdx.x; column < width; column += blockDim.x) visit(column);
}

extern "C" __global__ void row_max(const T* logits, float* maxima, Index width) {
    constexpr int LANES = Lanes<T>::count;
    const T* row = logits + (Index)blockIdx.x * width;
    float most = -INFINITY;
    walk(row, width, true, [&](Index column) { most = fmaxf(most, widen(row[column])); },
         [&](Index column) {
             float x[LANES];
             load<LANES>(row + column, x);
             for (int i = 0; i < LANES; i++) most = fmaxf(most, x[i]);
         });
    most = join_block<Greater>(most, -INFINITY);
    if (threadIdx.x == 0) maxima[blockIdx.x] = most;
}

extern "C" __global__ void sum_exp(const T* logits, const float* maxima, const int* targets, float* sums, Index first, Index width) {
    constexpr int LANES = Lanes<T>::count;
    const T* row = logits + (Index)blockIdx.x * width;
    float most = maxima[blockIdx.x], sum = 0;
    walk(row, width, true, [&](Index column) { sum += exponential(widen(row[column]) - most); },
         [&](Index column) {
             float x[LANES];
             load<LANES>(row + column, x);
             for (int i = 0; i < LANES; i++) sum += exponential(x[i] - most);
         });
    sum = sum_block(sum);
    if (threadIdx.x == 0) {
        Index target = (Index)targets[blockIdx.x] - first;
        sums[2 * (Index)blockIdx.x] = sum;
        sums[2 * (Index)blockIdx.x + 1] = target >= 0 && target < width ? widen(row[target]) : 0.0f;
    }
}

extern "C" __global__ void cross_entropy(const float* maxima, const float* sums, float* loss, Index rows, double weight, Index adds) {
    double total = 0;
    for (Index row = threadIdx.x; row < rows; row += blockDim.x)
        total += (double)maxima[row] + log((double)sums[2 * row]) - (double)sums[2 * row + 1];
    total = join_block<Sum>(total, 0.0);
    if (threadIdx.x == 0) loss[0] = (float)((adds ? (double)loss[0] : 0.0) + weight * total);
}

extern "C" __global__ void cross_entropy_gradient(const T* logits, const float* maxima, const float* sums, const int* targets,
                                                  T* dlogits, Index first, Index width, double scale) {
    constexpr int LANES = Lanes<T>::count;
    Index start = (Index)blockIdx.x * width, target = (Index)targets[blockIdx.x] - first;
    const T* row = logits + start;
    T* out = dlogits + start;
    float most = maxima[blockIdx.x], factor = (float)scale / sums[2 * (Index)blockIdx.x];
    auto slope = [&](float x, Index column) { return exponential(x - most) * factor - (column == target ? (float)scale : 0.0f); };
    bool may_be_whole = (((unsigned long long)row ^ (unsigned long long)out) & 15) == 0;
    walk(row, width, may_be_whole, [&](Index column) { put(out[column], slope(widen(row[column]), column)); },
         [&](Index column) {
             float x[LANES];
             load<LANES>(row + column, x);
             for (int i = 0; i < LANES; i++) x[i] = slope(x[i], column + i);
             store<LANES>(out + column, x);
         });
}
