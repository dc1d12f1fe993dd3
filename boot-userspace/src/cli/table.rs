//! Tables for people: columns as wide as what is in them.

/// The columns.
pub(super) struct Table<const N: usize> {
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    /// Wide enough for these rows.
    pub(super) fn of(rows: &[[String; N]]) -> Self {
        let mut widths = [0; N];
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        Self { widths }
    }

    /// A row as a line.
    pub(super) fn line(&self, row: &[String; N]) -> String {
        let cells: Vec<String> =
            row.iter().zip(self.widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    }
}

/// Prints a head and rows, and tells how wide the columns were.
pub(super) fn print<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Table<N> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let table = Table::of(&rows);
    rows.iter().for_each(|row| println!("{}", table.line(row)));
    table
}
