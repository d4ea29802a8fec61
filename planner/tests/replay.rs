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

#[test]
fn rows_with_fp8_products_are_priced_by_a_device_and_a_software_that_have_them() {
    let folder = folder("replay-fp8");
    let header = HEADER.replace("software,", "software,products,");
    let row = |id: &str, device: &str, software: &str, products: &str| {
        format!("a,{id},4,4096,32,8192,2048,{device},1,8,8,1,1,2,64,full,{software},{products},0.3\n")
    };
    let rows = [
        row("short", "H100", "mosaicml-2023", "bf16"),
        row("usual", "H100", "mosaicml-2023", ""),
        row("delayed", "H100", "mosaicml-2023", "fp8"),
        row("same", "H100", "mosaicml-2023", "fp8-delayed"),
        row("current", "H100", "mosaicml-2023", "fp8-current"),
        row("old", "A100-80GB", "mosaicml-2023", "fp8"),
        row("unsaid", "H100", "hetu", "fp8"),
        row("wrong", "H100", "mosaicml-2023", "fp4"),
    ];
    fs::write(folder.join("runs.csv"), header + &rows.concat()).expect("the folder is new");
    let (status, text, said) = status_and_texts(&run(&folder, &["replay", "runs.csv", "-o", "out.csv"]));
    assert_eq!(status, 0, "{said}");
    assert!(text.contains("Predicted 5 runs; 3 rows could not be"), "{text}");
    let said: Vec<&str> = said.lines().collect();
    let no_cores = "error: runs.csv:7: `products` cannot be `fp8`: A100-80GB has no cores for fp8";
    let unsaid = "error: runs.csv:8: `products` cannot be `fp8`: hetu is not described to have any";
    let unknown = "error: runs.csv:9: `products` cannot be `fp4`: it is one of bf16, fp8, fp8-current, fp8-delayed";
    for (line, expected) in said.iter().zip([no_cores, unsaid, unknown]) {
        assert!(line.starts_with(expected), "{line}");
    }
    let made = fs::read_to_string(folder.join("out.csv")).expect("it was written");
    let step = |id: &str| {
        let line = made.lines().find(|line| line.starts_with(&format!("a,{id},"))).expect("each row has a line");
        line.split(',').nth(3).and_then(|seconds| seconds.parse::<f64>().ok()).expect("it is predicted")
    };
    assert!((step("short") - step("usual")).abs() < 1e-12 && (step("delayed") - step("same")).abs() < 1e-12);
    assert!(step("delayed") < step("current") && step("current") < step("short"), "{made}");
}

/// Small and large layers, on a node and over nodes, by Data, Tensor and stages: what numbers of a description differ in.
const SHAPES: &str = "\
a,1,4,1024,16,8192,1024,A100-80GB,1,8,8,1,1,1,32,full,x,1
a,2,4,4096,32,8192,2048,A100-80GB,1,8,1,8,1,2,8,full,x,1
a,3,4,4096,32,8192,2048,A100-80GB,1,8,8,1,1,2,64,full,x,1
a,4,4,2048,16,8192,4096,A100-80GB,1,8,2,4,1,1,8,full,x,1
a,5,4,4096,32,8192,8192,A100-80GB,1,8,4,2,1,1,8,full,x,1
a,6,8,2048,16,8192,2048,A100-80GB,2,8,4,2,2,1,16,full,x,1
a,7,8,6144,48,8192,2048,A100-80GB,4,8,32,1,1,1,32,full,x,1
a,8,8,6144,48,8192,2048,A100-80GB,4,8,8,4,1,1,16,full,x,1
b,9,4,512,8,8192,512,A100-80GB,1,8,2,2,2,1,64,full,x,1
b,10,8,1024,16,8192,512,A100-80GB,1,8,1,8,1,1,8,full,x,1
b,11,8,5120,40,8192,1024,A100-80GB,2,8,2,8,1,4,16,full,x,1
b,12,8,5120,40,8192,1024,A100-80GB,2,8,16,1,1,4,64,full,x,1
";

#[test]
fn numbers_that_made_the_rows_are_found_again() {
    let folder = folder("replay-fit");
    let [known, base] = ["megatron-2021", "megatron-2021"].map(|name| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/software/{name}.yaml"));
        fs::read_to_string(file).expect("it is shipped").replace("waits: transfers", "waits: nothing")
    });
    let truth = [("products", 0.85), ("attention", 0.7), ("memory", 0.8), ("inside", 0.7), ("between", 0.6)];
    let rates: Vec<String> = truth.iter().map(|(rate, times)| format!("{rate}: {times}")).collect();
    let known = known.replace("1.38 ms", "0.9 ms") + &format!("\nrates: {{ {} }}\n", rates.join(", "));
    fs::write(folder.join("known.yaml"), known).expect("the folder is new");
    fs::write(folder.join("base.yaml"), base).expect("the folder is new");
    fs::write(folder.join("shapes.csv"), format!("{HEADER}{SHAPES}")).expect("the folder is new");
    replayed(&folder, "2", &["shapes.csv", "--as", "known.yaml"]);
    let made = fs::read_to_string(folder.join("out.csv")).expect("it was written");
    let runs = made.lines().skip(1).zip(SHAPES.lines()).map(|(made, shape)| {
        let seconds = made.split(',').nth(3).expect("there is a prediction");
        shape.strip_suffix('1').expect("steps are 1").to_owned() + seconds + "\n"
    });
    fs::write(folder.join("runs.csv"), HEADER.to_owned() + &runs.collect::<String>()).expect("the folder is new");
    let fit = ["replay", "runs.csv", "--as", "base.yaml", "--fit", "-o", "fitted.yaml", "--json"];
    let (status, text, said) = status_and_texts(&run(&folder, &fit));
    assert_eq!((status, said.as_str()), (0, ""));
    let document: Value = serde_json::from_str(&text).expect("it is JSON");
    let number = |key: &str| {
        let numbers = document["fit"]["numbers"].as_array().expect("a list");
        let found = numbers.iter().find(|number| number["number"] == key).expect("all are listed");
        assert_eq!(found["is_determined"], true, "{found}");
        found["value"].as_f64().expect("a number")
    };
    for (rate, times) in truth {
        let found = number(&format!("rates.{rate}"));
        assert!((found / times - 1.0).abs() < 0.03, "{rate}: {found}, not {times}");
    }
    let pass = number("host.pass");
    assert!((pass / 0.9e-3 - 1.0).abs() < 0.03, "{pass}");
    // The description is one that replay reads, and states how far off it is.
    let [_, again] = replayed(&folder, "2", &["runs.csv", "--as", "fitted.yaml"]);
    assert_eq!(again.lines().filter(|line| line.contains(",true,")).count(), 12, "{again}");
    let said = refused(&folder, &["replay", "runs.csv", "--fit", "--as", "nobody"], 2);
    assert!(said.contains("nobody"), "{said}");
}
