//! The wire: generated messages, the service as its callers see it, and the mapping between errors and statuses.
//!
//! **Invariant:** this module does not use the store; only `grpc` uses both.

pub mod backend;
pub mod by_reference;
pub mod codec;
pub mod convert;
mod redacted;
pub mod request;
pub mod rpc;
pub mod status;
pub mod timeout;

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

/// The metadata key of a watch of all operations; its value is the number of the last change before the watch.
pub const LAST_CHANGE: &str = "imagestore-change";

/// The header of a response that tells when the caller's token ends, if that is soon; its value is a time in RFC 3339.
pub const TOKEN_EXPIRES: &str = "x-imagestore-token-expires";

/// The descriptor of every file of the API, imported ones included, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The descriptors of the error details (`google/rpc/error_details.proto`) and of their imports, for reflection. The
/// crate `tonic_types` names these files without their folder, so the file of the details is renamed here to the
/// name by which other files import it. `status.proto` is left out, since it is in [`DESCRIPTOR`].
///
/// # Errors
/// Descriptors that cannot be decoded.
pub fn error_details() -> Result<FileDescriptorSet, DecodeError> {
    let mut set = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
    set.file.retain(|file| file.name() != "status.proto");
    for file in set.file.iter_mut().filter(|file| file.name() == "error_details.proto") {
        file.name = Some("google/rpc/error_details.proto".to_owned());
    }
    Ok(set)
}
