//! A row of a result.

use crate::{
    error::{Error, Result},
    limits::TOTAL_MAX,
    model::Digest,
    namespace::sql::Value,
};

/// A row of a result. Reading a column as another type than it has is an internal error: a fault of the
/// program or of the database file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// An integer.
    pub fn int(&self, column: usize) -> Result<i64> {
        self.opt_int(column)?.ok_or_else(|| mismatch(column, "an integer"))
    }

    /// An integer or NULL.
    pub fn opt_int(&self, column: usize) -> Result<Option<i64>> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(Some(*value)),
            Some(Value::Null) => Ok(None),
            _ => Err(mismatch(column, "an integer")),
        }
    }

    /// A count of rows, files or bytes, bounded to 0..=[`TOTAL_MAX`], so that sums over damaged rows do not
    /// overflow.
    pub fn count(&self, column: usize) -> Result<i64> {
        self.int(column).map(bounded)
    }

    /// A count as [`Row::count`] reads it, or NULL.
    pub fn opt_count(&self, column: usize) -> Result<Option<i64>> {
        Ok(self.opt_int(column)?.map(bounded))
    }

    /// Text.
    pub fn text(&self, column: usize) -> Result<String> {
        self.opt_text(column)?.ok_or_else(|| mismatch(column, "text"))
    }

    /// Text or NULL.
    pub fn opt_text(&self, column: usize) -> Result<Option<String>> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(Some(value.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(mismatch(column, "text")),
        }
    }

    /// Bytes or NULL.
    pub fn opt_bytes(&self, column: usize) -> Result<Option<Vec<u8>>> {
        match self.0.get(column) {
            Some(Value::Bytes(value)) => Ok(Some(value.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(mismatch(column, "bytes")),
        }
    }

    /// A digest.
    pub fn digest(&self, column: usize) -> Result<Digest> {
        self.opt_digest(column)?.ok_or_else(|| mismatch(column, "a digest"))
    }

    /// A digest or NULL.
    pub fn opt_digest(&self, column: usize) -> Result<Option<Digest>> {
        self.opt_bytes(column)?
            .map(|bytes| bytes.try_into().map(Digest).map_err(|_| mismatch(column, "a digest")))
            .transpose()
    }
}

/// The nearest count that a store can have.
fn bounded(number: i64) -> i64 {
    number.clamp(0, TOTAL_MAX)
}

fn mismatch(column: usize, wanted: &str) -> Error {
    Error::internal(format!("column {column} of a row is not {wanted}"))
}
