//! Image Store: keeps application packages.

pub mod error;
pub mod limits;
pub mod model;
pub mod namespace;
pub mod wire;
