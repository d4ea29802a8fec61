//! sweep.html: several plans on one page.

use std::fmt::Write as _;

use super::{escape, facts, head, section, tail};
use crate::figure::Figure;
use crate::sweep::SweepReport;

/// The whole page.
pub(crate) fn html(report: &SweepReport<'_>, figures: &[Figure]) -> String {
    let mut html = head(report.title);
    let _ = writeln!(html, "<h1>{}</h1>", escape(report.title));
    facts(&mut html, &[("In common", report.facts)]);
    let _ = writeln!(html, "<section><h2>The best plan of each point</h2>\n{}</section>", report.table.html());
    figures.iter().for_each(|figure| section(&mut html, figure));
    html.push_str("<footer>\n<p>Beside this page: each figure as SVG and PNG.</p>\n</footer>\n");
    html.push_str(&tail());
    html
}
