// Gradients of attention by warp groups (warpgroup.cu stands before it).
//
// The compiler gets KEYS or QUERIES too: whose gradients, and who owns rows.

#ifdef KEYS
// Gradients of keys and values. The other side is queries.
extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
attention_groups_keys(const bf16* dy, const bf16* qkv, const float* lse, const float* offsets, bf16* dqkv, Index given_sequence,
                      Index groups, Index queries, double given_scale, Index batch) {
    int sequence = (int)given_sequence, own_tiles = (sequence + OWN - 1) / OWN, items = own_tiles * groups * batch;
    DYNAMIC_SHARED(memory);
    Shared<2, 2, 2 * ACROSS> shared(memory);
    // Earlier keys are seen by more queries.
    auto first_of = [&](const Item& item) { return (CAUSAL ? own_tiles - 1 - item.tile : item.tile) * OWN; };
    auto start_of = [&](int first) { return CAUSAL ? first / ACROSS * ACROSS : 0; };
    int group = threadIdx.x / 128 - 1;
    if (group < 0) {
        give_registers<LOADER_REGISTERS>();
        load_items(
            shared, items,
            [&](int number, unsigned own) {
                Item item(number, own_tiles, groups, batch);
                Place place(qkv, sequence, groups, queries, item.head * queries, item.batch);
                int first = first_of(item);
                begin_tile<OWN, HEAD, 128>(own, place.key, place.row_stride, first, sequence, threadIdx.x);
                begin_tile<OWN, HEAD, 128>(own + OWN_TILE, place.value, place.row_stride, first, sequence, threadIdx.x);
            },
            [&](int number, Turn<STAGES>& turn) {
                Item item(number, own_tiles, groups, batch);
                Place place(qkv, sequence, groups, queries, item.head * queries, item.batch);
                for (int slot = 0; slot < queries; slot++)
                    for (int start = start_of(first_of(item)); start < sequence; start += ACROSS) {
                        unsigned words = shared.extra + turn.slot * 2 * ACROSS * 4;
                        shared.load(turn, [&](unsigned tile) {
                            begin_tile<ACROSS, HEAD, 128>(tile, place.query + slot * HEAD, place.row_stride, start, sequence, threadIdx.x);
                            begin_tile<ACROSS, HEAD, 128>(tile + TILE, dy + place.output + slot * HEAD, place.query_stride, start, sequence, threadIdx.x);
                            // Past the end all is zero, and so are all products.
                            for (int i = threadIdx.x; i < 2 * ACROSS; i += 128) {
                                bool is_inside = start + i % ACROSS < sequence;
                                Index at = place.statistic + slot + (is_inside ? start + i % ACROSS : 0) * (place.query_stride / HEAD);
                                begin_number(words + i * 4, (i < ACROSS ? lse : offsets) + at, is_inside);
                            }
                        });
                    }
            });
        return;
    }
    take_registers<OWNER_REGISTERS>();
    float scale = (float)given_scale * LOG2_E;
    Turn<STAGES> turn;
    Turn<ITEMS> mine;
    for (;; mine.next()) {
        int number = shared.await_own(mine);
        if (number >= items) break;
        Item item(number, own_tiles, groups, batch);
        int first = first_of(item), start_of_all = start_of(first), tiles = (sequence - start_of_all + ACROSS - 1) / ACROSS;
        first += group * 64;
        unsigned own = shared.own(mine) + group * 64 * 128;
        float dkeys[HEAD / 2], dvalues[HEAD / 2];
#pragma unroll
        for (int i = 0; i < HEAD / 2; i++) dkeys[i] = dvalues[i] = 0;
        hold(dkeys);
        hold(dvalues);
        Factors factors, dfactors;
        Turn<STAGES> before = turn;
        int start = start_of_all;
        for (int step = 0; step < tiles * (int)queries; step++, turn.next()) {
            unsigned query_tile = shared.stage(turn), dy_tile = query_tile + TILE;
            shared.await(turn);
            float scores[ACROSS / 2], dscores[ACROSS / 2];
            begin_scores(scores, own, query_tile);
            begin_scores(dscores, own + OWN_TILE, dy_tile);
            await_products<1>();
            hold(scores);
            // What this group began before is over, too.
            if (step > 0) {
                shared.pass(before);
                before.next();
            }
            const float* words = shared.extra_words + turn.slot * 2 * ACROSS;
            if (CAUSAL && start < first + 63) {
                int ahead = first - start;
#pragma unroll
                for (int i = 0; i < ACROSS / 2; i++)
                    if (column_of(i) < ahead + row_of(i)) scores[i] = -INFINITY;
            }
            start = start + ACROSS < sequence ? start + ACROSS : start_of_all;
#pragma unroll
            for (int n = 0; n < ACROSS / 8; n++) {
                float2 shift = *(const float2*)(words + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
                for (int i = n * 4; i < n * 4 + 4; i++)
                    scores[i] = power_of_two(fmaf(scores[i], scale, (i % 2 ? shift.y : shift.x) * -LOG2_E));
            }
            round_all(factors, scores);
            begin_sums(dvalues, factors, dy_tile);
            await_products<1>();
            hold(dscores);
#pragma unroll
            for (int n = 0; n < ACROSS / 8; n++) {
                float2 offset = *(const float2*)(words + ACROSS + n * 8 + threadIdx.x % 4 * 2);
#pragma unroll
                for (int i = n * 4; i < n * 4 + 4; i++) dscores[i] = scores[i] * (dscores[i] - (i % 2 ? offset.y : offset.x));
            }
            round_all(dfactors, dscores);
            begin_sums(dkeys, dfactors, query_tile);
            // Larger heads leave no registers for what is under way.
            if (HEAD > 64) await_products<0>();
        }
        await_products<0>();
        hold(dkeys);
        hold(dvalues);
        shared.pass(before);
        meet<128>(2 + group);
        Place place(qkv, sequence, groups, queries, item.head * queries, item.batch);
        store_rows(own, dkeys, (float)given_scale, (float)given_scale, dqkv + (place.key - qkv), place.row_stride, first, sequence);
        store_rows(own + OWN_TILE, dvalues, 1.0f, 1.0f, dqkv + (place.value - qkv), place.row_stride, first, sequence);
        shared.pass_own(mine);
    }
}
#endif

#ifdef QUERIES
// Gradients of queries. The other side is keys.
extern "C" __global__ void __launch_bounds__((GROUPS + 1) * 128, 1)
attention_groups_queries(const bf16* dy, const bf16* qkv, const float* lse, const float* offsets, bf16* dqkv, Index given_sequence,
                         Index groups, Index queries, double given_scale, Index batch) {
    int sequence = (int)given_sequence, tiles = (sequence + OWN - 1) / OWN, heads = groups * queries, items = tiles * heads * batch;
    DYNAMIC_SHARED(memory);
    Shared<2, 2, 0> shared(memory);
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
                int first = item.tile * OWN;
                begin_tile<OWN, HEAD, 128>(own, place.query, place.row_stride, first, sequence, threadIdx.x);
                begin_tile<OWN, HEAD, 128>(own + OWN_TILE, dy + place.output, place.query_stride, first, sequence, threadIdx.x);
            },
            [&](int number, Turn<STAGES>& turn) {
                Item item(number, tiles, heads, batch);
                Place place(qkv, sequence, groups, queries, item.head, item.batch);
                int steps = steps_of(item);
                for (int step = 0; step < steps; step++)
                    shared.load(turn, [&](unsigned tile) {
                        begin_tile<ACROSS, HEAD, 128>(tile, place.key, place.row_stride, step * ACROSS, sequence, threadIdx.x);
                        begin_tile<ACROSS, HEAD, 128>(tile + TILE, place.value, place.row_stride, step * ACROSS, sequence, threadIdx.x);
                    });
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
        Place place(qkv, sequence, groups, queries, item.head, item.batch);
        float shift[2], offset[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Index query = first + row_of(2 * half), at = place.statistic + query * (place.query_stride / HEAD);
            shift[half] = query < sequence ? lse[at] * LOG2_E : INFINITY;
            offset[half] = query < sequence ? offsets[at] : 0.0f;
        }
        float dqueries[HEAD / 2];
#pragma unroll
        for (int i = 0; i < HEAD / 2; i++) dqueries[i] = 0;
        hold(dqueries);
        Factors factors;
        Turn<STAGES> before = turn;
        for (int step = 0; step < steps; step++, turn.next()) {
            unsigned key_tile = shared.stage(turn);
            int start = step * ACROSS;
            shared.await(turn);
            float scores[ACROSS / 2], dscores[ACROSS / 2];
            await_turn(group);
            begin_scores(scores, own, key_tile);
            begin_scores(dscores, own + OWN_TILE, key_tile + TILE);
            end_turn(group);
            await_products<1>();
            hold(scores);
            if (step > 0) {
                shared.pass(before);
                before.next();
            }
            if (start + ACROSS > sequence || (CAUSAL && start + ACROSS > first + 1)) hide(scores, first, start, sequence);
#pragma unroll
            for (int i = 0; i < ACROSS / 2; i++) scores[i] = power_of_two(fmaf(scores[i], scale, -shift[i / 2 % 2]));
            await_products<0>();
            hold(dscores);
#pragma unroll
            for (int i = 0; i < ACROSS / 2; i++) dscores[i] = scores[i] * (dscores[i] - offset[i / 2 % 2]);
            round_all(factors, dscores);
            begin_sums(dqueries, factors, key_tile);
        }
        await_products<0>();
        hold(dqueries);
        shared.pass(before);
        meet<128>(2 + group);
        store_rows(own, dqueries, (float)given_scale, (float)given_scale, dqkv + (place.query - qkv), place.row_stride, first, sequence);
        shared.pass_own(mine);
    }
    if (group == 0) await_turn(group);
}
#endif
