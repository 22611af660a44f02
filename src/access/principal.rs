//! What grants look at: the names of a caller, and the claims of its JWT.

use std::collections::BTreeMap;

/// The names of a caller, any of which a grant may have, and the claims that a grant may ask for beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    names: Vec<String>,
    claims: BTreeMap<String, String>,
}

impl Principal {
    /// A caller with these names and without claims.
    pub fn named(names: Vec<String>) -> Self {
        Self { names, claims: BTreeMap::new() }
    }

    /// A caller with these names and claims, by the names of the claims. The values are texts; that of a number or a
    /// boolean is as JSON writes it.
    pub fn with_claims(names: Vec<String>, claims: BTreeMap<String, String>) -> Self {
        Self { names, claims }
    }

    /// The names; the first one is that of the caller.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the caller has all of these claims, each with this value.
    pub(super) fn has(&self, claims: &BTreeMap<String, String>) -> bool {
        claims.iter().all(|(name, value)| self.claims.get(name) == Some(value))
    }
}
