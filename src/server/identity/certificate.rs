//! What is read from X.509 certificates.

use rustls::pki_types::UnixTime;
use sha2::{Digest as _, Sha256};
use x509_cert::{
    Certificate,
    der::{
        Decode, Tag, Tagged as _,
        asn1::{Any, ObjectIdentifier},
        oid::AssociatedOid,
    },
    ext::pkix::{ExtendedKeyUsage, SubjectAltName, name::GeneralName},
};

use crate::{
    access::CERTIFICATE_SHA256,
    limits::{CERTIFICATE_NAME_BYTES_MAX, CERTIFICATE_NAMES_MAX, micros},
};

/// The attribute of a common name (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// The purposes of a certificate of a client (RFC 5280, section 4.2.1.12): this one, and any.
const CLIENT_PURPOSES: [ObjectIdentifier; 2] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2"),
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
];

fn parse(certificate: &[u8]) -> Result<Certificate, String> {
    Certificate::from_der(certificate)
        .map_err(|error| format!("is not an X.509 certificate: {error}"))
}

/// Checks that a certificate, in DER, is valid at a time.
///
/// # Errors
/// Says why it is not; the text follows the name of the certificate.
pub(super) fn check_validity(certificate: &[u8], now: UnixTime) -> Result<(), String> {
    check_dates(&parse(certificate)?, now)
}

fn check_dates(certificate: &Certificate, now: UnixTime) -> Result<(), String> {
    let validity = certificate.tbs_certificate.validity;
    let (first, last) = (validity.not_before, validity.not_after);
    if now.as_secs() < first.to_unix_duration().as_secs() {
        return Err(format!("is not valid before {first}"));
    }
    if now.as_secs() > last.to_unix_duration().as_secs() {
        return Err(format!("expired at {last}"));
    }
    Ok(())
}

/// What a certificate of a client says of itself.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    /// Its name by its digest.
    pub(super) digest: String,
    /// Its names, which count only if an authority of clients has signed them.
    pub(super) names: Vec<String>,
    /// Its last moment, in microseconds since 1970.
    pub(super) last: i64,
}

impl ClientCertificate {
    /// Reads a certificate, in DER, that is valid `now` and made for clients.
    ///
    /// # Errors
    /// Says why it is not; the text follows the name of the certificate.
    pub(super) fn read(der: &[u8], now: UnixTime) -> Result<Self, String> {
        let certificate = parse(der)?;
        check_dates(&certificate, now)?;
        let purposes: Option<ExtendedKeyUsage> = extension(&certificate)?;
        if purposes.is_some_and(|usage| !usage.0.iter().any(|p| CLIENT_PURPOSES.contains(p))) {
            return Err("is not for clients: its extended key usage has no clientAuth".to_owned());
        }
        let alternatives: Option<SubjectAltName> = extension(&certificate)?;
        let subject = certificate.tbs_certificate.subject.0.iter().flat_map(|rdn| rdn.0.iter());
        let common = subject.filter(|attribute| attribute.oid == COMMON_NAME);
        let common = common.filter_map(|name| Some(format!("cert:cn={}", text(&name.value)?)));
        let alternatives = alternatives.iter().flat_map(|names| &names.0);
        let alternatives = alternatives.filter_map(|name| {
            if let GeneralName::DnsName(name) = name {
                Some(format!("cert:dns={name}"))
            } else if let GeneralName::UniformResourceIdentifier(uri) = name {
                Some(format!("cert:uri={uri}"))
            } else {
                None
            }
        });
        let is_plain = |name: &String| {
            name.len() <= CERTIFICATE_NAME_BYTES_MAX && !name.chars().any(char::is_control)
        };
        let digest = Sha256::digest(der);
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            digest: format!("{CERTIFICATE_SHA256}{digits}"),
            names: common
                .chain(alternatives)
                .filter(is_plain)
                .take(CERTIFICATE_NAMES_MAX)
                .collect(),
            last: micros(certificate.tbs_certificate.validity.not_after.to_unix_duration()),
        })
    }
}

/// The extension of a type, if the certificate has it.
fn extension<T: AssociatedOid + for<'a> Decode<'a>>(
    certificate: &Certificate,
) -> Result<Option<T>, String> {
    let extensions = certificate.tbs_certificate.extensions.as_deref().unwrap_or_default();
    let found = extensions.iter().find(|extension| extension.extn_id == T::OID);
    found
        .map(|found| T::from_der(found.extn_value.as_bytes()))
        .transpose()
        .map_err(|error| format!("is not an X.509 certificate: {error}"))
}

/// The text of an attribute, if it is in one of the forms that are text in UTF-8.
fn text(value: &Any) -> Option<&str> {
    let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    std::str::from_utf8(value.value()).ok().filter(|_| is_text)
}
