//! A folder with what a training needs, and `hetu-exec` run there.

#![allow(unreachable_pub, dead_code, reason = "a module of each test that uses it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A model that trains at once.
pub(crate) const MODEL: &str = "\
format: 1
name: speck
family: llama
layers: 2
hidden: 16
heads: 4
key_value_heads: 2
feed_forward: 24
vocabulary: 256
sequence: 8
training:
  batch: 8
  precision: f32
  learning_rate: 1.0e-2
";

/// Written by a person: no digests, no prediction.
pub(crate) const PLAN: &str = "\
format: 1
model: model.yaml
cluster: 4xCPU
batch: 8
microbatches: 2
precision: f32
stages: [0..2, 2..4]
layers:
  0..4: { data: 2, shard: parameters }
";

/// A folder with a model, a plan and a text.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(test: &str) -> Place {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let place = Place(folder);
        place.write("model.yaml", MODEL);
        place.write("plan.yaml", PLAN);
        place.write("text.txt", &"It is a truth universally acknowledged, that a plan needs a text. ".repeat(40));
        place
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// With a part of a file replaced.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no `{from}`");
        self.write(name, &text.replacen(from, to, 1));
    }

    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().expect("a name in UTF-8")).collect();
        names.sort();
        names
    }

    /// Not yet started, with the words of `line` as arguments.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hetu-exec"));
        command.current_dir(&self.0).args(line.split_whitespace());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What a good run prints.
    #[track_caller]
    pub(crate) fn good(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {errors}");
        assert_eq!(errors, "", "{line}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The objects that a good run prints.
    #[track_caller]
    pub(crate) fn objects(&self, line: &str) -> Vec<Value> {
        self.good(&format!("{line} --json")).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Steps with their losses and gradient norms.
    #[track_caller]
    pub(crate) fn losses(&self, line: &str) -> Vec<(u64, f64, f64)> {
        let of = |object: &Value| {
            Some((object["step"].as_u64()?, object["loss"].as_f64()?, object["gradient_norm"].as_f64()?))
        };
        self.objects(line).iter().filter_map(of).collect()
    }

    /// A run that is refused with these words.
    #[track_caller]
    pub(crate) fn refused(&self, line: &str, what: &str) {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains(what), "{line}: no `{what}` in\n{errors}");
        assert!(output.stdout.is_empty(), "{line}: nothing is printed");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is in the build folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a training without end, and waits until it has done a step.
#[cfg(unix)]
pub fn started(place: &Place) -> (std::process::Child, BufReader<std::process::ChildStdout>) {
    let mut command = place.command("plan.yaml --text text.txt --steps 100000000 --checkpoint run --report out --json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        output.read_line(&mut String::new()).unwrap();
    }
    (child, output)
}
