//! A table for people: the first column to the left, numbers to the right.

use std::fmt::Write;

/// Rows of as many cells each, the head first; every line ends.
pub(super) fn table<R: AsRef<[String]>>(rows: &[R]) -> String {
    let rows = || rows.iter().map(R::as_ref);
    let columns = rows().map(<[String]>::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows() {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _infallible = match at {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["name", "ms"], ["größe", "7"], ["x", "1234"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "name     ms\ngröße     7\nx      1234\n");
    }
}
