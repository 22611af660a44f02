//! Decides what a caller may do: roles, path patterns and grants, independent of database and wire format.
//!
//! Who the caller is, the server has decided before, by the credential of the request. A [`Call`] of the store is made
//! only by [`RequestContext::authorize`], which asks for the rights that the table of [`Rpc`] names.
//!
//! Rights only add up. No grant takes away what another one gives, and their order does not matter.

mod call;
mod caller;
mod granted;
mod grants;
#[cfg(test)]
mod grants_tests;
mod issuer;
mod link;
mod pattern;
mod place;
mod principal;
mod record;
mod rights;
mod role;
mod rpc;
mod token;
mod who;

pub use call::{Call, RequestContext};
pub use caller::{Caller, Expiry};
pub use grants::Grants;
pub use issuer::{Aad, Issuer, key_address};
pub use link::{
    Fingerprint, LINK_EXPIRES, LINK_MAKER, LINK_SIGNATURE, Link, LinkForm, LinkKey, LinkKeyNumbers,
    Maker, SignedLink,
};
pub use pattern::Pattern;
pub use place::GrantsError;
pub use principal::Principal;
pub use record::{CallRecord, Recorded};
pub use rights::Rights;
pub use role::Role;
pub use rpc::Rpc;
pub use token::{TOKEN_PREFIX, new_token_id, new_token_secret, read_token_secret};
pub use who::{ANONYMOUS, CERTIFICATE_SHA256, GROUP, SIGNED_NAMES};

use crate::{error::Result, limits::ECHO_BYTES_MAX};

/// The caller of a request, as the door has identified it, or why its credential is refused.
pub type Identity = Result<Caller>;

/// The text as a part of a message of one line: control characters are escaped, since the message may reach a
/// terminal or a log, and a text above [`ECHO_BYTES_MAX`] loses its middle.
pub fn shown(text: &str) -> String {
    const GAP: &str = "…";
    let (start, gap, end) = if text.len() > ECHO_BYTES_MAX {
        let half = (ECHO_BYTES_MAX - GAP.len()) / 2;
        let start = text.get(..text.floor_char_boundary(half)).unwrap_or_default();
        let end = text.get(text.ceil_char_boundary(text.len() - half)..).unwrap_or_default();
        (start, GAP, end)
    } else {
        (text, "", "")
    };
    let mut shown = String::with_capacity(text.len().min(ECHO_BYTES_MAX));
    for c in [start, gap, end].into_iter().flat_map(str::chars) {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_text_is_one_short_line() {
        assert_eq!(shown("a b"), "a b");
        assert_eq!(shown("a\nb\u{1b}"), "a\\nb\\u{1b}");
        let full = "ü".repeat(ECHO_BYTES_MAX / 2);
        assert_eq!(shown(&full), full);
        let half = "ü".repeat(ECHO_BYTES_MAX / 4 - 1);
        assert_eq!(shown(&format!("{full}{full}")), format!("{half}…{half}"));
    }
}
