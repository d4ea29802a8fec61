//! Scratch
use crate::place::*;

pub(crate) struct Slots { pub bytes: Vec<u64>, pub of: Vec<u32> }

fn by_end(l: &[Lifetime]) -> Vec<u32> {
    let mut v: Vec<u32> = (0..l.len() as u32).collect();
    v.sort_by_key(|&i| l[i as usize].end);
    v
}

pub(crate) fn slots(l: &[Lifetime], key: &dyn Fn(&Lifetime) -> (u64, u32)) -> Slots {
    let ends = by_end(l);
    let mut next = 0;
    let mut pools: std::collections::BTreeMap<(u64, u32), Vec<u32>> = Default::default();
    let mut s = Slots { bytes: vec![], of: vec![0; l.len()] };
    for (i, x) in l.iter().enumerate() {
        while next < ends.len() && l[ends[next] as usize].end < x.start {
            let j = ends[next] as usize;
            let p = pools.get_mut(&key(&l[j])).unwrap();
            p.push(s.of[j]);
            next += 1;
        }
        let p = pools.entry(key(x)).or_default();
        // lowest
        if let Some(at) = (0..p.len()).min_by_key(|&a| p[a]) { s.of[i] = p.swap_remove(at); }
        else { s.bytes.push(x.bytes); s.of[i] = s.bytes.len() as u32 - 1; }
    }
    s
}

pub(crate) fn place_slots(l: &[Lifetime], key: &dyn Fn(&Lifetime) -> (u64, u32)) -> (u64, usize) {
    let s = slots(l, key);
    let n = s.bytes.len();
    let w = n.div_ceil(64);
    let mut active = vec![0u64; w];
    let mut rows = vec![0u64; w * n];
    let ends = by_end(l);
    let mut next = 0;
    for (i, x) in l.iter().enumerate() {
        while next < ends.len() && l[ends[next] as usize].end < x.start {
            let j = s.of[ends[next] as usize] as usize;
            active[j / 64] &= !(1 << (j % 64));
            next += 1;
        }
        let c = s.of[i] as usize;
        for k in 0..w { rows[c * w + k] |= active[k]; }
        active[c / 64] |= 1 << (c % 64);
    }
    let conflict = |a: usize, b: usize| rows[a * w + b / 64] >> (b % 64) & 1 == 1 || rows[b * w + a / 64] >> (a % 64) & 1 == 1;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(s.bytes[i]), i));
    let mut placed: Vec<(u64, u64, usize)> = vec![];
    let mut size = 0;
    for i in order {
        let mut a = 0;
        for &(x, y, j) in &placed {
            if x >= a + s.bytes[i] { break; }
            if y > a && conflict(i, j) { a = y; }
        }
        let e = (a, a + s.bytes[i], i);
        size = size.max(e.1);
        let at = placed.partition_point(|o| *o < e);
        placed.insert(at, e);
    }
    (size, n)
}
