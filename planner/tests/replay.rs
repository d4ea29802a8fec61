//! `hetu-plan replay` as a user meets it.

mod place;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use place::{folder, refused, run, status_and_texts};
use serde_json::Value;

const HEADER: &str = "source,id,layers,hidden,heads,vocabulary,sequence,device,nodes,devices_per_node,data,tensor,\
                      stages,micro_batch,batch,recompute,software,step\n";

/// Small runs of four plans, so that a group has something to choose between.
const RUNS: &str = "\
a,1,4,512,8,8192,512,A100-80GB,1,8,8,1,1,1,32,full,megatron-2021,0.10
a,2,4,512,8,8192,512,A100-80GB,1,8,2,2,2,1,32,full,megatron-2021,0.20
a,3,4,512,8,8192,512,A100-80GB,1,8,4,2,1,1,32,full,megatron-2021,0.12
b,4,4,512,8,8192,512,H100,1,8,2,1,4,,32,,,0.10
";

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/replay");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("runs are shipped")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|end| end == "csv"))
        .collect();
    files.sort();
    files
}

/// What is printed and written by so many threads.
fn replayed(folder: &Path, threads: &str, arguments: &[&str]) -> [String; 2] {
    let program = env!("CARGO_BIN_EXE_hetu-plan");
    let output = Command::new(program)
        .args(["replay", "-o", "out.csv"])
        .args(arguments)
        .env("RAYON_NUM_THREADS", threads)
        .current_dir(folder)
        .output()
        .expect("the program starts");
    let (status, text, said) = status_and_texts(&output);
    assert_eq!((status, said.as_str()), (0, ""), "{text}");
    [text, fs::read_to_string(folder.join("out.csv")).expect("it was written")]
}

#[test]
fn any_number_of_threads_gives_the_same_answers() {
    let folder = folder("replay-threads");
    fs::write(folder.join("runs.csv"), format!("{HEADER}{RUNS}")).expect("the folder is new");
    let one = replayed(&folder, "1", &["runs.csv"]);
    assert!(one[0].contains("Predicted 4 runs; 0 rows could not be"), "{}", one[0]);
    assert_eq!(one[1].lines().count(), 5, "{}", one[1]);
    for threads in ["2", "5"] {
        assert_eq!(replayed(&folder, threads, &["runs.csv"]), one);
    }
}

#[test]
fn all_shipped_runs_are_predicted_within_a_quarter() {
    let folder = folder("replay-shipped");
    let files = shipped();
    let names: Vec<&str> = files.iter().map(|file| file.to_str().expect("names are UTF-8")).collect();
    let [text, _] = replayed(&folder, "2", &[names.as_slice(), &["--json"]].concat());
    let document: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(document["wrong"], serde_json::json!([]));
    let sources = document["sources"].as_array().expect("a list");
    assert_eq!(sources.len(), files.len());
    for source in sources {
        let error = source["step"]["mean_absolute"].as_f64().expect("a number");
        assert!(error < 0.25, "{}: {error}", source["source"]);
    }
    let rows = document["rows"].as_array().expect("a list");
    for row in rows {
        let [low, high] = [0, 1].map(|end| row["predicted_seconds_between"][end].as_f64().expect("a number"));
        let measured = row["measured_seconds"].as_f64().expect("a number");
        assert_eq!(row["inside"], low <= measured && measured <= high, "{row}");
    }
    // Nine of ten should be, by what descriptions state of their residuals.
    let inside = rows.iter().filter(|row| row["inside"] == true).count() as f64 / rows.len() as f64;
    assert!((0.8..=1.0).contains(&inside), "{inside}");
}

#[test]
fn bad_rows_are_named_and_the_others_go_on() {
    let folder = folder("replay-bad");
    let bad =
        RUNS.replace("a,2,4,512,8", "a,2,4,512,7").replace("a,3,4,512,8,8192,512,A100", "a,3,4,512,8,8192,512,B100");
    fs::write(folder.join("runs.csv"), format!("{HEADER}{bad}")).expect("the folder is new");
    let (status, text, said) = status_and_texts(&run(&folder, &["replay", "runs.csv"]));
    assert_eq!(status, 0, "{said}");
    assert!(text.contains("Predicted 2 runs; 2 rows could not be"), "{text}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("error: runs.csv:3: "), "{said}");
    assert!(lines[1].starts_with("error: runs.csv:4: "), "{said}");
    fs::write(folder.join("none.csv"), HEADER).expect("the folder is new");
    assert!(refused(&folder, &["replay", "none.csv"], 2).contains("no row can be predicted"));
    let said = refused(&folder, &["replay", "runs.csv", "--as", "nobody"], 2);
    assert!(said.contains("nobody"), "{said}");
}
