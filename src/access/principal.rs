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

    /// The claims, by their names.
    pub(super) fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims
    }

    /// The same caller as one line for each name, and two for each claim. A name or claim with a line feed is left out,
    /// so that the caller has fewer rights.
    pub(super) fn to_lines(&self) -> (String, String) {
        let is_line = |text: &&String| !text.contains('\n');
        let names = self.names.iter().filter(is_line).map(String::as_str);
        let claims = self.claims.iter().filter(|(name, value)| is_line(name) && is_line(value));
        let claims = claims.flat_map(|(name, value)| [name.as_str(), value.as_str()]);
        (names.collect::<Vec<_>>().join("\n"), claims.collect::<Vec<_>>().join("\n"))
    }

    /// The caller of these lines.
    pub(super) fn of_lines(names: &str, claims: &str) -> Self {
        let names = names.split('\n').map(str::to_owned).collect();
        let mut lines = claims.split('\n').map(str::to_owned);
        let pairs = std::iter::from_fn(|| Some((lines.next()?, lines.next()?)));
        Self { names, claims: pairs.collect() }
    }

    /// Whether the caller has all of these claims, each with this value.
    pub(super) fn has(&self, claims: &BTreeMap<String, String>) -> bool {
        claims.iter().all(|(name, value)| self.claims.get(name) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_comes_back_from_its_lines() {
        let text = |text: &str| text.to_owned();
        let claims = BTreeMap::from([(text("a"), text("1 ü")), (text("b"), String::new())]);
        for caller in [
            Principal::named(vec![text("anonymous")]),
            Principal::with_claims(vec![text("x:a"), text("x:group=b c")], claims),
        ] {
            let (names, claims) = caller.to_lines();
            assert_eq!(Principal::of_lines(&names, &claims), caller);
        }
        let claims = BTreeMap::from([(text("a\nb"), text("1")), (text("c"), text("2\n3"))]);
        let caller = Principal::with_claims(vec![text("x"), text("y\nadmin")], claims);
        assert_eq!(caller.to_lines(), (text("x"), String::new()));
    }
}
