//! The specification of the image store: each test reads as given, when, then, and calls a whole server over
//! a socket. What both interfaces offer is tested over both, and must have the same result and the same
//! error.

#![allow(
    clippy::cast_possible_truncation,
    clippy::clone_on_ref_ptr,
    clippy::items_after_statements,
    clippy::match_same_arms,
    clippy::needless_pass_by_value,
    clippy::string_slice,
    clippy::wildcard_enum_match_arm,
    reason = "what a test makes is small, and its text is its own"
)]

#[cfg(test)]
mod harness;

#[cfg(test)]
mod access;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod change_tags;
#[cfg(test)]
mod circles;
#[cfg(test)]
mod conditions;
#[cfg(test)]
mod copy;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod deadlines;
#[cfg(test)]
mod dependencies;
#[cfg(test)]
#[path = "../support/dice.rs"]
mod dice;
#[cfg(test)]
mod files;
#[cfg(test)]
mod forwarded;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod grpc_beside;
#[cfg(test)]
mod grpc_faults;
#[cfg(test)]
mod grpc_packed;
#[cfg(test)]
mod grpc_transfers;
#[cfg(test)]
mod grpc_wire;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod jwt;
#[cfg(test)]
mod jwt_issuers;
#[cfg(test)]
mod links;
#[cfg(test)]
mod live;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod packages;
#[cfg(test)]
mod parsers;
#[cfg(test)]
mod replace;
#[cfg(test)]
mod rest_bodies;
#[cfg(test)]
mod rest_conditions;
#[cfg(test)]
mod rest_connections;
#[cfg(test)]
mod rest_content;
#[cfg(test)]
mod rest_guard;
#[cfg(test)]
mod rest_operations;
#[cfg(test)]
mod rest_paging;
#[cfg(test)]
mod rest_paths;
#[cfg(test)]
mod rest_routes;
#[cfg(test)]
mod rest_sessions;
#[cfg(test)]
mod rest_shapes;
#[cfg(test)]
mod rest_upload;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod running;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod skip;
#[cfg(test)]
mod surface;
#[cfg(test)]
mod tidy;
#[cfg(test)]
mod unpack;
#[cfg(test)]
mod upload_onto;
