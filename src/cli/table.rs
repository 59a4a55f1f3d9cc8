//! Columns that line up.

use std::fmt;

/// Text of a server or of its replicas, which may be anyone's: a terminal shows it and does nothing else with it.
pub(super) fn visible(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect()
}

/// Rows of cells; as text, each column is as wide as its widest cell.
pub(super) struct Table {
    indent: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a first row of headings.
    pub(super) fn new(indent: usize, headings: &[&str]) -> Table {
        Table {
            indent,
            rows: vec![headings.iter().map(|&h| h.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| visible(&cell)).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|c| c.chars().count())
                .max()
        };
        (0..columns)
            .map(|column| width(column).unwrap_or(0))
            .collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let mut table = Table::new(2, &["NAME", "X"]);
        table.row(["a-long-name".to_owned(), "1".to_owned()]);
        table.row(["é".to_owned(), String::new()]);
        assert_eq!(
            table.to_string(),
            "  NAME         X\n  a-long-name  1\n  é\n"
        );
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        let mut table = Table::new(0, &["NAME"]);
        table.row(["\u{1b}[2Ja\nb\u{9b}c".to_owned()]);
        assert_eq!(table.to_string(), "NAME\n [2Ja b c\n");
    }
}
