//! Each thing that `Programs::verified` promises, on a program of two roles that is broken line by line; and random
//! programs, judged a second time by the definition of happens-before.

mod common;

use std::collections::BTreeSet;

use common::Random;
use hetu_ir::program::Programs;
use hetu_ir::text;
use hetu_ir::units::Bytes;

const GOOD: &str = include_str!("cases/two-roles.txt");

fn violations(text: &str) -> Vec<String> {
    violations_of(text, Bytes(u64::MAX))
}

fn violations_of(text: &str, capacity: Bytes) -> Vec<String> {
    let draft = text::parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    let found = Programs::verified(draft, capacity).err().unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

/// Replaces one text, which stands once, and expects a violation among those found.
fn check(from: &str, to: &str, expected: &str) {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} must stand once");
    let found = violations(&GOOD.replace(from, to));
    assert!(found.iter().any(|violation| violation == expected), "expected\n{expected}\nfound\n{}", found.join("\n"));
}

#[test]
fn a_right_program_passes() {
    assert_eq!(violations(GOOD), [""; 0]);
}

#[test]
fn any_missing_wait_is_caught() {
    let waits = GOOD.lines().filter(|line| line.contains("wait")).count();
    for missing in 0..waits {
        let mut count = 0;
        let kept = GOOD.lines().filter(|line| {
            count += usize::from(line.contains("wait"));
            !(line.contains("wait") && count == missing + 1)
        });
        let text = kept.collect::<Vec<_>>().join("\n");
        assert!(!violations(&text).is_empty(), "wait {missing} of {waits} is not missed");
    }
}

#[test]
fn a_read_before_the_write_is_caught() {
    check(
        "exchange c0 b0 -> b2",
        "free b4",
        "role 0, instruction 3 (compute m0 L0 F): reads b2, which nothing wrote before",
    );
}

#[test]
fn an_unordered_read_names_the_write() {
    check(
        "  compute            L0 F       wait e0\n",
        "",
        "role 0, instruction 2 (compute m0 L0 F): reads b2 without waiting for \
         role 0, instruction 0 (exchange(data) L0 F), which writes it",
    );
}

#[test]
fn an_unordered_update_is_caught() {
    check(
        "  exchange(pipeline) U          wait e1\n",
        "",
        "role 1, instruction 7 (exchange(pipeline) U): writes b0 without waiting for \
         role 1, instruction 3 (compute m0 L0 F), which uses what was there",
    );
}

#[test]
fn use_after_free_is_caught() {
    check("run f1 b4 b1 -> b6", "run f1 b3 b1 -> b6", "role 0, instruction 11 (compute U): uses b3 after it was freed");
}

#[test]
fn a_free_on_an_unordered_stream_is_caught() {
    check(
        "signal e1\n  compute            m0 L0 F    free b2",
        "signal e1\n  exchange(data)     m0 L0 F    free b2",
        "role 0, instruction 5 (exchange(data) m0 L0 F): frees b2 without waiting for \
         role 0, instruction 3 (compute m0 L0 F), which uses it",
    );
}

#[test]
fn addresses_are_reused_only_after_their_free() {
    check(
        "compute            U          wait e3\n",
        "",
        "role 0, instruction 15 (compute U): b5 begins at addresses freed by \
         role 0, instruction 8 (send(forward) m0 L0 F), without waiting for it",
    );
    check(
        "buffer 4 address=512",
        "buffer 4 address=768",
        "role 0, instruction 10 (compute U): b4 begins at addresses freed by \
         role 0, instruction 8 (send(forward) m0 L0 F), without waiting for it",
    );
    check(
        "buffer 6 address=1280",
        "buffer 6 address=512",
        "role 0, instruction 11 (compute U): b6 begins at addresses where b4 still lives",
    );
    check(
        "buffer 1 address=256 bytes=256 scalars",
        "buffer 1 address=0 bytes=256 scalars",
        "role 0: b1 and b0 live always and share addresses",
    );
}

#[test]
fn every_value_is_freed_once() {
    check("  compute            U          free b5\n", "", "role 0: b5 is never freed");
    check("free b6", "free b4", "role 0, instruction 13 (compute U): frees b4 a second time");
    check("free b6", "free b1", "role 0, instruction 13 (compute U): frees b1, which lives longer than a step");
}

#[test]
fn a_written_operand_is_used_once() {
    check(
        "run f0 b2 -> b3",
        "run f0 b3 -> b3",
        "role 0, instruction 3 (compute m0 L0 F): uses b3 twice, and writes it",
    );
}

#[test]
fn events_are_signalled_once_and_first() {
    check(
        "U          signal e2",
        "U          signal e1",
        "role 0, instruction 14 (compute U): e1 was signalled before",
    );
    check(
        "compute            L0 F       wait e0",
        "compute            L0 F       wait e2",
        "role 0, instruction 2 (compute L0 F): waits for e2, which nothing before it in the code signals",
    );
}

#[test]
fn sends_and_receives_come_in_pairs_of_equal_size() {
    check(
        "  receive(forward)   m0 L0 F    receive t0 -> b1\n",
        "",
        "role 0, instruction 7 (send(forward) m0 L0 F): role 1 does not receive what is sent",
    );
    check(
        "  send(forward)      m0 L0 F    send t0 b3\n",
        "",
        "role 1, instruction 0 (receive(forward) m0 L0 F): role 0 does not send what is received",
    );
    check(
        "buffer 1 address=256 bytes=512 value",
        "buffer 1 address=256 bytes=256 value",
        "role 1, instruction 0 (receive(forward) m0 L0 F): receives 256 B, but \
         role 0, instruction 7 (send(forward) m0 L0 F) sends 512 B",
    );
}

#[test]
fn two_transfers_of_equal_size_in_the_wrong_order_are_caught() {
    let two = |received: [u8; 2]| {
        let start = GOOD.find("transfer 0").expect("it is there");
        let [first, second] = received;
        format!(
            r#"{}transfer 0 r0 r1 forward m0 L1
transfer 1 r0 r1 forward m0 L3
role 0 stages=[0,2] arena=512 live_bound=512
  buffer 0 address=0 bytes=256 scalars
  buffer 1 address=256 bytes=256 boundary
  send(forward)      m0 F send t0 b1
  send(forward)      m0 F send t1 b1
  exchange(pipeline) U exchange c1 b0
role 1 stages=[1,3] arena=768 live_bound=768
  buffer 0 address=0 bytes=256 scalars
  buffer 1 address=256 bytes=256 value
  buffer 2 address=512 bytes=256 value
  receive(forward)   m0 F receive t{first} -> b1
  receive(forward)   m0 F receive t{second} -> b2
  receive(forward)   m0 F free b1
  receive(forward)   m0 F free b2
  exchange(pipeline) U exchange c1 b0
"#,
            &GOOD[..start]
        )
    };
    assert_eq!(violations(&two([0, 1])), [""; 0]);
    let found = violations(&two([1, 0]));
    let expected = "role 1, instruction 0 (receive(forward) m0 F): receives transfer 1, but \
                    role 0, instruction 0 (send(forward) m0 F) sends transfer 0 then";
    assert!(found.iter().any(|violation| violation == expected), "{found:#?}");
    let found = violations(&two([0, 0]));
    let twice = "role 1, instruction 1 (receive(forward) m0 F): transfer 0 was sent or received before";
    assert!(found.iter().any(|violation| violation == twice), "{found:#?}");
}

#[test]
fn ends_of_a_transfer_belong_to_its_roles() {
    check("transfer 0 r0 r1", "transfer 0 r0 r0", "transfer 0: goes from a role to itself");
    check("transfer 0 r0 r1", "transfer 0 r0 r4", "transfer 0: names role 4, but there are only 2");
    check(
        "transfer 0 r0 r1",
        "transfer 0 r1 r0",
        "role 0, instruction 7 (send(forward) m0 L0 F): another role has this end of the transfer",
    );
    check(
        "role 0 stages",
        "transfer 1 r0 r1 forward m0 L1\nrole 0 stages",
        "transfer 1: carries the same as transfer 0",
    );
    check("role 0 stages", "transfer 1 r0 r1 forward m0 L2\nrole 0 stages", "transfer 1: is not sent, or not received");
    check("ranks 2*r0 2*r1", "ranks 3*r0 1*r1", "mesh: ranks at one place of unlike stages play one role");
    check("ranks 2*r0 2*r1", "ranks 2*r0 3*r1", "mesh: 5 ranks have roles, but there are 4");
}

#[test]
fn roles_come_to_exchanges_in_one_order() {
    let last = "  exchange(pipeline) U          exchange c1 b0\n";
    check(last, "", "role 1: lacks exchanges of exchange(pipeline) between stages: it has 0, role 0 has 1");
    check(
        last,
        &last.repeat(2),
        "role 1, instruction 9 (exchange(pipeline) U): is the 2. exchange of exchange(pipeline) between stages, \
         where role 0 has another or none",
    );
}

#[test]
fn a_circle_of_waiting_between_roles_is_caught() {
    // Role 0 comes to the exchange once it has received, but role 1 sends only after the exchange.
    let roles = r#"transfer 0 r1 r0 backward L0
role 0 stages=[0] arena=512 live_bound=512
  buffer 0 address=0 bytes=256 scalars
  buffer 1 address=256 bytes=256 value
  receive(backward)  U receive t0 -> b1
  receive(backward)  U signal e0
  exchange(pipeline) U wait e0
  exchange(pipeline) U free b1
  exchange(pipeline) U exchange c1 b0
role 1 stages=[1] arena=512 live_bound=512
  buffer 0 address=0 bytes=256 scalars
  buffer 1 address=256 bytes=256 boundary
  exchange(pipeline) U exchange c1 b0
  exchange(pipeline) U signal e0
  send(backward)     U wait e0
  send(backward)     U send t0 b1
"#;
    let start = GOOD.find("transfer 0").expect("it is there");
    let text = format!("{}{roles}", &GOOD[..start]);
    let end = "can never begin, because what it waits for waits for it";
    let [first, second] = ["instruction 0 (receive(backward) U)", "instruction 0 (exchange(pipeline) U)"];
    assert_eq!(violations(&text), [format!("role 0, {first}: {end}"), format!("role 1, {second}: {end}")]);
    assert_eq!(violations(&text.replace("send(backward)     U wait e0\n", "")), [""; 0]);
    // The other way round: role 0 sends before the exchange, but role 1 receives only after it.
    let roles = r#"transfer 0 r0 r1 forward L0
role 0 stages=[0] arena=512 live_bound=512
  buffer 0 address=0 bytes=256 scalars
  buffer 1 address=256 bytes=256 boundary
  send(forward)      U send t0 b1
  send(forward)      U signal e0
  exchange(pipeline) U wait e0
  exchange(pipeline) U exchange c1 b0
role 1 stages=[1] arena=512 live_bound=512
  buffer 0 address=0 bytes=256 scalars
  buffer 1 address=256 bytes=256 value
  exchange(pipeline) U exchange c1 b0
  exchange(pipeline) U signal e0
  receive(forward)   U wait e0
  receive(forward)   U receive t0 -> b1
  receive(forward)   U free b1
"#;
    let text = format!("{}{roles}", &GOOD[..start]);
    let first = "instruction 0 (send(forward) U)";
    assert_eq!(violations(&text), [format!("role 0, {first}: {end}"), format!("role 1, {second}: {end}")]);
    assert_eq!(violations(&text.replace("receive(forward)   U wait e0\n", "")), [""; 0]);
}

#[test]
fn sizes_and_capacity_are_checked() {
    assert_eq!(violations_of(GOOD, Bytes(1024)), ["role 0: takes 1.5 KiB of memory, but a rank has only 1.0 KiB"]);
    check(
        "shape=[32] f32",
        "shape=[128] f32",
        "role 0, instruction 0 (exchange(data) L0 F): b0 has 256 B, but 512 B are needed",
    );
    check("live_bound=1280", "live_bound=1024", "role 0: says that 1.0 KiB are alive at once, but 1.2 KiB are");
    check(
        "address=1280",
        "address=1281",
        "role 0, buffer b6: its address 1281 and its 256 bytes are not multiples of 256",
    );
    check("arena=1536", "arena=1280", "role 0, buffer b6: 256 at 1280 end outside of the arena of 1280");
    check("length=64 padded=64", "length=64 padded=512", "role 0, buffer b0: has 256 B, but what it holds takes 512 B");
}

#[test]
fn what_is_named_is_there() {
    check(
        "run f0 b2 -> b3",
        "run f3 b2 -> b3",
        "role 0, instruction 3 (compute m0 L0 F) names fragment 3, but there are only 3",
    );
    check("free b6", "free b7", "role 0, instruction 13 (compute U) names buffer 7, but there are only 7");
    check(
        "send t0 b3",
        "send t2 b3",
        "role 0, instruction 7 (send(forward) m0 L0 F) names transfer 2, but there are only 1",
    );
    check("run f0 b2 -> b3", "run f0 b2", "role 0, instruction 3 (compute m0 L0 F): has 1 operands, but needs 2");
    check("block=0 part", "block=1 part", "role 0, buffer b0: holds parameters of block 1, but there are only 1");
    check("mesh 2x2", "mesh 3x2", "mesh: has 3 stages, but there are 2 roles");
    check("axes=[0,1]", "axes=[0,2]", "collective 1: names axis 2, but the mesh 2x2 has only 2");
    check(
        "exchange(data)     L0 F       exchange c0",
        "exchange(tensor)   L0 F       exchange c0",
        "role 0, instruction 0 (exchange(tensor) L0 F): an instruction like this runs on another stream",
    );
    check(
        "send(forward)      m0 L0 F    send t0 b3",
        "compute            m0 L0 F    send t0 b3",
        "role 0, instruction 7 (compute m0 L0 F): an instruction like this runs on another stream",
    );
}

#[test]
fn fragments_are_checked_inside() {
    check(
        "kernel square-sum replicas=1 @2:f32[n=64]",
        "kernel square-sum replicas=1 @2:f32[n=65]",
        "fragment 1: sum: kernel 1 (square-sum): an operand at byte 0 ends behind the 256 of binding 2",
    );
    check(
        "  kernel add @0:f32[n=64] @0:f32[n=64] -> @2:f32[n=64]\n",
        "",
        "fragment 1: sum: kernel 0 (square-sum): reads bytes 0..256 of binding 2, which nothing wrote",
    );
    check(
        "  kernel square-sum",
        "  kernel zero -> @2+128:f32[k=8]\n  kernel square-sum",
        "fragment 1: sum: kernel 2 (square-sum): reads bytes 0..256 of binding 2, which nothing wrote",
    );
    check(
        "  kernel zero -> @0:f32[n=64]\n",
        "",
        "fragment 2: zero: binding 0 is only written, but no kernel writes it",
    );
    check(
        "@2:f32[n=64] -> +@1+4:f32[]",
        "@2:f32[n=64] -> +@0+4:f32[]",
        "fragment 1: sum: kernel 1 (square-sum): writes binding 0, which is only read",
    );
    check("dimensions=[64]", "dimensions=[65]", "block 0: weight ends behind the 64 elements of the block");
}

#[test]
fn equal_programs_have_equal_digests() {
    let digest = |text: &str| {
        let draft = text::parse(text).expect("the text is right");
        Programs::verified(draft, Bytes(u64::MAX)).expect("the program is right").digest()
    };
    // A changed number here means that saved digests no longer match: say so in the change log.
    assert_eq!(format!("{:x}", digest(GOOD)), "4921b5c1d8146e25");
    let others = [("0.02", "0.03"), ("m0 L0 F    free b2", "m0 L1 F    free b2"), ("\"zero\"", "\"Zero\"")];
    for (from, to) in others {
        assert_ne!(digest(GOOD), digest(&GOOD.replace(from, to)), "{from} or {to} is the same");
    }
}

/// A random program of one role, with what the definition says about it.
struct Sample {
    text: String,
    is_right: bool,
}

const STREAMS: [&str; 4] = ["compute", "exchange(data)", "exchange(tensor)", "exchange(pipeline)"];
const SLOTS: usize = 6;

#[derive(Clone, Copy, PartialEq)]
enum Access {
    Read,
    Write,
    Update,
    Free,
}

#[derive(Default)]
struct Code {
    lines: Vec<String>,
    streams: Vec<usize>,
    /// All instructions that happen before each, by definition.
    before: Vec<BTreeSet<usize>>,
    accesses: Vec<(usize, usize, Access)>,
    events: usize,
}

impl Code {
    fn last(&self, stream: usize) -> Option<usize> {
        self.streams.iter().rposition(|&other| other == stream)
    }

    fn push(&mut self, stream: usize, action: &str, also_after: Option<usize>) -> usize {
        let mut before = BTreeSet::new();
        for earlier in self.last(stream).into_iter().chain(also_after) {
            before.extend(self.before[earlier].iter().copied().chain([earlier]));
        }
        self.lines.push(format!("  {} m0 F {action}\n", STREAMS[stream]));
        self.streams.push(stream);
        self.before.push(before);
        self.lines.len() - 1
    }

    /// Makes the next instruction of `stream` wait for all of `earlier`'s stream.
    fn order(&mut self, earlier: usize, stream: usize) {
        let own = self.last(stream).is_some_and(|last| last == earlier || self.before[last].contains(&earlier));
        if self.streams[earlier] == stream || own {
            return;
        }
        let event = self.events;
        self.events += 1;
        let signal = self.push(self.streams[earlier], &format!("signal e{event}"), None);
        self.push(stream, &format!("wait e{event}"), Some(signal));
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        self.before[b].contains(&a)
    }
}

fn random_program(random: &mut Random, forgetfulness: usize) -> Sample {
    let mut code = Code::default();
    let mut slots: Vec<usize> = Vec::new();
    let mut live: Vec<usize> = Vec::new();
    for _ in 0..10 + random.below(30) {
        let stream = random.below(STREAMS.len());
        let [read, fresh] = [(!live.is_empty()).then(|| live[random.below(live.len().max(1))]), Some(slots.len())];
        let kind = random.below(5);
        let (action, accesses) = match (kind, stream, read) {
            (0, _, Some(read)) => (format!("free b{read}"), vec![(read, Access::Free)]),
            (1, 0, Some(read)) => (format!("run f1 b{read}"), vec![(read, Access::Update)]),
            (1, _, Some(read)) => (format!("exchange c{} b{read}", stream + 2), vec![(read, Access::Update)]),
            (_, 0, Some(read)) if kind > 2 => (
                format!("run f0 b{read} -> b{}", slots.len()),
                vec![(read, Access::Read), (slots.len(), Access::Write)],
            ),
            (_, 1.., Some(read)) => {
                let action = format!("exchange c{} b{read} -> b{}", stream - 1, slots.len());
                (action, vec![(read, Access::Read), (slots.len(), Access::Write)])
            }
            _ => (format!("run f2 -> b{}", slots.len()), vec![(slots.len(), Access::Write)]),
        };
        let stream = if action.starts_with("run") { 0 } else { stream };
        if accesses.iter().any(|&(buffer, _)| Some(buffer) == fresh) {
            let free: Vec<usize> = (0..SLOTS).filter(|slot| live.iter().all(|&other| slots[other] != *slot)).collect();
            if free.is_empty() {
                continue;
            }
            slots.push(random.one_of(&free));
            live.push(slots.len() - 1);
        }
        // Wait for what conflicts, unless it is forgotten.
        let conflicts = code.accesses.clone();
        for (earlier, other, before) in conflicts {
            let conflict = accesses.iter().any(|&(buffer, access)| {
                let same = buffer == other && (access != Access::Read || before != Access::Read);
                let begins = Some(buffer) == fresh && slots[buffer] == slots[other] && before == Access::Free;
                same || begins
            });
            if conflict && random.below(forgetfulness) != 0 {
                code.order(earlier, stream);
            }
        }
        let index = code.push(stream, &action, None);
        code.accesses.extend(accesses.iter().map(|&(buffer, access)| (index, buffer, access)));
        if let [(buffer, Access::Free)] = accesses[..] {
            live.retain(|&other| other != buffer);
        }
    }
    for buffer in live {
        for (earlier, other, _) in code.accesses.clone() {
            if other == buffer {
                code.order(earlier, 0);
            }
        }
        let index = code.push(0, &format!("free b{buffer}"), None);
        code.accesses.push((index, buffer, Access::Free));
    }
    judged(&code, &slots)
}

fn judged(code: &Code, slots: &[usize]) -> Sample {
    let mut is_right = true;
    for (place, &(b, buffer, access)) in code.accesses.iter().enumerate() {
        let is_first = code.accesses[..place].iter().all(|&(_, other, _)| other != buffer);
        for &(a, other, earlier) in &code.accesses[..place] {
            let conflict = other == buffer && (earlier != Access::Read || access != Access::Read);
            let reuse = other != buffer && slots[other] == slots[buffer] && earlier == Access::Free && is_first;
            is_right &= !(conflict || reuse) || code.is_before(a, b);
        }
    }
    let mut live = 0usize;
    let mut live_max = 0;
    for (place, &(_, buffer, access)) in code.accesses.iter().enumerate() {
        let is_first = code.accesses[..place].iter().all(|&(_, other, _)| other != buffer);
        live += usize::from(is_first);
        live_max = live_max.max(live);
        live -= usize::from(access == Access::Free);
    }
    let mut text = GOOD[..GOOD.find("transfer 0").expect("it is there")]
        .replace("mesh 2x2", "mesh 1x1")
        .replace("ranks 2*r0 2*r1", "ranks 1*r0");
    text = text.replace("axes=[0,1]", "axes=[1]");
    let first = text.find("collective 0").expect("it is there");
    text.truncate(first);
    for axis in ["data", "tensor", "pipeline"] {
        let index = text.matches("collective").count();
        text += &format!("collective {index} all-gather axes=[1] dimension=0 for={axis} shape=[64] f32\n");
    }
    for axis in ["data", "tensor", "pipeline"] {
        let index = text.matches("collective").count();
        text += &format!("collective {index} all-reduce axes=[1] reduce=sum for={axis} shape=[64] f32\n");
    }
    text += &GOOD[GOOD.find("fragment 0").expect("it is there")..GOOD.find("fragment 1").expect("it is there")];
    text += "fragment 1 \"update\" scratch_bound=0\n  binding 0 update bytes=256\n";
    text += &GOOD[GOOD.find("fragment 2").expect("it is there")..GOOD.find("transfer 0").expect("it is there")];
    text += &format!("role 0 stages=[0] arena={} live_bound={}\n", SLOTS * 256, live_max * 256);
    for (index, slot) in slots.iter().enumerate() {
        text += &format!("  buffer {index} address={} bytes=256 value\n", slot * 256);
    }
    text += &code.lines.concat();
    Sample { text, is_right }
}

#[test]
fn random_programs_are_judged_as_the_definition_says() {
    let mut right = 0;
    for seed in 0..600 {
        let sample = random_program(&mut Random(seed), if seed % 3 == 0 { 1_000_000 } else { 30 });
        let found = violations(&sample.text);
        assert_eq!(found.is_empty(), sample.is_right, "seed {seed}: {}\n{}", found.join("\n"), sample.text);
        right += usize::from(sample.is_right);
    }
    assert!((100..500).contains(&right), "{right} of 600 are right: too few of one sort");
}
