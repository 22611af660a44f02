//! The address of a server.

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
/// which the message does not show; the errors of [`tls`].
pub(super) fn endpoint(address: &str, options: &Options) -> Result<(String, Endpoint)> {
    let unfit = |address: &str, why: String| Error::Address { address: address.to_owned(), why };
    let server =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    if let Some((before, host)) = server.rsplit_once('@') {
        let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
        let why = "it has a user, and a token of --token-file says who the caller is";
        return Err(unfit(&format!("{scheme}://…@{host}"), why.to_owned()));
    }
    let endpoint = Endpoint::from_shared(server.clone())
        .map_err(|error| unfit(address, root_cause(&error)))?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
