//! Image Store: keeps application packages.

pub mod error;
pub mod limits;
pub mod wire;
