//! The grants file: who has which role at which paths, and whose JWTs are taken.
//!
//! ```toml
//! [[grant]]
//! who   = ["anonymous"]
//! role  = "reader"
//! paths = ["CalcApp*", "Store/Base"]
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{
    Pattern, Principal, Rights, Role,
    issuer::{self, Aad, Issuer},
    place::{GrantsError, Values, count, utf8, value, values},
    shown,
    who::{self, Kind},
};
use crate::{
    limits::{
        CLAIM_BYTES_MAX, GRANT_CLAIMS_MAX, GRANT_NAMES_MAX, GRANT_PATHS_MAX, GRANTS_BYTES_MAX,
        GRANTS_MAX, ISSUERS_MAX,
    },
    model::StorePath,
};

/// The grants and the issuers of a grants file. Without a file there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    grants: Vec<Grant>,
    issuers: Vec<Issuer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    who: Vec<String>,
    /// All of them must be those of the caller.
    claims: BTreeMap<String, String>,
    role: Role,
    paths: Vec<Pattern>,
}

/// The file as TOML has it. What is judged later keeps its position.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    grant: Vec<Spanned<Table>>,
    #[serde(default)]
    issuer: Vec<Spanned<issuer::Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    who: Values,
    claims: Option<Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>,
    role: Spanned<String>,
    paths: Values,
}

impl Grants {
    /// Parses a grants file as a whole; an empty one has no grants.
    ///
    /// # Errors
    /// The first reason to refuse the file, with its position: it is larger than [`GRANTS_BYTES_MAX`], not
    /// UTF-8 or not TOML; a key is unknown or absent; a value is not accepted; there are more than [`GRANTS_MAX`] grants
    /// or [`ISSUERS_MAX`] issuers; a grant has no names or no paths, or more than [`GRANT_NAMES_MAX`],
    /// [`GRANT_PATHS_MAX`] or [`GRANT_CLAIMS_MAX`]; a grant is for a part of the names of an open issuer, or all of them, and
    /// asks for no claims.
    pub fn parse(bytes: &[u8]) -> Result<Self, GrantsError> {
        if bytes.len() > GRANTS_BYTES_MAX {
            let reason = format!("the file has more than {GRANTS_BYTES_MAX} bytes");
            return Err(GrantsError { line: 1, column: 1, reason });
        }
        let text = utf8(bytes)?;
        // A byte order mark would count as the first column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file: File = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            // The message may quote the file.
            GrantsError::new(text, start, shown(error.message()))
        })?;
        if let Some(first) = file.grant.get(GRANTS_MAX) {
            let reason = format!("the file has more than {GRANTS_MAX} grants");
            return Err(GrantsError::new(text, first.span().start, reason));
        }
        if let Some(first) = file.issuer.get(ISSUERS_MAX) {
            let reason = format!("the file has more than {ISSUERS_MAX} issuers");
            return Err(GrantsError::new(text, first.span().start, reason));
        }
        let mut issuers = Vec::with_capacity(file.issuer.len());
        for table in &file.issuer {
            issuers.push(Issuer::new(text, table.get_ref(), &issuers)?);
        }
        let grants = file.grant.iter().map(|table| Grant::new(text, table.get_ref(), &issuers));
        let grants = grants.collect::<Result<_, _>>()?;
        Ok(Self { grants, issuers })
    }

    /// The issuers whose JWTs are taken.
    pub fn issuers(&self) -> &[Issuer] {
        &self.issuers
    }

    /// What `sfctl` needs to sign in, if an issuer has it.
    pub fn aad(&self) -> Option<&Aad> {
        self.issuers.iter().find_map(|issuer| issuer.aad.as_ref())
    }

    /// Which grants are for a caller.
    pub fn given(&self, caller: &Principal) -> Given {
        let mut given = vec![0; self.grants.len().div_ceil(u64::BITS as usize)];
        for (bits, grants) in given.iter_mut().zip(self.grants.chunks(u64::BITS as usize)) {
            for (bit, grant) in grants.iter().enumerate() {
                *bits |= u64::from(grant.is_for(caller)) << bit;
            }
        }
        Given(given)
    }

    /// The sum of what is given by these grants, of the same file.
    pub fn rights(&self, given: &Given) -> Rights {
        let given = given.of(&self.grants);
        let pairs =
            given.flat_map(|grant| grant.paths.iter().map(|path| (grant.role, path.clone())));
        Rights::new(pairs.collect())
    }

    /// Whether one of these grants, of the same file, gives a role at a path.
    pub fn may(&self, given: &Given, role: Role, path: &StorePath) -> bool {
        let mut given = given.of(&self.grants).filter(|grant| grant.role >= role);
        given.any(|grant| grant.paths.iter().any(|pattern| pattern.covers(path)))
    }

    /// The same caller with its first name, and those of its other names and its claims alone that a grant asks for.
    pub fn asked(&self, caller: &Principal) -> Principal {
        let is_asked = |name: &String| self.grants.iter().any(|it| it.claims.contains_key(name));
        let claims = caller.claims().iter().filter(|(name, _)| is_asked(name));
        let claims = claims.map(|(name, value)| (name.clone(), value.clone())).collect();
        let is_meant = |name: &&String| {
            let names = std::slice::from_ref(*name);
            self.grants.iter().flat_map(|grant| &grant.who).any(|who| who::means(who, names))
        };
        let (first, others) = caller.names().split_at(caller.names().len().min(1));
        let names = first.iter().chain(others.iter().filter(is_meant)).cloned().collect();
        Principal::with_claims(names, claims)
    }

    /// The first name in the file that begins with one of these texts.
    pub fn first_name(&self, starts: &[&str]) -> Option<&str> {
        let names = self.grants.iter().flat_map(|grant| &grant.who).map(String::as_str);
        names.into_iter().find(|name| starts.iter().any(|start| name.starts_with(start)))
    }

    /// Whether there is no grant at all.
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }
}

/// Some of the grants of a file: one bit for each of them, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(Vec<u64>);

impl Given {
    /// Whether it is none of the grants.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|bits| *bits == 0)
    }

    fn of<'a>(&self, grants: &'a [Grant]) -> impl Iterator<Item = &'a Grant> {
        let chunks = self.0.iter().zip(grants.chunks(u64::BITS as usize));
        chunks.flat_map(|(&bits, grants)| {
            let given = grants.iter().enumerate().filter(move |(bit, _)| (bits >> bit) & 1 == 1);
            given.map(|(_, grant)| grant)
        })
    }
}

impl Grant {
    fn new(text: &str, table: &Table, issuers: &[Issuer]) -> Result<Self, GrantsError> {
        let has_claims = table.claims.is_some();
        let who = values(text, "who", &table.who, GRANT_NAMES_MAX, |name| {
            match who::check(name, issuers)? {
                Kind::Plain if has_claims => Err(format!(
                    "the grant has claims, which only a JWT has; who \"{}\" has none",
                    shown(name)
                )),
                Kind::Anyone if !has_claims => Err(format!(
                    "who \"{}\" may be anyone who gets a token of the issuer; give claims, or closed = true in its \
                     [[issuer]] if only your team gets one",
                    shown(name)
                )),
                Kind::Plain | Kind::Jwt | Kind::Anyone => Ok(name.to_owned()),
            }
        })?;
        let mut claims = BTreeMap::new();
        if let Some(table) = &table.claims {
            count(text, "claims", table, GRANT_CLAIMS_MAX, |claims| {
                let mut starts: Vec<_> = claims.keys().map(|name| name.span().start).collect();
                starts.sort_unstable();
                starts
            })?;
            for (name, expected) in table.get_ref() {
                let name = value(text, name, claim)?;
                claims.insert(name, value(text, expected, claim)?);
            }
        }
        let role = value(text, &table.role, Role::parse)?;
        let paths = values(text, "paths", &table.paths, GRANT_PATHS_MAX, Pattern::parse)?;
        Ok(Self { who, claims, role, paths })
    }

    /// Whether one of the names of a caller is meant by this grant, and all claims are those of the caller.
    fn is_for(&self, caller: &Principal) -> bool {
        self.who.iter().any(|who| who::means(who, caller.names())) && caller.has(&self.claims)
    }
}

/// Checks the name or the value of a claim.
fn claim(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > CLAIM_BYTES_MAX {
        return Err(format!(
            "\"{}\" is no claim; its name and its value have 1 to {CLAIM_BYTES_MAX} bytes",
            shown(text)
        ));
    }
    Ok(text.to_owned())
}
