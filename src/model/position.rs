//! Where something is in a text.

/// A line and a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The start of a text.
    pub const START: Self = Self { line: 1, column: 1 };

    /// The position of the byte `start` of a text; of the end of the text, if it is shorter.
    pub fn of(text: &str, start: usize) -> Self {
        let before = text.get(..text.floor_char_boundary(start)).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.get(line_start..).unwrap_or_default();
        Self { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters() {
        let text = "a\näb\n";
        for (start, line, column) in
            [(0, 1, 1), (1, 1, 2), (2, 2, 1), (3, 2, 1), (4, 2, 2), (6, 3, 1), (99, 3, 1)]
        {
            assert_eq!(Position::of(text, start), Position { line, column }, "{start}");
        }
        assert_eq!(Position::of("", 0), Position::START);
    }
}
