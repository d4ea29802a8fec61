//! report.html: everything on one page, in one file, readable without a network.

mod glossary;
mod headline;
mod strategies;
mod sweep;

use std::fmt::Write as _;

use crate::figure::{Figure, inline};
use crate::quantity::{counted, percent};
use crate::table::Table;
use crate::{Choice, Comparison, Report};
pub(crate) use sweep::html as sweep_html;

/// Kinds of work shown in the page; results.json has all.
const KINDS_SHOWN: usize = 12;

/// Text in which HTML sees no tags.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The whole page.
pub(crate) fn html(report: &Report<'_>, comparison: Option<&Comparison>, figures: &[Figure]) -> String {
    let mut html = head(report.title);
    html.push_str(&headline::html(report, comparison));
    facts(&mut html, &[("Model", report.model), ("Cluster", report.cluster)]);
    html.push_str("<section><h2>Strategy of each layer</h2>\n");
    html.push_str(&strategies::html(report));
    html.push_str("</section>\n");
    let mut figures: Vec<&Figure> = figures.iter().collect();
    let mut take =
        |name: &str| figures.iter().position(|figure| figure.name == name).map(|index| figures.remove(index));
    if let Some(choice) = report.choice {
        compared(&mut html, choice, take("candidates"));
    }
    take("breakdown").into_iter().for_each(|figure| section(&mut html, figure));
    comparison_tables(&mut html, report, comparison);
    if let Some(choice) = report.choice.filter(|choice| !choice.memory.rows.is_empty()) {
        let _ = writeln!(
            html,
            "<section><h2>Memory of each stage by what it holds</h2>\n{}</section>",
            choice.memory.html()
        );
    }
    figures.into_iter().for_each(|figure| section(&mut html, figure));
    if let Some(choice) = report.choice.filter(|choice| !choice.grounds.is_empty()) {
        grounds(&mut html, choice);
    }
    html.push_str(&glossary::html(report));
    footer(&mut html, report);
    html.push_str(&tail());
    html
}

/// The beginning of a page, up to its content.
fn head(title: &str) -> String {
    let mut html = String::from("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    let _ = writeln!(html, "<title>{}</title>", escape(title));
    let _ = writeln!(html, "<style>\n{}{}</style></head>\n<body><main>", colours(), include_str!("style.css"));
    html
}

/// The end of a page, behind its content.
fn tail() -> String {
    format!("</main><script>\n{}</script></body></html>\n", include_str!("script.js"))
}

fn section(html: &mut String, figure: &Figure) {
    let _ = writeln!(html, "<section><h2>{}</h2>", escape(&figure.title));
    html.push_str(&inline::html(figure));
    html.push_str("</section>\n");
}

/// The list of plans, their plot, and usual recipes.
fn compared(html: &mut String, choice: &Choice, figure: Option<&Figure>) {
    let _ = writeln!(html, "<section><h2>Plans that were compared</h2>\n{}", choice.candidates.html());
    if let Some(figure) = figure {
        let _ = writeln!(html, "<h3>{}</h3>\n{}", escape(&figure.title), inline::html(figure));
    }
    html.push_str("</section>\n");
    if !choice.recipes.rows.is_empty() {
        let _ = writeln!(html, "<section><h2>Usual recipes</h2>\n{}</section>", choice.recipes.html());
    }
}

/// What numbers rest on.
fn grounds(html: &mut String, choice: &Choice) {
    html.push_str("<section><h2>What was searched, and what the numbers rest on</h2>\n<dl>");
    for (name, words) in &choice.grounds {
        let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(words));
    }
    html.push_str("</dl></section>\n");
}

/// Colours as style-sheet variables, for light and dark.
fn colours() -> String {
    use crate::figure::Colour;
    let list = |of: fn(Colour) -> [u8; 3]| -> String {
        let one = |colour: Colour| {
            let [red, green, blue] = of(colour);
            format!("--{}:#{red:02x}{green:02x}{blue:02x};", colour.name())
        };
        Colour::ALL.into_iter().map(one).collect()
    };
    let mut css = format!(":root{{{}}}\n", list(Colour::light));
    let _ = writeln!(css, "@media (prefers-color-scheme:dark){{:root{{{}}}}}", list(Colour::dark));
    for name in Colour::ALL.map(Colour::name) {
        let _ = writeln!(css, ".{name}{{--c:var(--{name})}}");
    }
    css
}

/// Model and cluster, side by side where there is room.
fn facts(html: &mut String, lists: &[(&str, &[(String, String)])]) {
    if lists.iter().all(|(_, rows)| rows.is_empty()) {
        return;
    }
    html.push_str("<section class=\"facts\">\n");
    for (name, rows) in lists {
        if rows.is_empty() {
            continue;
        }
        let _ = write!(html, "<div><h2>{name}</h2><dl>");
        for (key, value) in *rows {
            let _ = write!(html, "<dt>{}</dt><dd>{}</dd>", escape(key), escape(value));
        }
        html.push_str("</dl></div>\n");
    }
    html.push_str("</section>\n");
}

fn comparison_tables(html: &mut String, report: &Report<'_>, comparison: Option<&Comparison>) {
    let Some(comparison) = comparison else { return };
    html.push_str("<section><h2>Predicted beside measured</h2>\n");
    if let Some(unlike) = report.unlike {
        let _ = writeln!(html, "<p class=\"warning\">{}.</p>", escape(unlike));
    }
    html.push_str(&comparison.summary().html());
    html.push_str(
        "<p class=\"note\">Exchange and transfer are counted in full, also where they are hidden behind compute; \
         the error is predicted over measured, less one.</p>\n",
    );
    if !comparison.kinds.is_empty() {
        html.push_str("<h3>By kind of work, largest error in seconds first</h3>\n");
        let table: Table = comparison.kinds_table(KINDS_SHOWN);
        html.push_str(&table.html());
    }
    let left = comparison.kinds.len().saturating_sub(KINDS_SHOWN);
    if left > 0 {
        let _ = writeln!(html, "<p class=\"note\">{} more in results.json.</p>", counted(left, "kind"));
    }
    html.push_str("</section>\n");
}

/// What the numbers rest on.
fn footer(html: &mut String, report: &Report<'_>) {
    html.push_str("<footer>\n");
    if let Some(predicted) = report.predicted {
        let sum: f64 = predicted.shares.iter().map(|share| share.0).sum();
        if sum > 0.0 {
            let [measured, interpolated, modelled] = predicted.shares.map(|share| percent(share.0 / sum));
            let _ = writeln!(
                html,
                "<p>Of the predicted time, {measured} rests on measured, {interpolated} on interpolated and {modelled} \
                 on modelled costs.</p>"
            );
        }
    }
    let _ = writeln!(html, "<p>Programs {:016x}. ", report.programs.digest());
    if report.predicted.is_some() || report.measured.is_some() {
        html.push_str("Beside this page: trace.json for ui.perfetto.dev, ");
    } else {
        html.push_str("Beside this page: ");
    }
    html.push_str("results.json with all numbers, each figure as SVG and PNG.</p>\n</footer>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_tags() {
        assert_eq!(escape("<b> & \"c\" 'd'"), "&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
    }
}
