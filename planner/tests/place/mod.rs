//! A folder in which a user runs `hetu-plan`.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A model for tests.
pub(crate) const MODEL: &str = include_str!("../../../examples/models/tiny-llama.yaml");

/// An empty folder with a small model in it.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hetu-plan").join(name);
    // Left by an earlier run, or not there.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("the target folder can be written");
    fs::write(folder.join("model.yaml"), MODEL.replace("layers: 6", "layers: 2")).expect("the folder is new");
    folder
}

pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_hetu-plan");
    Command::new(program).args(arguments).current_dir(folder).output().expect("the program starts")
}

pub(crate) fn status_and_texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (output.status.code().expect("ended by itself"), text(&output.stdout), text(&output.stderr))
}

/// What is said on stderr by a command that must end with `status`, and that it said so as a user should read it.
pub(crate) fn refused(folder: &Path, arguments: &[&str], status: i32) -> String {
    let (found, _, said) = status_and_texts(&run(folder, arguments));
    assert_eq!(found, status, "{arguments:?}: {said}");
    assert!(said.starts_with("error: ") && !said.contains("panicked"), "{arguments:?}: {said}");
    said
}
