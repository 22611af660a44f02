//! The issuers of JWTs in a grants file.
//!
//! ```toml
//! [[issuer]]
//! name     = "entra"
//! url      = "https://login.microsoftonline.com/TENANT/v2.0"
//! audience = "CLIENT"
//! ```

use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;
use toml::Spanned;

use super::{place, place::GrantsError, shown};
use crate::limits::{ISSUER_NAME_BYTES_MAX, ISSUER_TEXT_BYTES_MAX};

/// What the names of callers that no issuer vouches for begin with, and the names without an issuer.
const RESERVED: [&str; 6] = ["anonymous", "cert", "link", "local", "system", "token"];
/// The claim that has the user, unless the issuer says otherwise (RFC 7519, section 4.1.2).
const SUBJECT: &str = "sub";

/// Who issues JWTs, and what is taken from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What the names of its callers begin with.
    pub name: String,
    /// Its claim `iss`, to the letter; its keys are found below this address.
    pub url: String,
    /// What the claim `aud` must be or contain.
    pub audience: String,
    /// The claim that has the user.
    pub user_claim: String,
    /// The claim that has the groups, if there is one.
    pub groups_claim: Option<String>,
    /// The file of the authorities of its TLS certificate, in PEM; `None`: those of the system.
    pub authorities: Option<PathBuf>,
    /// What `sfctl` needs to sign in, if it does so at this issuer.
    pub aad: Option<Aad>,
    /// Whether only people of a team get tokens from it, so that a grant may be for all of them.
    pub is_closed: bool,
}

/// The metadata of Azure Active Directory with which `sfctl` and PowerShell sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aad {
    /// The address of the authority.
    pub authority: String,
    /// The id of the application of the client.
    pub client: String,
    /// The id of the application of the cluster, which is the audience of the token.
    pub cluster: String,
    /// The address at which users sign in.
    pub login: String,
    /// The address of the client to which a browser returns.
    pub redirect: String,
    /// The id of the tenant.
    pub tenant: String,
}

/// An issuer as TOML has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    name: Spanned<String>,
    url: Spanned<String>,
    audience: Spanned<String>,
    user: Option<Spanned<String>>,
    groups: Option<Spanned<String>>,
    ca: Option<Spanned<String>>,
    aad: Option<Spanned<AadTable>>,
    #[serde(default)]
    closed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AadTable {
    authority: Option<Spanned<String>>,
    client: Spanned<String>,
    cluster: Spanned<String>,
    login: Spanned<String>,
    redirect: Option<Spanned<String>>,
    tenant: Spanned<String>,
}

impl Issuer {
    /// Judges an issuer of a grants file, after those before it.
    pub(super) fn new(text: &str, table: &Table, before: &[Self]) -> Result<Self, GrantsError> {
        let name = place::value(text, &table.name, |name| {
            check_name(name)?;
            if before.iter().any(|other| other.name == name) {
                return Err(format!("two issuers have the name \"{name}\""));
            }
            Ok(name.to_owned())
        })?;
        let url = place::value(text, &table.url, |url| {
            check_url(url)?;
            if before.iter().any(|other| other.url == url) {
                return Err(format!("two issuers have the url \"{}\"", shown(url)));
            }
            Ok(url.to_owned())
        })?;
        let required = |key: &str, value: &Spanned<String>| {
            place::value(text, value, |value| some_text(key, value))
        };
        let optional = |key: &str, value: &Option<Spanned<String>>| {
            value.as_ref().map(|value| required(key, value)).transpose()
        };
        let aad = match &table.aad {
            Some(aad) if before.iter().any(|other| other.aad.is_some()) => {
                let reason = "two issuers have aad; sfctl signs in at one".to_owned();
                return Err(GrantsError::new(text, aad.span().start, reason));
            }
            aad => aad.as_ref().map(|aad| Aad::new(text, aad.get_ref())).transpose()?,
        };
        Ok(Self {
            name,
            url,
            audience: required("audience", &table.audience)?,
            user_claim: optional("user", &table.user)?.unwrap_or_else(|| SUBJECT.to_owned()),
            groups_claim: optional("groups", &table.groups)?,
            authorities: optional("ca", &table.ca)?.map(PathBuf::from),
            aad,
            is_closed: table.closed,
        })
    }
}

impl Aad {
    fn new(text: &str, table: &AadTable) -> Result<Self, GrantsError> {
        let required = |key: &str, value: &Spanned<String>| {
            place::value(text, value, |value| some_text(key, value))
        };
        let optional = |key: &str, value: &Option<Spanned<String>>| {
            value.as_ref().map(|value| required(key, value)).transpose()
        };
        let login = required("login", &table.login)?;
        let tenant = required("tenant", &table.tenant)?;
        let authority = optional("authority", &table.authority)?;
        Ok(Self {
            authority: authority.unwrap_or_else(|| format!("{login}/{tenant}")),
            client: required("client", &table.client)?,
            cluster: required("cluster", &table.cluster)?,
            redirect: optional("redirect", &table.redirect)?.unwrap_or_default(),
            login,
            tenant,
        })
    }
}

/// Whether a text has the form of a name of an issuer.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= ISSUER_NAME_BYTES_MAX
        && name.chars().all(is_plain)
        && !RESERVED.contains(&name)
}

fn check_name(name: &str) -> Result<(), String> {
    if is_name(name) {
        return Ok(());
    }
    Err(format!(
        "name \"{}\" is not accepted; take 1 to {ISSUER_NAME_BYTES_MAX} of a-z, 0-9 and -, a letter first, and none \
         of {}",
        shown(name),
        RESERVED.join(", ")
    ))
}

/// A text that is not empty, not long, and one line.
fn some_text(key: &str, text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > ISSUER_TEXT_BYTES_MAX || text.contains(char::is_control) {
        return Err(format!(
            "{key} \"{}\" is not accepted; take 1 to {ISSUER_TEXT_BYTES_MAX} bytes without control characters",
            shown(text)
        ));
    }
    Ok(text.to_owned())
}

fn check_url(url: &str) -> Result<(), String> {
    let address = key_address(url).map_err(|why| format!("url \"{}\" {why}", shown(url)))?;
    if address.query().is_some() {
        return Err(format!("url \"{}\" has a query; omit it", shown(url)));
    }
    Ok(())
}

/// Reads an address that keys are fetched from: `https`, or `http` on this machine.
///
/// # Errors
/// Says why it is none; the text follows the address.
pub fn key_address(url: &str) -> Result<Uri, String> {
    let is_visible = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    if url.len() > ISSUER_TEXT_BYTES_MAX || !url.as_bytes().iter().all(is_visible) {
        return Err(format!(
            "is no address; it has at most {ISSUER_TEXT_BYTES_MAX} visible characters of ASCII, and no #"
        ));
    }
    let address: Uri = url.parse().map_err(|error| format!("is no address: {error}"))?;
    let authority = address.authority().map_or("", |authority| authority.as_str());
    let host = address.host().unwrap_or_default();
    if host.is_empty() || authority.contains('@') {
        return Err("is no address of a host, such as https://issuer.example".to_owned());
    }
    match address.scheme_str() {
        Some("https") => Ok(address),
        Some("http") if is_this_machine(host) => Ok(address),
        _ => Err("is not https; only an issuer on this machine may have http".to_owned()),
    }
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
