//! The grants file: who may do what, as the server uses it.

use std::{path::PathBuf, sync::Arc};

use rustls::pki_types::UnixTime;
use tokio::sync::watch;

use super::watched::{Source, Watched, read_owned};
use crate::{
    access::{ANONYMOUS, Grants, Rights},
    limits::GRANTS_BYTES_MAX,
    server::Error,
};

/// Puts a new grants file in use.
pub(in crate::server) struct GrantsSource {
    file: PathBuf,
    anonymous: watch::Sender<Arc<Rights>>,
}

impl GrantsSource {
    /// Reads the file. Returns the rights of who sends no credential, which change with the file.
    ///
    /// # Errors
    /// A file that cannot be read, that others may write, or that is wrong.
    pub(in crate::server) async fn open(
        file: PathBuf,
    ) -> Result<(watch::Receiver<Arc<Rights>>, Watched<Self>), Error> {
        let (anonymous, rights) = watch::channel(Arc::default());
        let source = Self { file, anonymous };
        let content = source.read().await?;
        source.apply(&content, UnixTime::now())?;
        Ok((rights, Watched::new(source, content)))
    }
}

impl Source for GrantsSource {
    const NAME: &str = "the grants file";
    type Content = Vec<u8>;

    async fn read(&self) -> Result<Vec<u8>, Error> {
        read_owned("grants file", &self.file, GRANTS_BYTES_MAX as u64).await
    }

    fn apply(&self, content: &Vec<u8>, _: UnixTime) -> Result<(), Error> {
        let wrong = |error| {
            Error::new(format!("the grants file {} is wrong", self.file.display())).because(error)
        };
        let grants = Grants::parse(content).map_err(wrong)?;
        self.anonymous.send_replace(Arc::new(grants.rights(&[ANONYMOUS.to_owned()])));
        Ok(())
    }
}
