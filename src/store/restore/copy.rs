//! The restore of a copy: a store takes the backup of another one, in place of an older one of the same store.
//!
//! The restore is asked which of the offered parts and folders the store has, so that they are not sent again. Until its
//! last transaction the store is marked as an unfinished copy ([`migration`]).

use std::collections::VecDeque;

use crate::{
    error::Result,
    model::{BackupPart, CopySource, FolderTag, Totals},
    namespace::{
        migration::{self, Credentials},
        restore::damaged,
        sql::Tx,
    },
    store::{Call, Restore, Store},
};

/// What the restore of a copy knows beside its records.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// Whether the store has folders of the source.
    has_folders: bool,
    /// For each offered part whose record has not come yet: whether its bytes come.
    wanted: VecDeque<bool>,
    /// The parts, and their bytes, whose bytes came.
    parts: u64,
    bytes: u64,
}

impl Copying {
    /// Whether the bytes of a part come, whose record has come. Counts them.
    pub(super) fn takes(&mut self, part: &BackupPart) -> bool {
        let is_wanted = self.wanted.pop_front().unwrap_or(true);
        if is_wanted {
            self.parts += 1;
            self.bytes += part.size as u64;
        }
        is_wanted
    }
}

/// What the restore of a copy has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// The totals of the store.
    pub totals: Totals,
    /// The parts whose bytes came.
    pub parts: u64,
    /// These bytes.
    pub bytes: u64,
    /// The folders that came, without the root.
    pub folders: u64,
}

impl Store {
    /// Begins the restore of a copy, from the messages of [`Store::backup_for_copy`] of another store. The store must be
    /// empty, or an earlier or unfinished copy of that store; the header decides this.
    ///
    /// # Errors
    /// `Busy` if another restore runs.
    pub fn restore_copy(&self, call: &Call) -> Result<Restore> {
        self.begin_restore(Some(Copying::default()), call)
    }

    /// Makes a store that is a whole copy a store of its own, before the first call of a client. No migration goes on
    /// with it from then on.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn release_copy(&self) -> Result<()> {
        // A start of any other store commits nothing more.
        if !self.0.engine.read(None, migration::is_copy).await? {
            return Ok(());
        }
        self.0.engine.write(None, migration::release).await
    }

    /// Reads what a backup does not contain: the tokens and the key of links.
    ///
    /// # Errors
    /// `Timeout`; those of the engine.
    pub async fn credentials(&self, call: &Call) -> Result<Credentials> {
        self.0.engine.read(call.deadline(), Credentials::read).await
    }
}

impl Restore {
    /// Answers an offer of parts: the indices of those that the store does not have.
    ///
    /// # Errors
    /// `Busy` if the database does not answer; `Internal`.
    ///
    /// # Cancel safety
    /// The restore cannot continue when the future is dropped.
    pub async fn offer(&mut self, parts: Vec<BackupPart>) -> Result<Vec<u32>> {
        let look = move |tx: &mut Tx<'_>| migration::missing_parts(tx, &parts);
        let missing = self.held.store.0.engine.read(None, look).await?;
        let wanted = indices(&missing);
        if let Some(copy) = &mut self.copy {
            copy.wanted = missing.into();
        }
        Ok(wanted)
    }

    /// Answers an offer of folders: the indices of those that the store does not have; `None` if it has none at all, so
    /// that no more need be offered.
    ///
    /// # Errors
    /// Those of [`Restore::offer`].
    ///
    /// # Cancel safety
    /// That of [`Restore::offer`].
    pub async fn offer_folders(&self, tags: Vec<FolderTag>) -> Result<Option<Vec<u32>>> {
        if !self.copy.as_ref().is_some_and(|copy| copy.has_folders) {
            return Ok(None);
        }
        let look = move |tx: &mut Tx<'_>| migration::missing_folders(tx, &tags);
        let missing = self.held.store.0.engine.read(None, look).await?;
        Ok(Some(indices(&missing)))
    }

    /// Makes the copy visible, once all of it is durable, in place of what the store had. With `credentials`, the store
    /// takes over those of the source.
    ///
    /// # Errors
    /// Those of [`Restore::finish`], except `AlreadyExists`. Nothing has changed then, and the store stays unfinished.
    pub async fn finish_copy(
        mut self,
        credentials: Option<Credentials>,
        call: &Call,
    ) -> Result<Copied> {
        let build = self.settle(call).await?;
        let finish = move |tx: &mut Tx<'_>| build.finish_copy(tx, credentials.as_ref());
        let totals = self.held.store.0.engine.write(call.deadline(), finish).await?;
        let Copying { parts, bytes, .. } = self.copy.take().unwrap_or_default();
        Ok(Copied { totals, parts, bytes, folders: self.counts.folders.saturating_sub(1) })
    }

    /// Marks the store as an unfinished copy.
    pub(super) async fn begin_copy(&mut self, source: Option<&CopySource>) -> Result<()> {
        let source = *source.ok_or_else(|| damaged("it is not made for a copy of a store"))?;
        let begin = move |tx: &mut Tx<'_>| migration::begin(tx, &source);
        let has_folders = self.held.store.0.engine.write(None, begin).await?;
        self.copy = Some(Copying { has_folders, ..Copying::default() });
        Ok(())
    }
}

/// The indices of the true ones.
fn indices(flags: &[bool]) -> Vec<u32> {
    (0..).zip(flags).filter(|(_, flag)| **flag).map(|(index, _)| index).collect()
}
