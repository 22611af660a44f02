//! The address of a server.

use std::net::IpAddr;

use http::Uri;
use tonic::transport::Endpoint;

use super::{
    Options,
    error::{Error, Result, root_cause},
    tls,
};

/// The address with its scheme, and an endpoint that would connect to it.
///
/// # Errors
/// [`Error::Address`] if the address is malformed, has another scheme than `http` and `https`, or a user or password,
/// which the message does not show, or if it has no scheme and a token would go to another machine in plain text; the
/// errors of [`tls`].
pub(super) fn endpoint(address: &str, options: &Options) -> Result<(String, Endpoint)> {
    let unfit = |address: &str, why: String| Error::Address { address: address.to_owned(), why };
    let has_scheme = address.contains("://");
    let server = if has_scheme { address.to_owned() } else { format!("http://{address}") };
    if let Some((before, host)) = server.rsplit_once('@') {
        let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
        let why = "it has a user, and a token of --token-file says who the caller is";
        return Err(unfit(&format!("{scheme}://…@{host}"), why.to_owned()));
    }
    let endpoint = Endpoint::from_shared(server.clone())
        .map_err(|error| unfit(address, root_cause(&error)))?;
    if !has_scheme && options.token.is_some() && !is_this_machine(endpoint.uri()) {
        let why = format!(
            "it has no scheme, and a token would be sent in plain text; write https://{address}, or \
             http://{address} if nobody else sees that network"
        );
        return Err(unfit(address, why));
    }
    let endpoint = match endpoint.uri().scheme_str() {
        Some("https") => {
            let tls = tls::config(options)?;
            endpoint.tls_config(tls).map_err(|error| unfit(address, root_cause(&error)))?
        }
        Some("http") => tls::without(endpoint, options)?,
        _ => return Err(unfit(address, "only http and https are spoken".to_owned())),
    };
    Ok((server, endpoint))
}

/// Whether the host of an address is this machine.
fn is_this_machine(address: &Uri) -> bool {
    let host = address.host().unwrap_or_default();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_token_leaves_this_machine_in_plain_text_only_where_that_is_written() {
        let token = Some(Secret::from("imagestore_hidden".to_owned()));
        let options = Options { token, ..Options::default() };
        for address in [
            "localhost:1",
            "LocalHost",
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "http://there:1",
            "https://there:1",
        ] {
            endpoint(address, &options).expect(address);
        }
        for address in
            ["there", "there:1", "192.0.2.1:1", "[2001:db8::1]:1", "localhost.example", "127.a"]
        {
            let said = endpoint(address, &options).expect_err(address).to_string();
            let says = format!("write https://{address}, or http://{address} if");
            assert!(said.contains(&says) && !said.contains("hidden"), "{said}");
            endpoint(address, &Options::default()).expect("without a token");
        }
    }

    #[test]
    fn an_address_gets_a_scheme() {
        for (address, server) in [
            ("localhost:1", "http://localhost:1"),
            ("http://[::1]:1", "http://[::1]:1"),
            ("https://there", "https://there"),
        ] {
            let (found, _) = endpoint(address, &Options::default()).expect(address);
            assert_eq!(found, server);
        }
    }

    #[test]
    fn an_address_with_a_password_is_refused_without_it() {
        for address in ["https://me:hidden@there:1", "me:hidden@there:1", "http://hidden@x@there:1"]
        {
            let said = endpoint(address, &Options::default()).expect_err(address).to_string();
            assert!(said.contains("…@there:1") && said.contains("--token-file"), "{said}");
            assert!(!said.contains("hidden"), "{said}");
        }
    }
}
