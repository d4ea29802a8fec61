//! How a plan was chosen, as a page shows it: what a terminal prints, as cells instead of aligned text.

use std::fmt::Write as _;

use crate::page::escape;

/// All that a search says of its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Numbers that matter most, beside those that follow from traces.
    pub cards: Vec<Card>,
    /// Plans that were compared, with why others were not chosen.
    pub candidates: Grid,
    /// What one would do without a search.
    pub recipes: Grid,
    /// Memory of each stage by what it holds.
    pub memory: Grid,
    /// What was searched, and what the numbers rest on: names and sentences.
    pub grounds: Vec<(String, String)>,
}

/// A number that matters, with what one should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// What it is.
    pub name: String,
    /// The number, with its unit.
    pub value: String,
    /// What one should know.
    pub detail: String,
}

/// Rows of cells below a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grid {
    /// Names of the columns, and on which side their cells end.
    pub columns: Vec<(String, Side)>,
    /// Rows, each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// The column that is too long for a row and stands below it, if any.
    pub below: Option<usize>,
    /// The row to set apart, if any.
    pub chosen: Option<usize>,
    /// Sentences below.
    pub notes: Vec<String>,
}

/// On which side the cells of a column end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A cell with more letters than these may be broken into lines.
const LONG: usize = 40;

impl Grid {
    /// As HTML; nothing where there are no rows.
    pub(crate) fn html(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let side = |column: usize| match self.columns.get(column) {
            Some((_, Side::Left)) => " class=\"words\"",
            Some((_, Side::Right)) | None => "",
        };
        let mut html = String::from("<div class=\"scroll\"><table class=\"grid\"><thead><tr>");
        let is_in_row = |column: &usize| self.below != Some(*column);
        for (column, (name, _)) in self.columns.iter().enumerate().filter(|(column, _)| is_in_row(column)) {
            let _ = write!(html, "<th{}>{}</th>", side(column), escape(name));
        }
        html.push_str("</tr></thead><tbody>\n");
        for (index, row) in self.rows.iter().enumerate() {
            html.push_str(if self.chosen == Some(index) { "<tr class=\"chosen\">" } else { "<tr class=\"other\">" });
            for (column, cell) in row.iter().enumerate().filter(|(column, _)| is_in_row(column)) {
                let side = if cell.chars().count() > LONG { " class=\"words long\"" } else { side(column) };
                let _ = write!(html, "<td{side}>{}</td>", escape(cell));
            }
            html.push_str("</tr>\n");
            if let Some(words) = self.below.and_then(|column| row.get(column)) {
                let span = self.columns.len().saturating_sub(2);
                let _ =
                    writeln!(html, "<tr class=\"below\"><td></td><td colspan=\"{span}\">{}</td></tr>", escape(words));
            }
        }
        html.push_str("</tbody></table></div>\n");
        for note in &self.notes {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
        }
        html
    }
}
