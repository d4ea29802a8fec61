//! The page of a plan has what the terminal has; man pages and completions are those of the help.

#![allow(clippy::unwrap_used, reason = "a test that cannot read what was written stops")]

mod place;

use std::fs;

use place::{folder, run, status_and_texts};

#[track_caller]
fn said(name: &str, arguments: &[&str]) -> (std::path::PathBuf, String) {
    let folder = folder(name);
    let (status, text, errors) = status_and_texts(&run(&folder, arguments));
    assert_eq!(status, 0, "{errors}");
    (folder, text)
}

#[test]
fn the_page_has_what_the_terminal_has() {
    let (folder, text) = said("page", &["model.yaml", "--cluster", "4xCPU", "--report", "out", "--pick", "2"]);
    let page = fs::read_to_string(folder.join("out/report.html")).unwrap();
    for words in [
        "Plans that were compared",
        "Usual recipes",
        "fully sharded, full recomputation",
        "Memory of each stage by what it holds",
        "<dt>Searched</dt>",
        "<dt>Trust</dt>",
        "<dt>Between</dt>",
        "<small>MFU</small>",
        "measured steps are expected between",
        "ZeRO-3 = FSDP",
        "<i class=\"mark\"",
    ] {
        assert!(page.contains(words), "{words}");
    }
    // Each reason of the terminal stands on the page.
    let mut reasons = text.lines().filter_map(|line| {
        let first: u32 = line.split_whitespace().next()?.parse().ok()?;
        Some((first, line.rsplit("  ").next()?.trim().to_owned()))
    });
    assert!(reasons.next().is_some_and(|(first, _)| first == 1), "{text}");
    for (number, reason) in reasons {
        assert!(page.contains(&reason), "{number}: {reason}");
    }
    let chosen = page.split("<tr class=\"chosen\">").nth(1).unwrap();
    assert!(chosen.starts_with("<td>2</td>"), "the picked plan stands out");
    let again = fs::read(folder.join("out/report.html")).unwrap();
    run(&folder, &["model.yaml", "--cluster", "4xCPU", "--report", "out", "--pick", "2"]);
    assert!(again == fs::read(folder.join("out/report.html")).unwrap(), "same question, same bytes");
}

#[test]
fn man_pages_and_completions_know_commands_and_presets() {
    let (folder, _) = said("man", &["--man", "pages"]);
    let page = |name: &str| fs::read_to_string(folder.join("pages").join(name)).unwrap();
    assert!(page("hetu-plan.1").contains("EXIT STATUS") && page("hetu-plan.1").contains("memory\\-headroom"));
    assert!(page("hetu-plan-check.1").contains("name every violation"));
    for shell in ["bash", "zsh", "fish"] {
        let (_, text) = said("completions", &["--completions", shell]);
        // fish completes values of options only.
        assert!(shell == "fish" || text.contains("tiny-llama gpt2-124m"), "{shell}");
        assert!(text.contains("8xH100"), "{shell}");
        assert!(shell != "zsh" || text.contains(":{_alternative \"names:name:(tiny-gpt "), "files as well as names");
    }
    let (_, help) = said("help", &["--help"]);
    assert!(!help.contains("possible values: tiny"), "the list of models is `hetu-plan models`");
}
