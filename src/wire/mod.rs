//! The wire: generated messages, and the total mapping between an error and its status.
//!
//! **Invariant:** nothing here knows the store. `grpc` alone joins the two.

pub mod backend;
pub mod by_reference;
pub mod codec;
pub mod convert;
pub mod request;
pub mod rpc;
pub mod status;

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

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

/// The descriptors of the details of errors and of what these import, for reflection. The crate that has
/// them names the files without their folder; here the one of the details has the name that others
/// import. That of the status is in [`DESCRIPTOR`].
///
/// # Errors
/// Descriptors that cannot be read.
pub fn error_details() -> Result<FileDescriptorSet, DecodeError> {
    let mut set = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    set.file.retain(|file| file.name() != "status.proto");
    for file in set.file.iter_mut().filter(|file| file.name() == "error_details.proto") {
        file.name = Some("google/rpc/error_details.proto".to_owned());
    }
    Ok(set)
}
