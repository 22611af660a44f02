//! Downloads of files and whole folders.
//!
//! The bytes go into a file of another name beside the target, which is renamed when it is whole and
//! its digest is right; so a target is either complete or not there. A connection that is lost goes on
//! where it broke, as long as the file in the store is still the same. A file that is here already, byte
//! for byte, is not fetched, so a download that was stopped is continued by a second one.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    client::{
        Client,
        error::{Error, Result},
        joined,
        path::{name, relative, target},
        present,
        transfer::{Moved, Tally, Try},
        upload::tell,
    },
    limits,
    wire::v1::{DownloadRequest, Entry, EntryKind},
};

/// How the name of a file begins that is being filled.
const PARTIAL_BEGIN: &str = ".imagestore-";
/// How it ends.
const PARTIAL_END: &str = ".part";

/// What a download does with a file that exists on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuses to touch it.
    Refuse,
    /// Puts the new file in its place, whole.
    Overwrite,
}

/// How a folder is downloaded.
#[derive(Clone, Copy, Debug)]
pub struct FolderDownload {
    /// Files that are fetched at once.
    pub jobs: usize,
    /// What to do with files that exist.
    pub existing: Existing,
}

impl Client {
    /// Fetches a file as `local`, whose folder is made if it is missing. Where `local` is a folder,
    /// or ends in `/`, the file goes into it, under its own name.
    ///
    /// # Errors
    /// [`Error::Exists`] where `local` is another file and may not be overwritten;
    /// [`Error::Occupied`] where it is no file; [`Error::Damaged`] where the bytes are not those of the
    /// store's digest.
    ///
    /// # Cancel safety
    /// A download that is dropped leaves nothing.
    pub async fn download(
        &self,
        file: &Entry,
        local: &Path,
        existing: Existing,
        tally: &Arc<Tally>,
    ) -> Result<Moved> {
        let is_folder = local.is_dir() || local.as_os_str().as_encoded_bytes().ends_with(b"/");
        let local = if is_folder { target(local, name(&file.path))? } else { local.to_owned() };
        tally.expect(1, file.size_bytes);
        self.fetch(file, &local, existing, tally).await?;
        Ok(Moved { entry: file.clone(), local: Some(local) })
    }

    /// Fetches all files below a folder into the folder `local`, which is made if it is missing.
    /// Every file that has arrived is sent to `done`.
    ///
    /// # Cancel safety
    /// When it is dropped, the files that have arrived stay.
    pub async fn download_folder(
        &self,
        (folder, local): (&Entry, &Path),
        options: FolderDownload,
        tally: &Arc<Tally>,
        done: &mpsc::Sender<Moved>,
    ) -> Result<()> {
        tally.expect(folder.file_count, folder.size_bytes);
        tokio::fs::create_dir_all(local).await.map_err(Error::local("make", local))?;
        let found = self.files(&folder.path);
        found
            .try_for_each_concurrent(options.jobs, |listed| async move {
                let local = target(local, relative(&folder.path, &listed.path)?)?;
                // Only a description has the digest that the bytes are checked against.
                let entry = present(self.stat(&listed.path).await?.entry)?;
                self.fetch(&entry, &local, options.existing, tally).await?;
                tell(done, Moved { entry, local: Some(local) }).await;
                Ok(())
            })
            .await
    }

    async fn fetch(
        &self,
        file: &Entry,
        local: &Path,
        existing: Existing,
        tally: &Arc<Tally>,
    ) -> Result<()> {
        if file.kind() != EntryKind::File {
            return Err(Error::Answer(format!("{:?} became a folder", file.path)));
        }
        if is_here(file, local).await? {
            tally.add(1, file.size_bytes);
            return Ok(());
        }
        refuse_existing(local, existing)?;
        if let Some(folder) = local.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(Error::local("make", folder))?;
        }
        let (partial, created) = Partial::create(local)?;
        let (sender, data) = mpsc::channel(limits::TRANSFER_MESSAGES_IN_FLIGHT);
        let place = local.to_owned();
        let writer = tokio::task::spawn_blocking(move || write(created, &place, data));
        let mut this = Try::begin(tally);
        let received = self.receive(file, &mut this, &sender).await;
        drop(sender);
        // What failed on this side is the reason why nobody took the bytes.
        let digest = joined(writer).await?;
        received?;
        if !file.digest.is_empty() && file.digest != digest.to_hex().as_str() {
            let why = format!("its BLAKE3 is {digest}, not {}; fetch it again", file.digest);
            return Err(Error::Damaged { path: file.path.clone(), why });
        }
        let target = local.to_owned();
        joined(tokio::task::spawn_blocking(move || partial.keep(&target, existing))).await?;
        this.arrived();
        Ok(())
    }

    /// Receives all bytes of a file, across lost connections.
    async fn receive(
        &self,
        file: &Entry,
        this: &mut Try,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let mut patience = self.patience();
        while this.bytes() < file.size_bytes {
            let before = this.bytes();
            let received = self.receive_once(file, this, sink).await;
            if this.bytes() > before {
                patience.renew();
            }
            match received {
                Ok(()) if this.bytes() < file.size_bytes && !sink.is_closed() => {
                    let why = format!("it ended {} after {} bytes", file.path, this.bytes());
                    patience.after(Error::Lost { server: self.server.clone(), why }).await?;
                }
                Ok(()) => break,
                Err(error) => patience.after(error).await?,
            }
        }
        Ok(())
    }

    async fn receive_once(
        &self,
        file: &Entry,
        this: &mut Try,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let request = DownloadRequest {
            path: file.path.clone(),
            offset: this.bytes(),
            length: None,
            etag: file.etag.clone(),
        };
        let mut stream = self.answer(self.stub.clone().download(request).await)?;
        while let Some(message) = stream.message().await.map_err(|status| self.error(&status))? {
            this.moved(message.data.len());
            if this.bytes() > file.size_bytes {
                let why = format!("more than its {} bytes came", file.size_bytes);
                return Err(Error::Damaged { path: file.path.clone(), why });
            }
            if sink.send(message.data).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether a file has arrived before, byte for byte.
async fn is_here(file: &Entry, local: &Path) -> Result<bool> {
    // A link is not followed: who puts a file in its place refuses it.
    let found = local.symlink_metadata();
    if !found.is_ok_and(|found| found.is_file() && found.len() == file.size_bytes) {
        return Ok(false);
    }
    let local = local.to_owned();
    let hash = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        // A file that cannot be read is no reason to fail: it is treated as another one.
        let read = fs::File::open(local).and_then(|file| hasher.update_reader(file).map(drop));
        Ok(read.is_ok().then(|| hasher.finalize()))
    });
    Ok(joined(hash).await?.is_some_and(|digest| file.digest == digest.to_hex().as_str()))
}

/// Refuses to overwrite a file, unless that is allowed, and what is none in any case: nobody means to
/// put a file in the place of a device.
pub(super) fn refuse_existing(local: &Path, existing: Existing) -> Result<()> {
    let Ok(found) = local.symlink_metadata() else { return Ok(()) };
    let kind = found.file_type();
    if !kind.is_file() {
        let what = if kind.is_symlink() {
            "a symbolic link"
        } else if kind.is_dir() {
            "a folder"
        } else {
            "a device, a pipe or a socket"
        };
        return Err(Error::Occupied { path: local.to_owned(), what });
    }
    match existing {
        Existing::Refuse => Err(Error::Exists(local.to_owned())),
        Existing::Overwrite => Ok(()),
    }
}

/// Whether a file has the name of one that was being filled; a client that is killed leaves it.
pub(super) fn is_partial(name: &str) -> bool {
    name.starts_with(PARTIAL_BEGIN) && name.ends_with(PARTIAL_END)
}

/// Writes and hashes what comes, until there is no more.
fn write(
    mut file: fs::File,
    local: &Path,
    mut data: mpsc::Receiver<Bytes>,
) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    while let Some(data) = data.blocking_recv() {
        hasher.update(&data);
        file.write_all(&data).map_err(Error::local("write", local))?;
    }
    Ok(hasher.finalize())
}

/// A file that is being filled, beside its target. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Partial {
    /// Makes an empty file beside the target. Its name does not grow with that of the target, which
    /// may have all the length that the file system allows.
    pub(super) fn create(target: &Path) -> Result<(Self, fs::File)> {
        let name = format!("{PARTIAL_BEGIN}{}{PARTIAL_END}", Uuid::new_v4().simple());
        let path = target.with_file_name(name);
        let file = fs::File::create_new(&path).map_err(Error::local("write", target))?;
        Ok((Self { path, kept: false }, file))
    }

    /// Gives the file its name. Blocks.
    #[expect(clippy::disallowed_methods, reason = "who needs the name to last syncs the folder")]
    pub(super) fn keep(mut self, target: &Path, existing: Existing) -> Result<()> {
        refuse_existing(target, existing)?;
        fs::rename(&self.path, target).map_err(Error::local("write", target))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_kept_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("a");
        let (partial, _) = Partial::create(&target).expect("a file");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        drop(partial);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn only_force_overwrites() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("a");
        fs::write(&target, "old").expect("a file");
        for (existing, content) in [(Existing::Refuse, "old"), (Existing::Overwrite, "new")] {
            let (partial, mut file) = Partial::create(&target).expect("a file");
            file.write_all(b"new").expect("written");
            assert_eq!(partial.keep(&target, existing).is_ok(), content == "new");
            assert_eq!(fs::read_to_string(&target).expect("a file"), content);
            assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link, socket] = ["file", "link", "socket"].map(|name| folder.path().join(name));
        fs::write(&file, "old").expect("a file");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        for (place, what) in [
            (&link, "is a symbolic link"),
            (&socket, "is a device"),
            (&folder.path().into(), "is a folder"),
        ] {
            for existing in [Existing::Refuse, Existing::Overwrite] {
                let error = refuse_existing(place, existing).expect_err(what).to_string();
                assert!(error.contains(what), "{error}");
            }
        }
    }
}
