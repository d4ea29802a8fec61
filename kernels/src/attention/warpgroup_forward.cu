// Attention by warp groups (warpgroup.cu stands before it): sums of values, and logarithms of the sums of shares.

// Turns scores into shares of a row's greatest so far; `fade` is what brings earlier sums to the same measure.
__device__ __forceinline__ void soften(float (&scores)[ACROSS / 2], float (&fade)[2], float (&most)[2], float (&total)[2], float scale) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float greatest = most[half];
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++) greatest = fmaxf(greatest, fmaxf(scores[n * 4 + 2 * half], scores[n * 4 + 2 * half + 1]));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
        greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
        fade[half] = power_of_two((most[half] - greatest) * scale), most[half] = greatest;
        float sum = 0, shift = greatest * scale;
#pragma unroll
        for (int n = 0; n < ACROSS / 8; n++)
#pragma unroll
            for (int i = n * 4 + 2 * half; i < n * 4 + 2 * half + 2; i++) {
                scores[i] = power_of_two(fmaf(scores[i], scale, -shift));
                sum += scores[i];
            }
        total[half] = total[half] * fade[half] + sum;
    }
}

__device__ __forceinline__ void fade_rows(float (&sums)[HEAD / 2], const float (&fade)[2]) {
#pragma unroll
    for (int i = 0; i < HEAD / 2; i++) sums[i] *= fade[i / 2 % 2];
}

extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
attention_groups(const bf16* qkv, bf16* y, float* lse, Index given_sequence, Index groups, Index queries, double given_scale, Index batch) {
    int sequence = (int)given_sequence, tiles = (sequence + OWN - 1) / OWN, heads = groups * queries, items = tiles * heads * batch;
    DYNAMIC_SHARED(memory);
    Shared<1, 1, 0> shared(memory);
    auto steps_of = [&](const Item& item) {
        int end = (item.tile + 1) * OWN;
        return ((CAUSAL && end < sequence ? end : sequence) + ACROSS - 1) / ACROSS;
    };
    int group = threadIdx.x / 128 - 1;
    if (group < 0) {
        give_registers<LOADER_REGISTERS>();
        load_items(
            shared, items,
            [&](int number, unsigned own) {
                Item item(number, tiles, heads, batch);
                Place place(qkv, sequence, groups, queries, item.head, item.batch);
                begin_tile<OWN, HEAD, 128>(own, place.query, place.row_stride, item.tile * OWN, sequence, threadIdx.x);
            },
            [&](int number, Turn<STAGES>& turn) {
                Item item(number, tiles, heads, batch);
                Place place(qkv, sequence, groups, queries, item.head, item.batch);
                auto load = [&](const bf16* from, int step) {
                    shared.load(turn, [&](unsigned tile) { begin_tile<ACROSS, HEAD, 128>(tile, from, place.row_stride, step * ACROSS, sequence, threadIdx.x); });
                };
                // In the order of use.
                int steps = steps_of(item);
                load(place.key, 0);
                for (int step = 1; step < steps; step++) load(place.key, step), load(place.value, step - 1);
                load(place.value, steps - 1);
            });
        return;
    }
    take_registers<OWNER_REGISTERS>();
    float scale = (float)given_scale * LOG2_E;
    Turn<STAGES> turn;
    Turn<ITEMS> mine;
    if (group == GROUPS - 1) end_turn(group);
    for (;; mine.next()) {
        int number = shared.await_own(mine);
        if (number >= items) break;
        Item item(number, tiles, heads, batch);
        int first = item.tile * OWN + group * 64, steps = steps_of(item);
        unsigned own = shared.own(mine) + group * 64 * 128;
        // Tiles in which this group sees no key are only passed on.
        int seen = CAUSAL && first + 64 < sequence ? min(steps, (first + 64 + ACROSS - 1) / ACROSS) : steps;
        float sums[HEAD / 2], scores[ACROSS / 2], most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0}, fade[2];
#pragma unroll
        for (int i = 0; i < HEAD / 2; i++) sums[i] = 0;
        hold(sums);
        Factors factors;
        auto soften_step = [&](int step) {
            int start = step * ACROSS;
            if (start + ACROSS > sequence || (CAUSAL && start + ACROSS > first + 1)) hide(scores, first, start, sequence);
            soften(scores, fade, most, total, scale);
        };
        shared.await(turn);
        await_turn(group);
        begin_scores(scores, own, shared.stage(turn));
        end_turn(group);
        await_products<0>();
        hold(scores);
        shared.pass(turn);
        turn.next();
        soften_step(0);
        round_all(factors, scores);
        for (int step = 1; step < seen; step++) {
            Turn<STAGES> keys = turn;
            turn.next();
            shared.await(keys);
            await_turn(group);
            begin_scores(scores, own, shared.stage(keys));
            shared.await(turn);
            begin_sums(sums, factors, shared.stage(turn));
            end_turn(group);
            await_products<1>();
            hold(scores);
            shared.pass(keys);
            soften_step(step);
            await_products<0>();
            hold(sums);
            shared.pass(turn);
            turn.next();
            fade_rows(sums, fade);
            round_all(factors, scores);
        }
        if (seen < steps) {
            shared.await(turn);
            shared.pass(turn);
            turn.next();
        }
        shared.await(turn);
        begin_sums(sums, factors, shared.stage(turn));
        await_products<0>();
        hold(sums);
        shared.pass(turn);
        turn.next();
        for (int rest = 2 * seen + 1; rest < 2 * steps; rest++, turn.next()) {
            shared.await(turn);
            shared.pass(turn);
        }
        for (int step = seen; step < steps; step++) await_turn(group), end_turn(group);
        meet<128>(2 + group);
        int lane = threadIdx.x % 32;
        Place place(qkv, sequence, groups, queries, item.head, item.batch);
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[half];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            Index query = first + row_of(2 * half);
            if (lane % 4 == 0 && query < sequence)
                lse[place.statistic + query * (place.query_stride / HEAD)] = most[half] * (float)given_scale + logf(sum);
            factor[half] = 1.0f / sum;
        }
        store_rows(own, sums, factor[0], factor[1], y + place.output, place.query_stride, first, sequence);
        shared.pass_own(mine);
    }
    if (group == 0) await_turn(group);
}
