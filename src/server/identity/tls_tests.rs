//! Files of TLS that fit, and files that do not.

use std::{fs, path::Path, time::Duration};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::UnixTime;
use tempfile::TempDir;

use super::{Tls, TlsFiles};
use crate::limits::TLS_FILE_BYTES_MAX;

/// The text of a certificate for localhost that is valid in these years, and of its key.
fn pair(years: [i32; 2]) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
    let certificate = params.self_signed(&key).expect("signed");
    (certificate.pem(), key.serialize_pem())
}

/// Writes both files.
fn files(folder: &Path, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> TlsFiles {
    let files = TlsFiles {
        certificate: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        asks_clients: false,
    };
    fs::write(&files.certificate, certificate).expect("written");
    fs::write(&files.key, key).expect("written");
    files
}

async fn refused(files: TlsFiles) -> String {
    Tls::open(files).await.expect_err("refused").explain()
}

#[tokio::test]
async fn a_pair_that_is_wrong_is_refused_and_says_why() {
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path();
    let (certificate, key) = pair([2020, 2090]);
    let (_, other) = pair([2020, 2090]);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAo=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let not_der = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
    let cut = "-----BEGIN CERTIFICATE-----\nMAo=\n";
    let large = vec![b'\n'; usize::try_from(TLS_FILE_BYTES_MAX).expect("small") + 1];
    for (certificate, key, why) in [
        (certificate.as_bytes(), other.as_bytes(), "key.pem is not that of the certificate"),
        (certificate.as_bytes(), encrypted.as_bytes(), "key.pem is encrypted; 'openssl pkey"),
        (certificate.as_bytes(), certificate.as_bytes(), "key.pem has no private key in PEM"),
        (key.as_bytes(), key.as_bytes(), "cert.pem has no certificate in PEM"),
        (cut.as_bytes(), key.as_bytes(), "cert.pem is not PEM"),
        (not_der.as_bytes(), key.as_bytes(), "cert.pem is not an X.509 certificate"),
        (&large, key.as_bytes(), "cert.pem has more than 1048576 bytes"),
    ] {
        let error = refused(files(folder, certificate, key)).await;
        assert!(error.contains(why) && !error.contains('\n'), "{error}");
    }
    for (years, why) in [
        ([2020, 2021], "cert.pem expired at 2021-01-01T00:00:00Z"),
        ([2090, 2091], "cert.pem is not valid before 2090-01-01T00:00:00Z"),
    ] {
        let (certificate, key) = pair(years);
        let error = refused(files(folder, certificate, key)).await;
        assert!(error.contains(why), "{error}");
    }
    let nowhere = TlsFiles { certificate: folder.join("none"), ..files(folder, "", "") };
    let error = refused(nowhere).await;
    assert!(error.contains("cannot read the certificate") && error.contains("none"), "{error}");
    Tls::open(files(folder, &certificate, &key))
        .await
        .map_err(|error| error.explain())
        .expect("it fits");
}

/// Opens the pair, then replaces both files and looks at them. Returns whether the configuration has changed.
async fn reloaded(certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> bool {
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path();
    let first = pair([2020, 2090]);
    let opened = Tls::open(files(folder, first.0, first.1)).await;
    let (mut tls, mut reloader) = opened.map_err(|error| error.explain()).expect("opened");
    reloader.look(UnixTime::now()).await;
    assert!(!tls.config.has_changed().expect("a sender"), "the same files");
    files(folder, certificate, key);
    reloader.look(UnixTime::now()).await;
    let has_changed = tls.config.has_changed().expect("a sender");
    tls.config.mark_unchanged();
    reloader.look(UnixTime::now()).await;
    assert!(!tls.config.has_changed().expect("a sender"), "taken once");
    has_changed
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_taken_when_it_is() {
    let folder = TempDir::new().expect("a folder");
    let first = pair([2020, 2090]);
    let opened = Tls::open(files(folder.path(), first.0, first.1)).await;
    let (tls, mut reloader) = opened.map_err(|error| error.explain()).expect("opened");
    let later = pair([2091, 2092]);
    files(folder.path(), later.0, later.1);
    reloader.look(UnixTime::now()).await;
    assert!(!tls.config.has_changed().expect("a sender"), "too early");
    let at = date_time_ymd(2091, 6, 1).unix_timestamp();
    let at = Duration::from_secs(u64::try_from(at).expect("after 1970"));
    reloader.look(UnixTime::since_unix_epoch(at)).await;
    assert!(tls.config.has_changed().expect("a sender"));
}

#[tokio::test]
async fn a_new_pair_is_taken_and_a_wrong_one_is_not() {
    let (certificate, key) = pair([2020, 2090]);
    assert!(reloaded(&certificate, &key).await);
    assert!(!reloaded(&certificate, "").await);
    let (certificate, key) = pair([2020, 2021]);
    assert!(!reloaded(certificate, key).await);
}
