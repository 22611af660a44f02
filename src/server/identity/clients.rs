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

use super::{
    certificate::ClientCertificate,
    watched::{Source, Watched, read},
};
use crate::{
    access::{Caller, Expiry, Grants, Identity},
    error::{Error as CallError, Kind},
    limits::TLS_FILE_BYTES_MAX,
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

/// Verifies chains of certificates.
type Verifier = Arc<dyn ClientCertVerifier>;

/// The contents of the files.
#[derive(PartialEq, Eq)]
pub(in crate::server) struct Contents {
    authorities: Vec<u8>,
    revoked: Option<Vec<u8>>,
}

/// Puts new authorities and lists in use.
pub(in crate::server) struct ClientSource {
    files: ClientFiles,
    sender: watch::Sender<Option<Verifier>>,
}

impl ClientFiles {
    async fn read(&self) -> Result<Contents, Error> {
        let what = "certificate authorities of clients";
        let authorities = read(what, &self.authorities, TLS_FILE_BYTES_MAX).await?;
        let revoked = match &self.revoked {
            Some(file) => Some(read("revocation lists", file, TLS_FILE_BYTES_MAX).await?),
            None => None,
        };
        Ok(Contents { authorities, revoked })
    }

    fn verifier(&self, contents: &Contents) -> Result<Verifier, Error> {
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
        self.sender.send_replace(Some(self.files.verifier(contents)?));
        Ok(())
    }
}

/// Judges client certificates. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Clients {
    /// Verifies chains; `None`: no authority of clients is known.
    verifier: watch::Receiver<Option<Verifier>>,
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
        let (sender, verifier) = watch::channel(None);
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

    /// The caller of a connection with a certificate, at this moment.
    ///
    /// # Errors
    /// `Forbidden`, with the reason: the certificate, or that no grant names it.
    pub(super) fn identify(&self, presented: &Presented) -> Identity {
        let verifier = self.verifier.borrow().clone();
        let caller = presented.caller(verifier.as_ref(), &self.grants)?;
        let now = Instant::now();
        if caller.expiry().is_some_and(|expiry| expiry.instant <= now) {
            return Err(refused("has expired"));
        }
        if caller.rights().is_empty() {
            let name = caller.name();
            let message = format!("no grant names the client certificate '{name}'");
            return Err(CallError::new(Kind::Forbidden, message));
        }
        Ok(caller)
    }
}

fn refused(why: &str) -> CallError {
    CallError::new(Kind::Forbidden, format!("the client certificate {why}"))
}

/// The certificate that a client has shown in the handshake of its connection, and the chain that it has sent.
#[derive(Debug)]
pub(in crate::server) struct Presented {
    chain: Vec<CertificateDer<'static>>,
    judged: Mutex<Option<Judged>>,
}

/// A judgement, and the verifier that it was made with.
#[derive(Debug)]
struct Judged {
    verifier: Option<Verifier>,
    caller: Identity,
}

impl Presented {
    /// The certificate of a connection; `None` if the client has shown none.
    pub(in crate::server) fn new(chain: Option<&[CertificateDer<'_>]>) -> Option<Arc<Self>> {
        let chain = chain.filter(|chain| !chain.is_empty())?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Arc::new(Self { chain, judged: Mutex::default() }))
    }

    /// The caller, judged once with each verifier.
    fn caller(
        &self,
        verifier: Option<&Verifier>,
        grants: &watch::Receiver<Arc<Grants>>,
    ) -> Identity {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Judged { verifier: by, caller }) = &*judged {
            let is_same = match (by, verifier) {
                (Some(by), Some(verifier)) => Arc::ptr_eq(by, verifier),
                (by, verifier) => by.is_none() && verifier.is_none(),
            };
            if is_same && caller.is_ok() {
                return caller.clone();
            }
        }
        let caller = self.judge(verifier, grants, UnixTime::now());
        *judged = Some(Judged { verifier: verifier.cloned(), caller: caller.clone() });
        caller
    }

    fn judge(
        &self,
        verifier: Option<&Verifier>,
        grants: &watch::Receiver<Arc<Grants>>,
        now: UnixTime,
    ) -> Identity {
        let Some((own, others)) = self.chain.split_first() else {
            return Err(refused("is missing"));
        };
        let certificate = ClientCertificate::read(own, now).map_err(|why| refused(&why))?;
        let verified = match verifier {
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
            Err(_) if is_pinned => vec![certificate.digest],
            Err(why) => return Err(refused(&why)),
        };
        let left = micros_left(certificate.last, now);
        let instant = left.and_then(|left| Instant::now().checked_add(left));
        let expiry = instant.map(|instant| Expiry { at: certificate.last, instant });
        Ok(Caller::certificate(names, grants.clone(), expiry))
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
        "is revoked".to_owned()
    } else if matches!(error, CertificateError::UnknownRevocationStatus) {
        "is of an issuer that has no revocation list here".to_owned()
    } else {
        format!("is not good: {error}")
    }
}
