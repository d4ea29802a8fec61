//! What `hetu-exec` writes of every step beside its lines, read back as others would read it.

#![allow(clippy::unwrap_used, reason = "a test that cannot read what was written stops")]

mod place;

use std::fs;

use place::Place;

/// CRC-32C bit by bit, as RFC 3720 defines it: another way than that of the writer.
fn crc(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 })
    })
}

fn unmasked(sum: [u8; 4]) -> u32 {
    u32::from_le_bytes(sum).wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The data of each record, if all checksums are right.
fn records(mut file: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(unmasked(file[8..12].try_into().unwrap()), crc(&file[..8]), "the length");
        let (data, rest) = file[12..].split_at(length);
        assert_eq!(unmasked(rest[..4].try_into().unwrap()), crc(data), "the data");
        found.push(data);
        file = &rest[4..];
    }
    found
}

/// A field of a message: its number, a whole number if it is one, and its bytes.
type Field<'a> = (u64, u64, &'a [u8]);

fn variable(data: &mut &[u8]) -> u64 {
    let mut number = 0;
    for place in 0.. {
        let (first, rest) = data.split_first().unwrap();
        *data = rest;
        number |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            break;
        }
    }
    number
}

fn fields(mut data: &[u8]) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let head = variable(&mut data);
        let mut take = |length: usize| {
            let (content, rest) = data.split_at(length);
            data = rest;
            content
        };
        let (number, content): (u64, &[u8]) = match head & 7 {
            1 => (0, take(8)),
            5 => (0, take(4)),
            0 => (variable(&mut data), &[]),
            2 => {
                let length = variable(&mut data) as usize;
                let (content, rest) = data.split_at(length);
                data = rest;
                (0, content)
            }
            kind => panic!("no field of kind {kind} was written"),
        };
        found.push((head >> 3, number, content));
    }
    found
}

/// Steps with their tags and numbers.
fn scalars(file: &[u8]) -> Vec<(u64, Vec<(String, f32)>)> {
    let records = records(file);
    let version = fields(records[0]);
    assert_eq!((version[1].0, version[1].2), (3, &b"brain.Event:2"[..]));
    let event = |data: &&[u8]| {
        let event = fields(data);
        assert_eq!(event.iter().map(|field| field.0).collect::<Vec<_>>(), [1, 2, 5], "time, step, summary");
        let value = |field: &Field<'_>| {
            let value = fields(field.2);
            let tag = String::from_utf8(value[0].2.to_vec()).unwrap();
            (tag, f32::from_le_bytes(value[1].2.try_into().unwrap()))
        };
        (event[1].1, fields(event[2].2).iter().map(value).collect())
    };
    records[1..].iter().map(event).collect()
}

#[test]
fn events_and_table_have_the_losses_of_the_lines() {
    let place = Place::new("logs");
    let line = "plan.yaml --text text.txt --steps 4 --evaluate-every 2 --csv out/steps.csv --tensorboard board";
    let losses: Vec<(u64, f64)> = place.losses(line).into_iter().map(|(step, loss, _)| (step, loss)).collect();
    assert_eq!(losses.len(), 4);
    let names = place.names("board");
    assert!(names.len() == 1 && names[0].starts_with("events.out.tfevents."), "{names:?}");
    let file = fs::read(place.0.join("board").join(&names[0])).unwrap();
    let events = scalars(&file);
    let of = |tag: &str| -> Vec<(u64, f32)> {
        let value =
            |(step, values): &(u64, Vec<(String, f32)>)| Some((*step, values.iter().find(|(name, _)| name == tag)?.1));
        events.iter().filter_map(value).collect()
    };
    assert_eq!(of("loss"), losses.iter().map(|&(step, loss)| (step, loss as f32)).collect::<Vec<_>>());
    assert_eq!(of("held_out_loss").iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4]);
    assert!(of("share_of_peak").is_empty(), "nobody knows the peak of a CPU rank");
    let table = fs::read_to_string(place.0.join("out/steps.csv")).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
    let found: Vec<(u64, f64)> =
        rows[1..].iter().map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap())).collect();
    assert_eq!(found, losses);
}

#[test]
fn a_training_that_goes_on_keeps_the_table_of_what_is_behind_it() {
    let place = Place::new("logs-resume");
    let line = "plan.yaml --text text.txt --steps 4 --checkpoint run --save-every 2 --csv steps.csv";
    place.good(line);
    fs::remove_dir_all(place.0.join("run/step-000004")).unwrap();
    place.good(&format!("{line} --resume"));
    let table = fs::read_to_string(place.0.join("steps.csv")).unwrap();
    let steps: Vec<&str> = table.lines().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(steps, ["step", "1", "2", "3", "4"]);
    fs::remove_dir_all(place.0.join("run/step-000004")).unwrap();
    place.refused(&format!("{} --resume", line.replace("steps.csv", "text.txt")), "is no table of steps");
}

#[test]
fn lines_may_be_few_and_have_form_and_time() {
    let place = Place::new("log-every");
    let line = "plan.yaml --text text.txt --steps 11 --log-every 5 --evaluate-every 7";
    let objects = place.objects(line);
    let steps: Vec<u64> = objects.iter().filter_map(|object| object["step"].as_u64()).collect();
    assert_eq!(steps, [1, 5, 7, 10, 11]);
    let times: Vec<f64> = objects.iter().map(|object| object["unix_seconds"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] > 1.7e9, "{times:?}");
    assert!(objects.iter().all(|object| object["format"] == 1));
    assert!(objects[1]["model_flops_per_second_per_device"].as_f64().unwrap() > 0.0);
    place.refused("plan.yaml --text text.txt --csv text.txt/steps.csv", "text.txt: cannot be written");
}

#[test]
fn without_a_text_the_shipped_one_is_read_and_named() {
    let place = Place::new("shipped-text");
    let text = place.good("plan.yaml --steps 1 --evaluate-every 0");
    assert!(text.contains("Text    the shipped text, as --text names none: "), "{text}");
    assert!(place.objects("plan.yaml --steps 1 --evaluate-every 0")[0]["text"].is_null());
}

#[test]
fn man_pages_are_those_of_the_help() {
    let place = Place::new("man");
    place.good("--man pages");
    assert_eq!(place.names("pages"), ["hetu-exec-export.1", "hetu-exec.1"]);
    let page = fs::read_to_string(place.0.join("pages/hetu-exec.1")).unwrap();
    assert!(page.starts_with(".ie") || page.contains(".TH hetu\\-exec"), "{page}");
    for option in ["tensorboard", "log\\-every", "EXIT STATUS"] {
        assert!(page.contains(option), "{option}");
    }
}
