//! The rpcs of all services and the shape of each (unary or streaming), read from the descriptors.

use std::collections::HashMap;

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

/// The shape of a call: whether its requests and its responses are streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rpc {
    /// Whether the request is a stream of messages.
    pub streams_in: bool,
    /// Whether the response is a stream of messages.
    pub streams_out: bool,
}

/// The calls of all services in the descriptor sets, by path (`/package.Service/Method`).
///
/// # Errors
/// A descriptor set that cannot be decoded.
pub fn rpcs(sets: &[&[u8]]) -> Result<HashMap<String, Rpc>, DecodeError> {
    let mut rpcs = HashMap::new();
    for set in sets {
        for file in FileDescriptorSet::decode(*set)?.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let (streams_in, streams_out) =
                        (method.client_streaming(), method.server_streaming());
                    rpcs.insert(path, Rpc { streams_in, streams_out });
                }
            }
        }
    }
    Ok(rpcs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::DESCRIPTOR;

    #[test]
    fn a_call_has_the_shape_of_its_descriptor() {
        let rpcs = rpcs(&[DESCRIPTOR]).expect("descriptors");
        for (name, expected) in [
            ("Stat", Some((false, false))),
            ("Upload", Some((true, false))),
            ("Download", Some((false, true))),
            ("Backup", Some((true, true))),
            ("Nothing", None),
        ] {
            let rpc = rpcs.get(&format!("/imagestore.v1.ImageStore/{name}"));
            assert_eq!(rpc.map(|rpc| (rpc.streams_in, rpc.streams_out)), expected, "{name}");
        }
        assert!(super::rpcs(&[&[0xff]]).is_err());
    }
}
