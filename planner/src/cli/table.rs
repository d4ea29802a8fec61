//! Aligned columns of text.

use super::output::{BEST, painted};

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
    best_first: bool,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new(), best_first: false }
    }

    /// The same with its first row emphasised where there are colours.
    pub(crate) fn best_first(self) -> Table {
        Table { best_first: true, ..self }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column: {cells:?}");
        self.rows.push(cells);
    }

    /// The text, two spaces in and two between columns, without spaces at the ends of lines. Columns in which nothing
    /// stands are left out.
    pub(crate) fn text(&self) -> String {
        self.laid_out(&self.filled(), &[], usize::MAX)
    }

    /// The same in lines of so many columns, if that can be: columns of `dropped` are left out first, then those of
    /// `below` go to a line of their own below each row, the first of them first; what says by itself what it is
    /// stands there without its name.
    pub(crate) fn within(&self, width: Option<usize>, dropped: &[&str], below: &[&str]) -> String {
        let width = width.unwrap_or(usize::MAX);
        let mut shown = self.filled();
        let named = |column: usize| self.columns[column].0;
        let fits = |shown: &[usize]| shown.iter().map(|&column| self.width(column) + 2).sum::<usize>() <= width;
        for name in dropped {
            if !fits(&shown) {
                shown.retain(|&column| named(column) != *name);
            }
        }
        let mut moved: Vec<usize> = Vec::new();
        for name in below {
            if !fits(&shown) {
                moved.extend(shown.iter().copied().filter(|&column| named(column) == *name));
                shown.retain(|&column| named(column) != *name);
            }
        }
        self.laid_out(&shown, &moved, width)
    }

    /// Columns in which something stands.
    fn filled(&self) -> Vec<usize> {
        let stands = |column: &usize| self.rows.is_empty() || self.rows.iter().any(|row| !row[*column].is_empty());
        (0..self.columns.len()).filter(stands).collect()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().map(|row| row[column].chars().count());
        cells.chain([self.columns[column].0.chars().count()]).max().unwrap_or(0)
    }

    fn laid_out(&self, shown: &[usize], moved: &[usize], width: usize) -> String {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut text = String::new();
        for (index, row) in std::iter::once(&header).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for &column in shown {
                line.push_str("  ");
                let padding = " ".repeat(self.width(column) - row[column].chars().count());
                match self.columns[column].1 {
                    Side::Left => line.extend([row[column].as_str(), &padding]),
                    Side::Right => line.extend([padding.as_str(), &row[column]]),
                }
            }
            let line = line.trim_end();
            text += &if index == 1 && self.best_first { painted(BEST, line) } else { line.to_owned() };
            text.push('\n');
            if index > 0 {
                let mut parts: Vec<String> = moved.iter().filter_map(|&column| self.part(row, column)).collect();
                parts.reverse();
                if !parts.is_empty() {
                    text += &below(&parts.join("; "), width);
                }
            }
        }
        text
    }

    /// A cell that was moved below its row.
    fn part(&self, row: &[String], column: usize) -> Option<String> {
        let (cell, (name, _)) = (&row[column], self.columns[column]);
        match name {
            _ if cell.is_empty() => None,
            "why" | "beside the best" => Some(cell.clone()),
            name => Some(format!("{name} {cell}")),
        }
    }
}

/// A text in lines that stand in from the row above.
fn below(text: &str, width: usize) -> String {
    indented(text, 6, width)
}

/// A text in lines of at most so many columns, all of which stand in.
pub(crate) fn indented(text: &str, indent: usize, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if !last.is_empty() && indent + last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            let space = if last.is_empty() { "" } else { " " };
            last.extend([space, word]);
        }
    }
    lines.iter().map(|line| format!("{}{line}\n", " ".repeat(indent))).collect()
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

    #[test]
    fn narrow_lines_drop_a_column_and_put_reasons_below() {
        let columns = [
            ("#", Side::Right),
            ("shard", Side::Left),
            ("step", Side::Right),
            ("off", Side::Right),
            ("why", Side::Left),
        ];
        let mut table = Table::new(&columns);
        table.push(vec!["1".into(), "nothing".into(), "9.5 s".into(), "0 %".into(), "all is compute here".into()]);
        let within = |width| table.within(Some(width), &["off"], &["why", "shard"]);
        assert_eq!(within(50), "  #  shard     step  off  why\n  1  nothing  9.5 s  0 %  all is compute here\n");
        assert_eq!(within(42), "  #  shard     step  why\n  1  nothing  9.5 s  all is compute here\n");
        assert_eq!(within(20), "  #  shard     step\n  1  nothing  9.5 s\n      all is compute\n      here\n");
        assert_eq!(
            within(12),
            "  #   step\n  1  9.5 s\n      shard\n      nothing;\n      all is\n      compute\n      here\n"
        );
    }
}
