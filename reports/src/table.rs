//! Tables: once as aligned text, once as HTML.

use std::fmt::Write as _;

use crate::page::escape;

/// Rows of cells under a header. The first column holds names, the others numbers with their units.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// Names of the columns.
    pub(crate) header: Vec<String>,
    /// Rows, each as long as the header.
    pub(crate) rows: Vec<Row>,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// How far its name stands in: parts of what is above.
    pub(crate) indent: usize,
    /// What its columns show.
    pub(crate) cells: Vec<String>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(header: &[&str]) -> Table {
        Table { header: header.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row whose name stands `indent` steps in.
    pub(crate) fn push(&mut self, indent: usize, cells: Vec<String>) {
        assert_eq!(cells.len(), self.header.len(), "a row has a cell for each column: {cells:?}");
        self.rows.push(Row { indent, cells });
    }

    /// Aligned columns: names to the left, numbers to the right.
    pub(crate) fn text(&self) -> String {
        let shown = |row: &Row| -> Vec<String> {
            let mut cells = row.cells.clone();
            cells[0] = format!("{}{}", "  ".repeat(row.indent), cells[0]);
            cells
        };
        let rows: Vec<Vec<String>> = std::iter::once(self.header.clone()).chain(self.rows.iter().map(shown)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for (cell, width) in row.iter().zip(&widths).skip(1) {
                let _ = write!(line, "   {cell:>width$}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// An HTML table that scrolls sideways where the page is narrow.
    pub(crate) fn html(&self) -> String {
        let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
        for name in &self.header {
            let _ = write!(html, "<th>{}</th>", escape(name));
        }
        html.push_str("</tr></thead><tbody>\n");
        for row in &self.rows {
            let _ = write!(html, "<tr class=\"in{}\">", row.indent);
            for cell in &row.cells {
                let _ = write!(html, "<td>{}</td>", escape(cell));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
        html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_parts_stand_in() {
        let mut table = Table::new(&["", "predicted", "error"]);
        table.push(0, vec!["step".into(), "1.912 s".into(), "−1.8 %".into()]);
        table.push(1, vec!["compute".into(), "10.702 s".into(), String::new()]);
        assert_eq!(
            table.text(),
            "            predicted    error\nstep          1.912 s   −1.8 %\n  compute    10.702 s\n"
        );
    }

    #[test]
    fn html_is_escaped() {
        let mut table = Table::new(&["a<b"]);
        table.push(0, vec!["\"x\" & y".into()]);
        assert!(table.html().contains("<th>a&lt;b</th>"));
        assert!(table.html().contains("<td>&quot;x&quot; &amp; y</td>"));
    }
}
