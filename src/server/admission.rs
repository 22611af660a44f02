//! Who is admitted: the files that say so, read at the start and watched, and the authenticator that they make.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Error,
    config::{Access, Config, Required},
    identity::{
        Authenticator, ClientSource, Clients, GrantsSource, Issuers, Source, TlsSource, Watched,
    },
};
use crate::{access::Grants, store::Store};

/// The files that are read again while the server runs, and the issuers whose keys are fetched again.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles {
    tls: Option<Watched<TlsSource>>,
    grants: Option<Watched<GrantsSource>>,
    clients: Option<Watched<ClientSource>>,
    issuers: Option<Issuers>,
}

impl WatchedFiles {
    /// The certificate of the port, where it has TLS.
    pub(super) fn of(tls: Option<Watched<TlsSource>>) -> Self {
        Self { tls, ..Self::default() }
    }

    /// Takes changes until the server stops.
    pub(super) async fn run(self, stop: &CancellationToken) {
        tokio::join!(
            watch(self.tls, stop),
            watch(self.grants, stop),
            watch(self.clients, stop),
            keep(self.issuers, stop)
        );
    }
}

async fn keep(issuers: Option<Issuers>, stop: &CancellationToken) {
    if let Some(issuers) = issuers {
        stop.run_until_cancelled(issuers.run()).await;
    }
}

async fn watch<S: Source>(files: Option<Watched<S>>, stop: &CancellationToken) {
    if let Some(files) = files {
        stop.run_until_cancelled(files.run()).await;
    }
}

/// What the files say.
#[derive(Debug)]
pub(super) enum Admission {
    /// Everyone may do everything.
    Open,
    /// Each caller has what is granted to it.
    Required(watch::Receiver<Arc<Grants>>, Clients, Option<Issuers>),
}

impl Admission {
    /// Reads the files, and adds them to those that are watched.
    ///
    /// # Errors
    /// A file that cannot be read, or that is wrong.
    pub(super) async fn open(config: &Config, watched: &mut WatchedFiles) -> Result<Self, Error> {
        let Access::Required(required) = &config.access else { return Ok(Self::Open) };
        let Required { grants, clients, needs_certificate } = required.clone();
        let grants = match grants {
            Some(file) => {
                let (grants, issuers, file) = GrantsSource::open(file, clients.is_some()).await?;
                watched.grants = Some(file);
                watched.issuers = Some(issuers);
                grants
            }
            None => watch::channel(Arc::default()).1,
        };
        // A store that is not made yet has no token: this start would make one for nobody.
        if grants.borrow().is_empty() && !config.database.exists() {
            return Err(nobody());
        }
        let clients = Clients::open(clients, grants.clone(), needs_certificate).await?;
        watched.clients = clients.1;
        Ok(Self::Required(grants, clients.0, watched.issuers.clone()))
    }

    /// The grants, which change with their file.
    pub(super) fn grants(&self) -> watch::Receiver<Arc<Grants>> {
        match self {
            Self::Open => watch::channel(Arc::default()).1,
            Self::Required(grants, ..) => grants.clone(),
        }
    }

    /// The authenticator of a server over a store. `is_local`: only the command in the same process reaches it.
    ///
    /// # Errors
    /// A server of which nobody could have anything.
    pub(super) async fn authenticator(
        self,
        store: &Store,
        is_local: bool,
    ) -> Result<Authenticator, Error> {
        let authenticator = match self {
            Self::Open if is_local => Authenticator::local(),
            Self::Open => Authenticator::open(Some(store.clone())),
            Self::Required(grants, clients, issuers) => {
                Authenticator::required(grants, clients, issuers, store.clone())
            }
        };
        let failed = |error| Error::new("cannot read the tokens").because(error);
        if !authenticator.admits_anybody().await.map_err(failed)? {
            return Err(nobody());
        }
        let tokens = store.anonymous_tokens().await.map_err(failed)?;
        if authenticator.is_required() && tokens > 0 {
            warn!(tokens, "tokens that callers without a credential have created are taken");
        }
        Ok(authenticator)
    }
}

/// The error of a start after which nobody could have anything.
fn nobody() -> Error {
    Error::new(
        "nobody may do anything: create a token by 'imagestore token create --data DIR', or give \
         --grants a file that grants something",
    )
}
