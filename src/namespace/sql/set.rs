//! Statements over sets of rows: one text, which an engine in this process runs row by row, and an engine behind
//! a connection once for all rows, in one round trip.
//!
//! **Deliberately absent:** the order of the rows of a result. A statement returns the columns by which its
//! caller finds the rows of the set again.

use super::Param;

/// A statement over a set of rows, in its two forms. Made by `set`.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// The statement for one row.
    pub one: &'static str,
    /// The statement for all rows: each parameter is an array, a column of the set.
    pub many: &'static str,
}

/// A statement and the rows of its set.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The statement.
    pub set: Set,
    width: usize,
    params: Vec<Param<'a>>,
}

impl<'a> Rows<'a> {
    /// A statement over rows of as many columns as the array has.
    pub fn new<const WIDTH: usize>(
        set: Set,
        rows: impl IntoIterator<Item = [Param<'a>; WIDTH]>,
    ) -> Self {
        Self { set, width: WIDTH.max(1), params: rows.into_iter().flatten().collect() }
    }

    /// Whether the set has no rows.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = &[Param<'a>]> {
        self.params.chunks_exact(self.width)
    }

    /// The columns.
    pub fn columns(&self) -> impl Iterator<Item = Vec<Param<'a>>> {
        (0..self.width).map(|at| self.params.iter().skip(at).step_by(self.width).copied().collect())
    }
}

/// Makes a [`Set`] of the text before and after the set, and of the parameters, names and types of its columns. The
/// set is the table `r` of the statement.
macro_rules! set {
    (
        $before:expr,
        [$first:literal $name:literal $kind:literal
            $(, $other:literal $other_name:literal $other_kind:literal)* $(,)?],
        $after:expr
    ) => {
        $crate::namespace::sql::Set {
            one: concat!(
                $before,
                " (SELECT ", $first, " AS ", $name,
                $(", ", $other, " AS ", $other_name,)*
                ") AS r ",
                $after
            ),
            many: concat!(
                $before,
                " UNNEST(CAST(", $first, " AS ", $kind, "[])",
                $(", CAST(", $other, " AS ", $other_kind, "[])",)*
                ") AS r (", $name, $(", ", $other_name,)* ") ",
                $after
            ),
        }
    };
}
pub(crate) use set;
