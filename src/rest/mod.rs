//! The axum gateway.

pub mod api_version;
pub mod content_range;
pub mod copy_body;
pub mod path;
pub mod query;
