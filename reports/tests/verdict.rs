//! What a verdict says of predictions that are right, wrong, old, or of other devices.

mod specimen;

use hetu_reports::verdict::Standing;
use hetu_reports::{
    Choice, Comparison, Evidence, Grid, Measured, Report, Side, Verdict, compare, verdict, write_report,
};
use ir::units::Seconds;
use specimen::Job;

/// One hundred quiet steps of this length.
fn steps(median: f64) -> Measured {
    Measured { median: Seconds(median), spread: Seconds(median * 1e-3), count: 100 }
}

/// Predicted to take one second, and to take between 0.95 and 1.1, from measured prices.
fn evidence(job: &Job, median: f64) -> Evidence<'_> {
    Evidence {
        plan: &job.plan,
        predicted: Seconds(1.0),
        between: Some([Seconds(0.95), Seconds(1.1)]),
        measured: steps(median),
        comparison: None,
        shares: Some([0.8, 0.2, 0.0].map(Seconds)),
        unlike: None,
    }
}

/// The comparison of a predicted step with one whose kernels, or whose idle time, took so many times as long.
fn compared(job: &Job, [kernels, idle]: [f64; 2]) -> Comparison {
    let mut measured = job.predicted.clone();
    measured.origin = job.measured.origin;
    for event in measured.events.iter_mut().filter(|event| event.stream.name() == "compute") {
        event.end = event.start + (event.end - event.start) * kernels;
    }
    for totals in &mut measured.totals {
        let before = totals.compute + totals.idle;
        totals.compute = totals.compute * kernels;
        totals.idle = totals.idle * idle;
        measured.step += Seconds((totals.compute + totals.idle - before).0 / 2.0);
    }
    compare(&job.predicted, &measured, &job.programs).expect("the programs are the same")
}

fn said(verdict: &Verdict, words: &str) -> bool {
    verdict.sentence.contains(words)
}

#[test]
fn a_prediction_that_is_right_needs_no_explanation() {
    let job = Job::new();
    let comparison = compared(&job, [1.1, 1.0]);
    let found = verdict(&Evidence { comparison: Some(&comparison), ..evidence(&job, 1.01) });
    assert_eq!(found.standing, Standing::Within);
    assert!(said(&found, "A step took 1.010 s, 1.000 s were predicted (−1.0 %), and it lies in the expected interval"));
    assert!(!said(&found, "in the traced step"), "{}", found.sentence);
}

#[test]
fn the_standing_follows_from_the_interval() {
    let job = Job::new();
    let of = |median: f64| verdict(&evidence(&job, median)).standing;
    assert_eq!(
        [0.94, 0.95, 1.1, 1.11].map(of),
        [Standing::Shorter, Standing::Within, Standing::Within, Standing::Longer]
    );
    let old = verdict(&Evidence { between: None, ..evidence(&job, 2.0) });
    assert_eq!(old.standing, Standing::NoInterval);
    assert!(old.error.is_some_and(|error| (error + 0.5).abs() < 1e-12));
}

#[test]
fn kernels_that_are_all_slower_ask_for_another_profile() {
    let job = Job::new();
    let comparison = compared(&job, [1.2, 1.0]);
    let found = verdict(&Evidence { comparison: Some(&comparison), ..evidence(&job, 1.2) });
    assert!(said(&found, "longer than the expected 0.950 to 1.100 s"), "{}", found.sentence);
    assert!(said(&found, "more of compute (") && !said(&found, "of idle"), "{}", found.sentence);
    assert!(said(&found, "profiling again on an idle machine"), "{}", found.sentence);
    let sum: f64 = found.parts.iter().map(|part| part.measured.0).sum();
    assert!((sum / comparison.step.measured.0 - 1.0).abs() < 0.01, "parts add up: {sum} {:?}", comparison.step);
    let modelled = verdict(&Evidence {
        comparison: Some(&comparison),
        shares: Some([0.2, 0.0, 0.8].map(Seconds)),
        ..evidence(&job, 1.2)
    });
    assert!(said(&modelled, "a profile of this machine by hetu-profile, as 80.0 % of the predicted time rests on"));
    assert!(!said(&modelled, "profiling again"));
}

#[test]
fn a_pipeline_that_idles_asks_for_microbatches() {
    let mut job = Job::new();
    let comparison = compared(&job, [1.0, 4.0]);
    job.plan.microbatches = 4;
    let found = verdict(&Evidence { comparison: Some(&comparison), ..evidence(&job, 1.2) });
    assert!(said(&found, "more of idle") && said(&found, "more microbatches, as ranks idle for"), "{}", found.sentence);
    job.plan.microbatches = 8;
    let found = verdict(&Evidence { comparison: Some(&comparison), ..evidence(&job, 1.2) });
    assert!(!said(&found, "more microbatches"), "{}", found.sentence);
}

#[test]
fn other_devices_few_steps_and_noise_are_told() {
    let job = Job::new();
    let other = verdict(&Evidence { unlike: Some("plan.yaml is for H100"), ..evidence(&job, 9.0) });
    assert_eq!((other.standing, other.error), (Standing::OtherDevices, None));
    assert!(said(&other, "the prediction is of another device"), "{}", other.sentence);
    let few = Measured { count: 2, ..steps(1.0) };
    assert!(said(&verdict(&Evidence { measured: few, ..evidence(&job, 1.0) }), "the median of 2 says little"));
    let noise = Measured { spread: Seconds(0.08), ..steps(1.0) };
    assert!(said(&verdict(&Evidence { measured: noise, ..evidence(&job, 1.0) }), "steps scatter by 8.0 %"));
}

#[test]
fn page_and_results_have_the_sentence() {
    let job = Job::new();
    let found = verdict(&evidence(&job, 1.05));
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports/verdict");
    let report = Report { verdict: Some(&found), ..job.report() };
    write_report(&folder, &report).expect("the folder can be written");
    let [page, results] =
        ["report.html", "results.json"].map(|name| std::fs::read_to_string(folder.join(name)).expect("it is written"));
    let place = page.find("<p class=\"verdict\">A step took 1.050 s").expect("the page has it");
    assert!(place < page.find("class=\"lead\"").expect("it has a lead"), "it comes first");
    let results: serde_json::Value = serde_json::from_str(&results).expect("it is JSON");
    assert_eq!(results["verdict"]["sentence"].as_str(), Some(found.sentence.as_str()));
    assert_eq!(results["verdict"]["standing"], "within");
}

#[test]
fn how_a_plan_was_chosen_stands_on_its_page() {
    let job = Job::new();
    let grid = |word: &str| Grid {
        columns: vec![("#".to_owned(), Side::Right), ("why".to_owned(), Side::Left)],
        rows: vec![vec!["1".to_owned(), format!("{word} <b>")]],
        below: Some(1),
        chosen: Some(0),
        notes: vec!["a note".to_owned()],
    };
    let choice = Choice {
        candidates: grid("compute"),
        recipes: grid("recipe"),
        memory: grid("moments"),
        grounds: vec![("Searched".to_owned(), "57 choices".to_owned())],
        ..Choice::default()
    };
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports/choice");
    write_report(&folder, &Report { choice: Some(&choice), ..job.report() }).expect("the folder can be written");
    let page = std::fs::read_to_string(folder.join("report.html")).expect("it is written");
    for words in ["compute &lt;b&gt;", "recipe &lt;b&gt;", "moments &lt;b&gt;", "57 choices", "ZeRO-3 = FSDP", "a note"]
    {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.contains("<i class=\"mark\""), "points have labels");
    assert_eq!(page.matches("Plans that were considered").count(), 2, "the figure once, with its title");
}
