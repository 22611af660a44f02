//! Client certificates: which are good, and why others are not.

use std::{fs, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{ClientFiles, Clients, Presented};
use crate::{
    access::{Grants, Role},
    error::Kind,
    model::StorePath,
};

const SERIAL: u64 = 7;

/// The parameters of a certificate of a client.
fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![
        SanType::DnsName(format!("{name}.example").try_into().expect("a name")),
        SanType::URI(format!("spiffe://example/{name}").try_into().expect("a name")),
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.serial_number = Some(SerialNumber::from(SERIAL));
    [params.not_before, params.not_after] = [2020, 2090].map(|year| date_time_ymd(year, 1, 1));
    params
}

/// An authority that signs certificates and lists.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("signed")
}

fn signed(params: &CertificateParams, by: &CertifiedIssuer<'static, KeyPair>) -> Arc<Presented> {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("signed");
    presented(certificate.der())
}

fn presented(certificate: &CertificateDer<'_>) -> Arc<Presented> {
    Presented::new(Some(std::slice::from_ref(certificate))).expect("a certificate")
}

/// A list that revokes the certificates with the serial number of [`client`], or none.
fn revoked(by: &CertifiedIssuer<'static, KeyPair>, serials: &[u64]) -> String {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2021, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2021, 1, 1),
        next_update: date_time_ymd(2090, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(by).expect("signed").pem().expect("PEM")
}

/// Grants of a reader at `a` to a name.
fn grants(who: &str) -> Grants {
    let text = format!("[[grant]]\nwho = [\"{who}\"]\nrole = \"reader\"\npaths = [\"a\"]\n");
    Grants::parse(text.as_bytes()).expect("grants")
}

struct Fixture {
    folder: TempDir,
    grants: watch::Sender<Arc<Grants>>,
}

impl Fixture {
    fn new(who: &str) -> Self {
        let grants = watch::Sender::new(Arc::new(grants(who)));
        Self { folder: TempDir::new().expect("a folder"), grants }
    }

    /// The judge with these authorities and lists, both in PEM.
    async fn judge(&self, authorities: Option<String>, lists: Option<String>) -> Clients {
        let write = |name: &str, text: String| {
            let file = self.folder.path().join(name);
            fs::write(&file, text).expect("written");
            file
        };
        let files = authorities.map(|text| ClientFiles {
            authorities: write("ca.pem", text),
            revoked: lists.map(|text| write("crl.pem", text)),
        });
        let opened = Clients::open(files, self.grants.subscribe(), false).await;
        opened.map_err(|error| error.explain()).expect("opened").0
    }
}

#[tokio::test]
async fn files_that_others_may_write_are_refused() {
    let (ours, fixture) = (authority("ours"), Fixture::new("cert:cn=build"));
    fixture.judge(Some(ours.pem()), Some(revoked(&ours, &[]))).await;
    let [authorities, lists] = ["ca.pem", "crl.pem"].map(|name| fixture.folder.path().join(name));
    for (file, what) in
        [(&authorities, "certificate authorities of clients"), (&lists, "revocation lists")]
    {
        for mode in [0o620, 0o602] {
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("a mode");
            let files =
                ClientFiles { authorities: authorities.clone(), revoked: Some(lists.clone()) };
            let opened = Clients::open(Some(files), fixture.grants.subscribe(), false).await;
            let error = opened.map(drop).expect_err("refused").explain();
            assert!(error.starts_with(&format!("others may write the {what} ")), "{error}");
        }
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("a mode");
    }
}

fn refused(judge: &Clients, certificate: &Presented) -> String {
    let error = judge.identify(certificate).expect_err("refused");
    assert_eq!(error.kind(), Kind::Forbidden);
    error.message().to_owned()
}

#[tokio::test]
async fn a_certificate_has_all_of_its_names() {
    let authority = authority("ours");
    for who in ["cert:cn=build", "cert:dns=build.example", "cert:uri=spiffe://example/*"] {
        let fixture = Fixture::new(who);
        let judge = fixture.judge(Some(authority.pem()), None).await;
        let certificate = signed(&client("build"), &authority);
        let caller = judge.identify(&certificate).expect(who);
        assert_eq!(caller.name(), "cert:cn=build");
        let at = |path| StorePath::parse(path, "path").expect("a path");
        assert!(caller.may(Role::Reader, &at("a/f")) && !caller.may(Role::Reader, &at("b")));
        // The grants change, and the connection stays.
        fixture.grants.send_replace(Arc::new(grants("cert:cn=other")));
        assert!(!caller.may(Role::Reader, &at("a/f")));
        let message = refused(&judge, &certificate);
        assert_eq!(message, "no grant names the client certificate 'cert:cn=build'");
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_and_says_why() {
    let (ours, other) = (authority("ours"), authority("other"));
    let fixture = Fixture::new("cert:cn=build");
    let judge = fixture.judge(Some(ours.pem()), None).await;
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = client("build");
        change(&mut params);
        refused(&judge, &signed(&params, &ours))
    };
    assert_eq!(
        refused(&judge, &signed(&client("build"), &other)),
        "the client certificate is of an unknown issuer"
    );
    let expired = with(|params| params.not_after = date_time_ymd(2021, 1, 1));
    assert_eq!(expired, "the client certificate expired at 2021-01-01T00:00:00Z");
    let early = with(|params| params.not_before = date_time_ymd(2089, 1, 1));
    assert_eq!(early, "the client certificate is not valid before 2089-01-01T00:00:00Z");
    let server = with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(server.starts_with("the client certificate is not for clients"), "{server}");
    let rubbish = presented(&CertificateDer::from(vec![1, 2, 3]));
    let message = refused(&judge, &rubbish);
    assert!(message.starts_with("the client certificate is not an X.509 certificate"), "{message}");
    // Without authorities no chain is good.
    let judge = fixture.judge(None, None).await;
    let message = refused(&judge, &signed(&client("build"), &ours));
    assert_eq!(message, "the client certificate is of an unknown issuer");
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let ours = authority("ours");
    let fixture = Fixture::new("cert:cn=build");
    let judge = fixture.judge(Some(ours.pem()), Some(revoked(&ours, &[SERIAL]))).await;
    let message = refused(&judge, &signed(&client("build"), &ours));
    assert_eq!(message, "the client certificate is revoked");
    let judge = fixture.judge(Some(ours.pem()), Some(revoked(&ours, &[8]))).await;
    judge.identify(&signed(&client("build"), &ours)).expect("it is another one");
    let other = authority("other");
    let judge = fixture.judge(Some(ours.pem()), Some(revoked(&other, &[]))).await;
    let message = refused(&judge, &signed(&client("build"), &ours));
    assert_eq!(message, "the client certificate is of an issuer that has no revocation list here");
}

#[tokio::test]
async fn a_certificate_is_pinned_whoever_has_signed_it() {
    // As 'openssl req -x509' makes it: its own authority.
    let mut params = client("self");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = Vec::new();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    let digits: String =
        Sha256::digest(certificate.der()).iter().map(|byte| format!("{byte:02x}")).collect();
    let certificate = presented(certificate.der());
    let fixture = Fixture::new("cert:cn=self");
    for authorities in [None, Some(authority("ours").pem())] {
        let judge = fixture.judge(authorities, None).await;
        fixture.grants.send_replace(Arc::new(grants("cert:cn=self")));
        refused(&judge, &certificate);
        let name = format!("cert:sha256={digits}");
        fixture.grants.send_replace(Arc::new(grants(&name)));
        let caller = judge.identify(&certificate).expect("it is pinned");
        // The names that it gives itself do not count.
        assert_eq!(caller.name(), name);
        assert_eq!(caller.credential(), Some(name.as_str()));
    }
}

#[tokio::test]
async fn a_judgement_is_made_again_with_other_authorities() {
    let (ours, other) = (authority("ours"), authority("other"));
    let fixture = Fixture::new("cert:cn=build");
    let file = fixture.folder.path().join("ca.pem");
    fs::write(&file, ours.pem()).expect("written");
    let files = ClientFiles { authorities: file.clone(), revoked: None };
    let opened = Clients::open(Some(files), fixture.grants.subscribe(), false).await;
    let (judge, watched) = opened.map_err(|error| error.explain()).expect("opened");
    let mut watched = watched.expect("files");
    let certificate = signed(&client("build"), &ours);
    judge.identify(&certificate).expect("it is good");
    fs::write(&file, "no PEM").expect("written");
    watched.look(UnixTime::now()).await;
    judge.identify(&certificate).expect("the old authorities stay");
    fs::write(&file, other.pem()).expect("written");
    watched.look(UnixTime::now()).await;
    assert_eq!(refused(&judge, &certificate), "the client certificate is of an unknown issuer");
}

#[tokio::test]
async fn files_that_are_wrong_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let ours = authority("ours");
    let (ca, crl) = (folder.path().join("ca.pem"), folder.path().join("crl.pem"));
    let grants = watch::channel(Arc::default()).1;
    for (authorities, lists, why) in [
        ("", "", "ca.pem has no certificate in PEM"),
        (ours.pem().as_str(), "", "crl.pem has no revocation list in PEM"),
    ] {
        fs::write(&ca, authorities).expect("written");
        fs::write(&crl, lists).expect("written");
        let files = ClientFiles { authorities: ca.clone(), revoked: Some(crl.clone()) };
        let error = Clients::open(Some(files), grants.clone(), false).await.expect_err("refused");
        assert!(error.explain().contains(why), "{}", error.explain());
    }
    let files = ClientFiles { authorities: folder.path().join("none"), revoked: None };
    let error = Clients::open(Some(files), grants, false).await.expect_err("refused").explain();
    assert!(error.contains("cannot read the certificate authorities of clients"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_ends_while_its_connection_lives() {
    let ours = authority("ours");
    let fixture = Fixture::new("cert:cn=build");
    let judge = fixture.judge(Some(ours.pem()), None).await;
    let certificate = signed(&client("build"), &ours);
    let caller = judge.identify(&certificate).expect("it is good");
    let left = caller.expiry().expect("an end").instant - tokio::time::Instant::now();
    tokio::time::advance(left + Duration::from_secs(1)).await;
    assert_eq!(refused(&judge, &certificate), "the client certificate has expired");
}
