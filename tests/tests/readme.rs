//! What the README and `--help` tell users to type works as it stands, in the order in which it stands, in a fresh
//! clone: every command of our programs is run there, with fewer steps and measurements, but for those that need GPUs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What users type that is not tried here, and why.
const NOT_TRIED: [(&str, &str); 8] = [
    ("scripts/", "builds everything"),
    ("cargo ", "builds everything"),
    ("export ", "is of the shell"),
    ("torchrun ", "needs several hosts"),
    ("srun ", "needs several hosts"),
    ("mpirun ", "needs several hosts"),
    ("hetu-profile cluster --devices cuda", "needs GPUs"),
    ("hetu-exec gpu/", "needs GPUs"),
];

/// Of what those that are not tried would have written.
const WRITTEN_BY_NONE: [&str; 2] = ["gpu/profile.yaml", "--devices cuda"];

/// Something that the text tells users to do.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Type(String),
    Write { file: String, content: String },
}

/// Commands are indented by four spaces, or stand behind `$ ` in fenced blocks. A fenced block of YAML whose first line
/// is a comment with a name is a file of that name.
fn tasks(text: &str) -> Vec<Task> {
    let mut tasks = Vec::new();
    let mut blocks = text.split("```");
    while let Some(outside) = blocks.next() {
        let indented = outside.lines().filter_map(|line| line.strip_prefix("    "));
        tasks.extend(indented.map(|line| Task::Type(line.trim().to_owned())));
        let Some(block) = blocks.next() else { break };
        let (kind, content) = block.split_once('\n').expect("a block has lines");
        match content.lines().next().and_then(|first| first.strip_prefix("# ")) {
            Some(file) if kind == "yaml" => {
                tasks.push(Task::Write { file: file.to_owned(), content: content.to_owned() });
            }
            Some(_) | None => {
                let typed = content.lines().filter_map(|line| line.strip_prefix("$ "));
                tasks.extend(typed.map(|line| Task::Type(line.to_owned())));
            }
        }
    }
    tasks
}

/// The lines of a help text that begin with one of our programs.
fn examples(help: &str) -> Vec<Task> {
    let examples = help.split("EXAMPLES").nth(1).expect("help has examples");
    let lines = examples.lines().map(str::trim).filter(|line| line.starts_with("hetu-"));
    lines.map(|line| Task::Type(line.to_owned())).collect()
}

fn is_tried(line: &str) -> bool {
    let is_named = NOT_TRIED.iter().any(|(start, _)| line.starts_with(start));
    assert!(is_named || line.starts_with("hetu-"), "nobody says whether this can be tried: {line}");
    !is_named && !WRITTEN_BY_NONE.iter().any(|part| line.contains(part))
}

/// The same with less to do.
fn shortened(line: &str) -> String {
    let line = line.split("  #").next().unwrap_or(line).trim();
    let line = line.split(" | jq").next().unwrap_or(line);
    let mut words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    match words[0] {
        "hetu-exec" if words[1] == "export" => {}
        "hetu-exec" => {
            if let Some(at) = words.iter().position(|word| *word == "--steps") {
                words.drain(at..at + 2);
            }
            // As if the first had been interrupted.
            let goes_on = words.contains(&"--resume");
            words.extend(if goes_on { &["--steps", "2", "--allow", "steps"][..] } else { &["--steps", "1"] });
            words.extend(["--evaluate-windows", "1"]);
        }
        "hetu-profile" => {
            words.extend(["--quick", "--budget", "1"]);
            if !words.contains(&"--only") {
                words.extend(["--only", "norm"]);
            }
        }
        _ => {}
    }
    words.join(" ")
}

/// The folder of the programs, which lies above that of the tests.
fn programs() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    let folder = own.parent().and_then(Path::parent).expect("tests lie in a folder of the target").to_owned();
    for name in ["hetu-plan", "hetu-exec", "hetu-profile"] {
        assert!(folder.join(name).exists(), "{name} is not built: cargo build --bins, then test again");
    }
    folder
}

/// A folder that looks like a fresh clone.
fn clone(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in a folder of the root");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme").join(name);
    // Left by an earlier run, or not there.
    let _ = fs::remove_dir_all(&folder);
    for kind in ["models", "clusters", "profiles", "text", "replay", "published/tiny-llama"] {
        let (from, to) = (root.join("examples").join(kind), folder.join("examples").join(kind));
        fs::create_dir_all(&to).expect("the target can be written");
        for entry in fs::read_dir(from).expect("there are examples") {
            let path = entry.expect("it can be read").path();
            fs::copy(&path, to.join(path.file_name().expect("a file has a name"))).expect("it can be copied");
        }
    }
    folder
}

#[track_caller]
fn typed(folder: &Path, line: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs().display());
    let output = Command::new("sh").args(["-c", line]).env("PATH", path).current_dir(folder).output();
    let output = output.expect("there is a shell");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "$ {line}\n{errors}\n{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("programs print UTF-8")
}

fn follow(folder: &Path, tasks: &[Task]) -> usize {
    let mut count = 0;
    for task in tasks {
        match task {
            Task::Type(line) if is_tried(line) => {
                typed(folder, &shortened(line));
                count += 1;
            }
            Task::Type(_) => {}
            Task::Write { file, content } => fs::write(folder.join(file), content).expect("the folder can be written"),
        }
    }
    count
}

#[cfg(unix)]
#[test]
fn the_commands_of_the_readme_work_in_their_order() {
    let text = include_str!("../../README.md");
    let count = follow(&clone("tour"), &tasks(text));
    assert!(count >= 8, "only {count} commands were found");
}

#[cfg(unix)]
#[test]
fn the_examples_of_every_help_work_in_their_order() {
    let folder = clone("help");
    let count: usize = ["hetu-plan", "hetu-exec", "hetu-profile"]
        .map(|program| follow(&folder, &examples(&typed(&folder, &format!("{program} --help")))))
        .iter()
        .sum();
    assert!(count >= 12, "only {count} commands were found");
}

#[test]
fn commands_and_files_are_found() {
    let text = "a\n\n    hetu-plan m  # why\n\n```\n$ hetu-exec p\nout\n```\nb\n```yaml\n# p.yaml\nformat: 1\n```\n";
    let expected = [
        Task::Type("hetu-plan m  # why".to_owned()),
        Task::Type("hetu-exec p".to_owned()),
        Task::Write { file: "p.yaml".to_owned(), content: "# p.yaml\nformat: 1\n".to_owned() },
    ];
    assert_eq!(tasks(text), expected);
    assert_eq!(
        shortened("hetu-exec p --steps 30 --resume  # on"),
        "hetu-exec p --resume --steps 2 --allow steps --evaluate-windows 1"
    );
}
