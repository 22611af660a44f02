//! The wire: generated messages, and the total mapping between an error and its status.
//!
//! **Invariant:** nothing here knows the store. `grpc` alone joins the two.

pub mod convert;
pub mod request;
pub mod status;

/// The package `imagestore.v1`, generated from `proto/imagestore/v1/image_store.proto`.
pub mod v1 {
    #![allow(
        missing_docs,
        unreachable_pub,
        unused_qualifications,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::wildcard_enum_match_arm,
        clippy::large_futures,
        reason = "generated"
    )]
    tonic::include_proto!("imagestore.v1");
}

/// The metadata with the number of the last change before a watch of all operations.
pub const LAST_CHANGE: &str = "imagestore-change";

/// The descriptor of every file of the API, imported ones included, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
