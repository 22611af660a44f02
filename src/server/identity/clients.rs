//! Client certificates, judged when a call comes, not in the handshake: a handshake proves the possession of the key,
//! and a refusal there reaches clients as a broken connection. A resumed session keeps the certificate of its first
//! handshake, so it is judged again as well.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::{
    CertificateError, RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    certificate::ClientCertificate,
    watched::{Source, Watched, read_owned},
};
use crate::{
    access::{Caller, Expiry, Grants, Identity},
    error::{Error as CallError, Kind},
    limits::{CERTIFICATE_REFUSED_TIME, TLS_FILE_BYTES_MAX},
    server::Error,
    tls,
};

/// The files by which client certificates are judged, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities that sign certificates of clients.
    pub authorities: PathBuf,
    /// The lists of certificates that these authorities have revoked.
    pub revoked: Option<PathBuf>,
}

/// What verifies chains of certificates, until the files change.
#[derive(Clone, Debug)]
struct Verifier {
    /// `None`: no authority of clients is known.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    /// Cancelled when the files change.
    changed: CancellationToken,
}

impl Verifier {
    fn new(chains: Option<Arc<dyn ClientCertVerifier>>) -> Self {
        Self { chains, changed: CancellationToken::new() }
    }
}

/// The contents of the files.
#[derive(PartialEq, Eq)]
pub(in crate::server) struct Contents {
    authorities: Vec<u8>,
    revoked: Option<Vec<u8>>,
}

/// Puts new authorities and lists in use.
pub(in crate::server) struct ClientSource {
    files: ClientFiles,
    sender: watch::Sender<Verifier>,
}

impl ClientFiles {
    async fn read(&self) -> Result<Contents, Error> {
        let what = "certificate authorities of clients";
        let authorities = read_owned(what, &self.authorities, TLS_FILE_BYTES_MAX).await?;
        let revoked = match &self.revoked {
            Some(file) => Some(read_owned("revocation lists", file, TLS_FILE_BYTES_MAX).await?),
            None => None,
        };
        Ok(Contents { authorities, revoked })
    }

    fn verifier(&self, contents: &Contents) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let file = self.authorities.display();
        let wrong = |why: String| {
            Error::new(format!("the file of certificate authorities of clients {file} {why}"))
        };
        let mut roots = RootCertStore::empty();
        for authority in tls::certificates(&contents.authorities).map_err(wrong)? {
            roots.add(authority).map_err(|error| {
                wrong("has a certificate that is no authority".to_owned()).because(error)
            })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
        let lists = self.revoked.as_ref().zip(contents.revoked.as_ref());
        let Some((lists, pem)) = lists else {
            let failed = |error| wrong("cannot be used".to_owned()).because(error);
            return builder.build().map_err(failed);
        };
        let wrong_lists = |why: String| {
            Error::new(format!("the file of revocation lists {} {why}", lists.display()))
        };
        let builder = builder.with_crls(revocation_lists(pem).map_err(wrong_lists)?);
        builder
            .only_check_end_entity_revocation()
            .build()
            .map_err(|error| wrong_lists("cannot be used".to_owned()).because(error))
    }
}

fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let lists = lists.map_err(|error| format!("is not PEM: {error}"))?;
    if lists.is_empty() { Err("has no revocation list in PEM".to_owned()) } else { Ok(lists) }
}

impl Source for ClientSource {
    const NAME: &str = "the file of certificate authorities of clients";
    type Content = Contents;

    async fn read(&self) -> Result<Contents, Error> {
        self.files.read().await
    }

    fn apply(&self, contents: &Contents, _: UnixTime) -> Result<(), Error> {
        let chains = self.files.verifier(contents)?;
        let old = self.sender.send_replace(Verifier::new(Some(chains)));
        // The watches that run begin again, and are judged again.
        old.changed.cancel();
        Ok(())
    }
}

/// Judges client certificates. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Clients {
    verifier: watch::Receiver<Verifier>,
    grants: watch::Receiver<Arc<Grants>>,
    is_required: bool,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("is_required", &self.is_required).finish_non_exhaustive()
    }
}

impl Clients {
    /// Reads the files, if there are any.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds something else.
    pub(in crate::server) async fn open(
        files: Option<ClientFiles>,
        grants: watch::Receiver<Arc<Grants>>,
        is_required: bool,
    ) -> Result<(Self, Option<Watched<ClientSource>>), Error> {
        let (sender, verifier) = watch::channel(Verifier::new(None));
        let watched = match files {
            Some(files) => {
                let contents = files.read().await?;
                let source = ClientSource { files, sender };
                source.apply(&contents, UnixTime::now())?;
                Some(Watched::new(source, contents))
            }
            None => None,
        };
        Ok((Self { verifier, grants, is_required }, watched))
    }

    /// Whether there is any grant.
    pub(super) fn has_grant(&self) -> bool {
        !self.grants.borrow().is_empty()
    }

    /// Whether every caller has to show a certificate.
    pub(super) fn is_required(&self) -> bool {
        self.is_required
    }

    /// The caller of a connection with a certificate, whether or not a grant names it.
    ///
    /// # Errors
    /// `Forbidden`, with what is wrong with the certificate.
    pub(super) fn judge(&self, presented: &Presented) -> Identity {
        let verifier = self.verifier.borrow().clone();
        let caller = presented.caller(&verifier, &self.grants)?;
        let now = Instant::now();
        if caller.expiry().is_some_and(|expiry| expiry.instant <= now) {
            return Err(refused("has expired"));
        }
        Ok(caller)
    }

    /// The caller of a connection with a certificate that a grant names, at this moment.
    ///
    /// # Errors
    /// `Forbidden`, with the reason: the certificate, or that no grant names it.
    pub(super) fn identify(&self, presented: &Presented) -> Identity {
        let caller = self.judge(presented)?;
        if !caller.has_rights() {
            let name = caller.name();
            let message = format!("no grant names the client certificate '{name}'");
            return Err(CallError::new(Kind::Forbidden, message));
        }
        Ok(caller)
    }
}

/// Why a certificate on a revocation list is refused. A pin does not change that.
const REVOKED: &str = "is revoked";

fn refused(why: &str) -> CallError {
    CallError::new(Kind::Forbidden, format!("the client certificate {why}"))
}

/// The certificate that a client has shown in the handshake of its connection, and the chain that it has sent.
#[derive(Debug)]
pub(in crate::server) struct Presented {
    chain: Vec<CertificateDer<'static>>,
    judged: Mutex<Option<Judged>>,
}

/// A judgement, and what it was made with.
#[derive(Debug)]
struct Judged {
    /// Cancelled when the verifier has changed.
    changed: CancellationToken,
    grants: Arc<Grants>,
    at: Instant,
    caller: Identity,
}

impl Judged {
    /// Whether the judgement still counts: a good one while the verifier is the same, and a bad one for a second, in
    /// which a client may repeat its calls at no cost.
    fn counts(&self, grants: &watch::Receiver<Arc<Grants>>) -> bool {
        let is_bad_of_before = || {
            self.at.elapsed() >= CERTIFICATE_REFUSED_TIME
                || !Arc::ptr_eq(&self.grants, &grants.borrow())
        };
        !self.changed.is_cancelled() && (self.caller.is_ok() || !is_bad_of_before())
    }
}

impl Presented {
    /// The certificate of a connection; `None` if the client has shown none.
    pub(in crate::server) fn new(chain: Option<&[CertificateDer<'_>]>) -> Option<Arc<Self>> {
        let chain = chain.filter(|chain| !chain.is_empty())?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Arc::new(Self { chain, judged: Mutex::default() }))
    }

    /// The caller, judged once with each verifier.
    fn caller(&self, verifier: &Verifier, grants: &watch::Receiver<Arc<Grants>>) -> Identity {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(judged) = judged.as_ref().filter(|judged| judged.counts(grants)) {
            return judged.caller.clone();
        }
        let caller = self.judge(verifier, grants, UnixTime::now());
        let changed = verifier.changed.clone();
        let grants = Arc::clone(&grants.borrow());
        *judged = Some(Judged { changed, grants, at: Instant::now(), caller: caller.clone() });
        caller
    }

    fn judge(
        &self,
        verifier: &Verifier,
        grants: &watch::Receiver<Arc<Grants>>,
        now: UnixTime,
    ) -> Identity {
        let Some((own, others)) = self.chain.split_first() else {
            return Err(refused("is missing"));
        };
        let certificate = ClientCertificate::read(own, now).map_err(|why| refused(&why))?;
        let verified = match &verifier.chains {
            Some(verifier) => {
                verifier.verify_client_cert(own, others, now).map_err(|error| why(&error))
            }
            None => Err("is of an unknown issuer".to_owned()),
        };
        // A certificate is pinned by its digest, whoever has signed it.
        let is_pinned = grants.borrow().first_name(&[&certificate.digest]).is_some();
        let names = match verified {
            Ok(_) => {
                let mut names = certificate.names;
                names.push(certificate.digest);
                names
            }
            Err(why) if is_pinned && why != REVOKED => vec![certificate.digest],
            Err(why) => return Err(refused(&why)),
        };
        let left = micros_left(certificate.last, now);
        let instant = left.and_then(|left| Instant::now().checked_add(left));
        let expiry = instant.map(|instant| Expiry { at: certificate.last, instant });
        Ok(Caller::certificate(names, grants.clone(), expiry)
            .judged_until(verifier.changed.clone()))
    }
}

/// The time from now to a time in microseconds since 1970.
fn micros_left(at: i64, now: UnixTime) -> Option<Duration> {
    let at = Duration::from_micros(u64::try_from(at).ok()?);
    Some(at.saturating_sub(Duration::from_secs(now.as_secs())))
}

/// Why a chain is refused; the text follows the name of the certificate.
fn why(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(error) = error else {
        return format!("cannot be verified: {error}");
    };
    if matches!(error, CertificateError::UnknownIssuer) {
        "is of an unknown issuer".to_owned()
    } else if matches!(error, CertificateError::Revoked) {
        REVOKED.to_owned()
    } else if matches!(error, CertificateError::UnknownRevocationStatus) {
        "is of an issuer that has no revocation list here".to_owned()
    } else {
        format!("is not good: {error}")
    }
}
