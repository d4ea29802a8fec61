//! `--supervise`: what is started again, what is not, and how it ends.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot write its own files stops")]

mod place;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use place::Place;

const LINE: &str = "plan.yaml --text text.txt --evaluate-every 0 --json --checkpoint run --save-every 1";

fn start(place: &Place, line: &str) -> (Child, BufReader<ChildStdout>) {
    let mut supervisor = place.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(supervisor.stdout.take().unwrap());
    // The head and some steps.
    for _ in 0..4 {
        output.read_line(&mut String::new()).unwrap();
    }
    (supervisor, output)
}

fn kill(signal: &str, process: u32) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

/// The only child of a process.
fn child_of(process: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    children.trim().parse().unwrap_or_else(|_| panic!("one child, not `{children}`"))
}

/// The exit status, and what stood on standard error.
fn end(supervisor: Child) -> (Option<i32>, String) {
    let output = supervisor.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_killed_training_is_started_again_and_comes_to_its_end() {
    let place = Place::new("again");
    let (supervisor, mut output) = start(&place, &format!("{LINE} --steps 400 --supervise 3"));
    kill("-KILL", child_of(supervisor.id()));
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    let (code, errors) = end(supervisor);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.starts_with("note: the training failed with signal: 9 (SIGKILL), step "), "{errors}");
    assert!(errors.trim_end().ends_with("is saved in run; start 2 of at most 4"), "{errors}");
    assert!(text.contains("\"step\":400,") && text.contains("\"resumed\":\"run/step-"), "{text}");
    assert_eq!(place.names("run"), [".lock", "step-000399", "step-000400"]);
    // Whoever starts it once more finds all done.
    assert_eq!(place.good(&format!("{LINE} --steps 400 --supervise=3")).matches("\"kind\":\"step\"").count(), 0);
}

#[test]
fn who_fails_without_a_step_gained_is_given_up() {
    let place = Place::new("given-up");
    place.replace("model.yaml", "learning_rate: 1.0e-2", "learning_rate: 1.0e+30");
    let output = place.run(&format!("{LINE} --steps 40 --supervise 30"));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("start 2 of at most 31") && !errors.contains("start 3"), "{errors}");
    assert!(errors.contains("exit status 1, step ") && errors.contains("no step more than at the failure"), "{errors}");
}

#[test]
fn so_many_starts_are_enough() {
    let place = Place::new("enough");
    let (supervisor, mut output) = start(&place, &format!("{LINE} --steps 100000000 --supervise 0"));
    kill("-KILL", child_of(supervisor.id()));
    output.read_to_end(&mut Vec::new()).unwrap();
    let (code, errors) = end(supervisor);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("it was started again 0 times already"), "{errors}");
}

#[test]
fn wrong_use_is_not_tried_again() {
    let place = Place::new("wrong-use");
    place.refused("plan.yaml --text text.txt --supervise 3", "--checkpoint");
    place.refused("plan.yaml --text none.txt --checkpoint run --supervise 3", "none.txt");
}

#[test]
fn a_signal_to_the_supervisor_saves_and_ends_both() {
    let place = Place::new("signal");
    let line = "plan.yaml --text text.txt --json --checkpoint run --save-every 0 --steps 100000000 --supervise 3";
    let (supervisor, mut output) = start(&place, line);
    kill("-TERM", supervisor.id());
    output.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(end(supervisor), (Some(143), String::new()));
    assert_eq!(place.names("run").len(), 2, "the lock and a checkpoint");
}
