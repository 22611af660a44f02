//! Files that are read again while the server runs.
//!
//! Every [`FILES_EVERY`] they are read and compared by content: tools that renew files replace them in ways that a
//! watch of the file system does not see. Files that cannot be used leave in use what was read before.

use std::{io, os::unix::fs::PermissionsExt as _, path::Path};

use rustls::pki_types::UnixTime;
use tokio::{fs::File, io::AsyncReadExt as _, time::sleep};
use tracing::{error, info};

use crate::{limits::FILES_EVERY, server::Error};

/// The permissions to write of the group and of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Files, and what becomes of their content.
pub(in crate::server) trait Source {
    /// What the log calls them.
    const NAME: &str;
    /// The content of all files.
    type Content: PartialEq + Send;

    /// Reads all files.
    fn read(&self) -> impl Future<Output = Result<Self::Content, Error>> + Send;

    /// Puts a content in use that is valid `now`. If it is not, what is in use stays.
    fn apply(&self, content: &Self::Content, now: UnixTime) -> Result<(), Error>;
}

/// Files that are in use, and that are looked at again.
pub(in crate::server) struct Watched<S: Source> {
    source: S,
    /// What was read last, or why nothing was.
    last: Result<S::Content, String>,
    /// Why it is not in use. It may be later, such as a certificate that is not valid yet.
    failure: Option<String>,
}

// The content may be secret.
impl<S: Source> std::fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&S::NAME).finish()
    }
}

impl<S: Source> Watched<S> {
    /// Watches files whose content is in use.
    pub(super) fn new(source: S, content: S::Content) -> Self {
        Self { source, last: Ok(content), failure: None }
    }

    /// Looks at the files every [`FILES_EVERY`], without end.
    pub(in crate::server) async fn run(mut self) {
        loop {
            sleep(FILES_EVERY).await;
            self.look(UnixTime::now()).await;
        }
    }

    pub(super) async fn look(&mut self, now: UnixTime) {
        let read = self.source.read().await.map_err(|error| error.explain());
        if read == self.last && self.failure.is_none() {
            return;
        }
        let applied = match &read {
            Ok(content) => self.source.apply(content, now).map_err(|error| error.explain()),
            Err(error) => Err(error.clone()),
        };
        self.last = read;
        match applied {
            Ok(()) => {
                info!("{} has changed", S::NAME);
                self.failure = None;
            }
            Err(error) if self.failure.as_ref() == Some(&error) => {}
            Err(error) => {
                error!(error, "{} is not reloaded", S::NAME);
                self.failure = Some(error);
            }
        }
    }
}

/// Reads a file of at most `bytes_max`. `what` names the file in an error.
///
/// # Errors
/// A file that cannot be read, or that is longer.
pub(super) async fn read(what: &str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| failed(what, path).because(error);
    let file = File::open(path).await.map_err(failed)?;
    read_open(what, path, file, bytes_max).await
}

/// As [`read`], for a file that only its owner may write.
///
/// # Errors
/// Those of [`read`]; a file that the group or others may write.
pub(in crate::server) async fn read_owned(
    what: &str,
    path: &Path,
    bytes_max: u64,
) -> Result<Vec<u8>, Error> {
    let failed = |error: io::Error| failed(what, path).because(error);
    let file = File::open(path).await.map_err(failed)?;
    let mode = file.metadata().await.map_err(failed)?.permissions().mode();
    if mode & WRITABLE_BY_OTHERS != 0 {
        let path = path.display();
        let message = format!("others may write the {what} {path}; run 'chmod go-w {path}'");
        return Err(Error::new(message));
    }
    read_open(what, path, file, bytes_max).await
}

fn failed(what: &str, path: &Path) -> Error {
    Error::new(format!("cannot read the {what} {}", path.display()))
}

async fn read_open(what: &str, path: &Path, file: File, bytes_max: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = file.take(bytes_max + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| failed(what, path).because(error))?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("the {what} {} has more than {bytes_max} bytes", path.display());
        return Err(Error::new(message));
    }
    Ok(bytes)
}
