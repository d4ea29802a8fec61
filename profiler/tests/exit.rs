//! Exit statuses of `hetu-profile`, as its help gives them.

use std::process::{Command, Output, Stdio};

fn run(line: &str, output: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hetu-profile"));
    command.args(line.split_whitespace()).stdout(output).stderr(Stdio::piped());
    command.spawn().and_then(std::process::Child::wait_with_output).expect("the tool can be started")
}

#[test]
fn wrong_files_are_wrong_use() {
    for line in ["cluster --model no/such/model.yaml", "cluster --model /dev/null", "cluster -o Cargo.toml", "--no"] {
        let output = run(line, Stdio::piped());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {errors}");
        assert!(errors.starts_with("error: "), "{line}: {errors}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_is_lost_is_a_failure_and_no_panic() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = run("--completions bash", full().into());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("error: standard output: "), "{errors}");
}
