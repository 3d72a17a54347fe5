//! Columns for people.

/// Rows under their heads, each column as wide as it must be; numbers to the right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|head| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        !rows.is_empty() && cells.all(|cell| cell == "-" || cell.parse::<i64>().is_ok())
    };
    let to_the_right: Vec<bool> = (0..heads.len()).map(is_number).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, width), right) in cells.zip(&widths).zip(&to_the_right) {
            if !text.is_empty() {
                text.push_str("  ");
            }
            match right {
                true => text.push_str(&format!("{cell:>width$}")),
                false => text.push_str(&format!("{cell:<width$}")),
            }
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut heads.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a", "1"], ["longer", "200"]].map(|row| row.map(str::to_owned).to_vec());
        let text = table(&["NAME", "LAG"], &rows);
        assert_eq!(text, "NAME    LAG\na         1\nlonger  200\n");
        assert_eq!(table(&["NAME"], &[]), "NAME\n");
    }
}
