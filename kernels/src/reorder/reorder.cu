// Copies runs of bytes from places at regular distances to places at other ones.
//
// Idea: a thread moves a word at a time, of as many bytes as runs and distances allow. Bytes: every run twice.

#if WORD == 16
typedef uint4 Word;
#elif WORD == 4
typedef unsigned Word;
#else
typedef unsigned short Word;
#endif

extern "C" __global__ void reorder(const Word* from, Word* to, Index first, Index words, Index run, Index inner,
                                   Index from_outer, Index from_inner, Index to_outer, Index to_inner) {
    Index step = (Index)gridDim.x * blockDim.x;
    for (Index at = (Index)blockIdx.x * blockDim.x + threadIdx.x; at < words; at += step) {
        // Fewer than 2^32 words: division of 64 bits would take longer than the copy.
        unsigned row = (unsigned)at / (unsigned)run, word = (unsigned)at % (unsigned)run;
        Index i = row / (unsigned)inner, j = row % (unsigned)inner;
        to[i * to_outer + j * to_inner + word] = from[first + i * from_outer + j * from_inner + word];
    }
}
