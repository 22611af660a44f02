//! The grants file: who may do what and whose JWTs are taken, as the server uses it.

use std::{path::PathBuf, sync::Arc};

use rustls::pki_types::UnixTime;
use tokio::sync::watch;

use super::{
    issuers::Issuers,
    watched::{Source, Watched, read_owned},
};
use crate::{
    access::{CERTIFICATE_SHA256, Grants, SIGNED_NAMES},
    limits::GRANTS_BYTES_MAX,
    server::Error,
};

/// Puts a new grants file in use.
pub(in crate::server) struct GrantsSource {
    file: PathBuf,
    sender: watch::Sender<Arc<Grants>>,
    issuers: Issuers,
    /// Whether authorities of clients are known, so that a grant may name what they sign.
    has_authorities: bool,
}

impl GrantsSource {
    /// Reads the file. Returns its grants and issuers, which change with the file.
    ///
    /// # Errors
    /// A file that cannot be read, that others may write, or that is wrong.
    pub(in crate::server) async fn open(
        file: PathBuf,
        has_authorities: bool,
    ) -> Result<(watch::Receiver<Arc<Grants>>, Issuers, Watched<Self>), Error> {
        let (sender, grants) = watch::channel(Arc::default());
        let issuers = Issuers::new(grants.clone());
        let source = Self { file, sender, issuers: issuers.clone(), has_authorities };
        let content = source.read().await?;
        source.apply(&content, UnixTime::now())?;
        Ok((grants, issuers, Watched::new(source, content)))
    }
}

impl Source for GrantsSource {
    const NAME: &str = "the grants file";
    type Content = Vec<u8>;

    async fn read(&self) -> Result<Vec<u8>, Error> {
        read_owned("grants file", &self.file, GRANTS_BYTES_MAX as u64).await
    }

    fn apply(&self, content: &Vec<u8>, _: UnixTime) -> Result<(), Error> {
        if content.trim_ascii().is_empty() {
            // A file that is being written is empty for a moment.
            let file = self.file.display();
            let message =
                format!("the grants file {file} is empty; a comment in it grants nothing");
            return Err(Error::new(message));
        }
        let wrong = |error| {
            Error::new(format!("the grants file {} is wrong", self.file.display())).because(error)
        };
        let grants = Grants::parse(content).map_err(wrong)?;
        if let Some(name) = grants.first_name(&SIGNED_NAMES)
            && !self.has_authorities
        {
            let file = self.file.display();
            let message = format!(
                "the grants file {file} names '{name}', which only an authority can vouch for: give \
                 --client-ca, or name the certificate by '{CERTIFICATE_SHA256}DIGITS'"
            );
            return Err(Error::new(message));
        }
        self.issuers.set(grants.issuers());
        self.sender.send_replace(Arc::new(grants));
        Ok(())
    }
}
