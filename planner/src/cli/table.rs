//! Aligned columns of text.

/// On which side the cells of a column end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under a header.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column: {cells:?}");
        self.rows.push(cells);
    }

    /// The text, two spaces in and two between columns, without spaces at the ends of lines. Columns in which nothing
    /// stands are left out.
    pub(crate) fn text(&self) -> String {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let length = |cell: &String| cell.chars().count();
        let shown = |column: &usize| self.rows.is_empty() || self.rows.iter().any(|row| !row[*column].is_empty());
        let columns: Vec<usize> = (0..self.columns.len()).filter(shown).collect();
        let widest = |column: usize| {
            std::iter::once(&header).chain(&self.rows).map(|row| length(&row[column])).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        let mut text = String::new();
        for row in std::iter::once(&header).chain(&self.rows) {
            let mut line = String::new();
            for &column in &columns {
                line.push_str("  ");
                let padding = " ".repeat(widths[column] - length(&row[column]));
                match self.columns[column].1 {
                    Side::Left => line.extend([row[column].as_str(), &padding]),
                    Side::Right => line.extend([padding.as_str(), &row[column]]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_and_words_begin_together() {
        let mut table =
            Table::new(&[("#", Side::Right), ("shard", Side::Left), ("empty", Side::Left), ("step", Side::Right)]);
        table.push(vec!["1".into(), "nothing".into(), String::new(), "9.5 µs".into()]);
        table.push(vec!["10".into(), "all".into(), String::new(), "10.0 µs".into()]);
        assert_eq!(table.text(), "   #  shard       step\n   1  nothing   9.5 µs\n  10  all      10.0 µs\n");
    }
}
