//! The fastest of the ways in which a library can compute a product, as it is in a long training.
//!
//! Under load power bounds products, not clocks: a way that takes fewer cycles and more power is no faster in the long
//! run, and only the long run is asked for. So ways are first tried a few times each, in random order, and those that
//! are clearly faster then run for as long as it takes power and clocks to settle. Factors are noise, as numbers that
//! are all alike take less power.

use ir::program::{Kernel, Operand};
use ir::seed::{Draws, Seed};
use ir::units::{Bytes, Seconds};
use ir::ways::Way;

use super::Error;
use super::driver::{Event, Memory, Stream};
use super::product::{Factors, Product, WORKSPACE};

/// The device works for so long before anything is timed.
const WARM: Seconds = Seconds(0.02);
/// Rounds of short runs over all ways, and of long ones over those that are left.
const SHORT_ROUNDS: usize = 5;
const LONG_ROUNDS: usize = 2;
/// A long run takes so long twice: first power and clocks settle, then it is timed.
const LONG: Seconds = Seconds(0.1);
/// How many ways are left for long runs, beside the expected one.
const LEFT: usize = 2;
/// Ways that are not faster by this part in short runs were never found to be in long ones.
const SHORT_GAIN: f64 = 0.03;
/// What is not faster by this part in the long run is not worth being remembered.
const GAIN: f64 = 0.01;
/// Noise is made for so many bytes, and then copied.
const NOISE: usize = 8 << 20;

/// The way that is fastest in the long run, of ways that begin with the expected one; none if that is. On memory of its
/// own.
pub(crate) fn fastest(product: &mut Product, ways: &[Way], kernel: &Kernel) -> Result<Option<Way>, Error> {
    if ways.len() < 2 {
        return Ok(None);
    }
    let (bench, mut draws) = (Bench::new(kernel)?, Draws::new(Seed(0)));
    bench.warm(product, ways[0])?;
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..SHORT_ROUNDS {
        let order = shuffled((0..ways.len()).collect(), &mut draws);
        let round = bench.short(product, order.iter().map(|&way| ways[way]))?;
        order.into_iter().zip(round).for_each(|(way, time)| times[way].push(time));
    }
    let short: Vec<Seconds> = times.iter().map(|times| median(times)).collect();
    let mut left: Vec<usize> = (1..ways.len()).filter(|&way| short[way].0 < short[0].0 * (1.0 - SHORT_GAIN)).collect();
    left.sort_by(|&a, &b| short[a].0.total_cmp(&short[b].0));
    left.truncate(LEFT);
    if left.is_empty() {
        return Ok(None);
    }
    left.push(0);
    let mut sums = vec![0.0; ways.len()];
    for _ in 0..LONG_ROUNDS {
        for way in shuffled(left.clone(), &mut draws) {
            sums[way] += bench.long(product, (ways[way], short[way]))?.0;
        }
    }
    let best = left.into_iter().min_by(|&a, &b| sums[a].total_cmp(&sums[b])).expect("some are left");
    Ok((sums[best] < sums[0] * (1.0 - GAIN)).then_some(ways[best]))
}

fn shuffled(mut order: Vec<usize>, draws: &mut Draws) -> Vec<usize> {
    for last in (1..order.len()).rev() {
        order.swap(last, draws.below(last as u64 + 1) as usize);
    }
    order
}

fn median(times: &[Seconds]) -> Seconds {
    let mut times = times.to_vec();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    times[times.len() / 2]
}

/// Memory and a stream to try a product on.
struct Bench {
    stream: Stream,
    at: Factors,
    /// Keeps what lies at these addresses.
    _memory: Vec<Memory>,
}

impl Bench {
    fn new(kernel: &Kernel) -> Result<Bench, Error> {
        let [a, b, result] = [&kernel.inputs[0], &kernel.inputs[1], &kernel.outputs[0].operand];
        let stream = Stream::new()?;
        let noise = noise();
        let mut memory = Vec::new();
        let mut place = |bytes: Bytes| {
            let place = Memory::new(bytes)?;
            fill(&stream, &place, &noise)?;
            let address = place.address();
            memory.push(place);
            Ok::<u64, Error>(address)
        };
        let mut of = |operand: &Operand| place(operand.bytes());
        let (first, second, to) = (of(a)?, of(b)?, of(result)?);
        let addend = kernel.addend().map_or(Ok(to), of)?;
        let at = Factors { a: first, b: second, result: to, addend, workspace: place(Bytes(WORKSPACE))? };
        stream.synchronize()?;
        Ok(Bench { stream, at, _memory: memory })
    }

    fn warm(&self, product: &mut Product, way: Way) -> Result<(), Error> {
        let once = self.short(product, [way, way].into_iter())?[1];
        product.turn_to(way);
        for _ in 0..(WARM.0 / once.0.max(1e-6)) as usize {
            product.launch(&self.stream, self.at)?;
        }
        self.stream.synchronize()
    }

    /// The time of each of some ways, one after the other, each behind a run of its own that is not timed.
    fn short(&self, product: &mut Product, ways: impl Iterator<Item = Way>) -> Result<Vec<Seconds>, Error> {
        let mut events = Vec::new();
        for way in ways {
            let (begin, end) = (Event::new(0)?, Event::new(0)?);
            product.turn_to(way);
            product.launch(&self.stream, self.at)?;
            begin.record(&self.stream)?;
            product.launch(&self.stream, self.at)?;
            end.record(&self.stream)?;
            events.push((begin, end));
        }
        self.stream.synchronize()?;
        events.into_iter().map(|(begin, end)| end.since(&begin)).collect()
    }

    /// The time of a way that takes about so long, when it has run for a while.
    fn long(&self, product: &mut Product, (way, once): (Way, Seconds)) -> Result<Seconds, Error> {
        let count = (LONG.0 / once.0.max(1e-6)).ceil() as usize;
        let (begin, end) = (Event::new(0)?, Event::new(0)?);
        product.turn_to(way);
        for turn in 0..2 * count {
            if turn == count {
                begin.record(&self.stream)?;
            }
            product.launch(&self.stream, self.at)?;
        }
        end.record(&self.stream)?;
        self.stream.synchronize()?;
        Ok(end.since(&begin)? * (1.0 / count as f64))
    }
}

/// Numbers between 1/8 and 2 of either sign, in bf16; two of them are a number in f32 of that size, too.
fn noise() -> Vec<u8> {
    let mut draws = Draws::new(Seed(1));
    let number = |bits: u64| ((bits & 0x8000) | (124 + (bits >> 7 & 3)) << 7 | (bits & 0x7f)) as u16;
    let words = (0..NOISE / 8).flat_map(|_| {
        let bits = draws.below(u64::MAX);
        [0, 16, 32, 48].map(|shift| number(bits >> shift & 0xffff))
    });
    words.flat_map(u16::to_le_bytes).collect()
}

/// Noise all over; what is copied doubles each time.
fn fill(stream: &Stream, memory: &Memory, noise: &[u8]) -> Result<(), Error> {
    let (at, bytes) = (memory.address(), memory.bytes().0);
    let mut done = bytes.min(noise.len() as u64);
    stream.upload(at, &noise[..done as usize])?;
    while done < bytes {
        let more = done.min(bytes - done);
        stream.copy(at + done, at, Bytes(more))?;
        done += more;
    }
    stream.synchronize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_of_moderate_size_in_both_forms() {
        let noise = noise();
        assert_eq!(noise.len(), NOISE);
        let mut signs = [0, 0];
        for pair in noise.chunks_exact(4).take(1000) {
            let single = f32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
            let half = f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
            assert!([single, half].iter().all(|x| (0.125..=2.0).contains(&x.abs())), "{single} {half}");
            signs[usize::from(half < 0.0)] += 1;
        }
        assert!(signs.iter().all(|&count| count > 400), "{signs:?}");
    }
}
