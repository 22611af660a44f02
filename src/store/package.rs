//! Packages: a folder as a ZIP archive, such as the `.sfpkg` of an application.
//!
//! The folder is pinned, so all bytes are of one snapshot, whatever is written meanwhile. The archive of a folder is
//! the same each time: the order is that of listings, the times are those of the store, and the bytes are compressed
//! in pieces of the same sizes.
//!
//! Everything below the folder is walked in pages: without compression once for the length, then for the bytes, then
//! for the directory at the end of the archive.
//!
//! **Memory.** A page of entries, a piece of a file, and of each file its CRC-32 and compressed size, which the
//! directory repeats. [`Budgets::package_pool`](super::budgets::Budgets) bounds that of all packages. The parts of
//! large files are read as by a [download](super::download), which has its own bound.

mod encode;
mod zip;

use bytes::{Bytes, BytesMut};

use self::{
    encode::Encoder,
    zip::{Entry, Length, Sums},
};
use crate::{
    budget::{Peer, PermitHandle},
    error::{Error, Kind, Result},
    limits::{
        DOWNLOAD_MESSAGE_BYTES, PACKAGE_BASE_BYTES, PACKAGE_FILE_BYTES, PACKAGE_FORMAT,
        PACKAGE_NAME_BYTES, PACKAGE_PAGE_ROWS, PACKAGE_POOL_BYTES,
    },
    model::StorePath,
    namespace::{
        content::PartRow,
        package::{self, Item, Root, Walk},
        pin::{self, Owner},
        sql::Tx,
        tree::File,
    },
    store::{
        Call, Store,
        download::single_part,
        pieces::{self, Interruption, PieceReceiver, PieceRequests},
        pins::PinGuard,
    },
};

/// How the files of a package are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all; the size is known before the bytes are.
    #[default]
    None,
    /// By deflate.
    Deflate,
}

/// What is known of a package before its first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageHeader {
    /// The entity tag: packages with the same tag have the same bytes.
    pub etag: String,
    /// The bytes of the archive; none with compression.
    pub size: Option<u64>,
}

/// A package that is being sent. Dropped, it ends, and its pin and permits are released.
#[derive(Debug)]
pub struct Package {
    /// What is known before the first byte.
    pub header: PackageHeader,
    receiver: PieceReceiver,
    is_over: bool,
}

impl Package {
    /// The next bytes, at most [`DOWNLOAD_MESSAGE_BYTES`]; `None` after the last or an error.
    ///
    /// # Errors
    /// `Corrupt` if a file is damaged, `Busy` if a permit is revoked for others, the blob store does not answer, or
    /// the store closes, `Internal`.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.is_over {
            return None;
        }
        let next = self.receiver.next().await.unwrap_or_else(|| Err(interrupted()));
        // An archive never ends without bytes, so an empty piece is its end.
        self.is_over = next.as_ref().map_or(true, Bytes::is_empty);
        match next {
            Ok(_) if self.is_over => None,
            next => Some(next),
        }
    }
}

fn interrupted() -> Error {
    let message =
        "the package stood still while others waited, or the server is stopping; try again";
    Error::new(Kind::Busy, message)
}

impl Store {
    /// Begins to send a folder as an archive.
    ///
    /// # Errors
    /// `FolderNotFound` if nothing or a file is at the path, `TooLarge` for too many files, `Busy` if too many
    /// downloads or packages wait, or others need the turn meanwhile, `Timeout`.
    ///
    /// # Cancel safety
    /// Can be dropped; the pin is released then.
    pub async fn package(
        &self,
        path: &StorePath,
        compression: Compression,
        call: &Call,
    ) -> Result<Package> {
        let budgets = &self.0.budgets;
        let mut turn = call.until(budgets.downloads.acquire(call.peer(), 1)).await?;
        let owner = Owner::new(&self.0.server);
        let held = PinGuard { store: self.clone(), owner: owner.id.clone() };
        let at = path.clone();
        let take = move |tx: &mut Tx<'_>| package::take(tx, &owner, &at);
        let root = self.0.engine.write(call.deadline(), take).await?;
        let room = budgets.package_pool.acquire(call.peer(), memory(&root));
        // The turn is of no use during this wait, so others may have it.
        turn.hold().stalls();
        let room = tokio::select! {
            room = call.until(room) => room?,
            error = turn.hold_mut().revoked() => return Err(error),
        };
        turn.hold().progress();
        let folder = PinnedFolder { held, folder: root.folder };
        let size = match compression {
            Compression::None => Some(call.until(folder.length()).await?),
            Compression::Deflate => None,
        };
        let code = match compression {
            Compression::None => "n",
            Compression::Deflate => "d",
        };
        let header =
            PackageHeader { etag: format!("{}-{PACKAGE_FORMAT}{code}", root.change_tag), size };
        let hold = turn.hold().clone();
        let holds = vec![hold.clone(), room.hold().clone()];
        let (receiver, asks, interruption) = pieces::channel(holds, vec![turn, room], &self.0.stop);
        let files = usize::try_from(root.totals.files).unwrap_or_default();
        let sending = PackageTask {
            path: path.clone(),
            folder,
            peer: call.peer(),
            asks,
            hold,
            compression,
            out: BytesMut::new(),
            sent: 0,
            sums: Vec::with_capacity(files),
        };
        self.spawn(sending.run(interruption));
        Ok(Package { header, receiver, is_over: false })
    }
}

/// The bytes that the work on a package takes, in the pool of packages.
fn memory(root: &Root) -> usize {
    let count = |number: i64| usize::try_from(number).unwrap_or_default();
    let (depth, files) = (count(root.reach.depth), count(root.totals.files));
    // The reach may be that of files that were deleted. There are no more rows than files, since every folder has one.
    let rows = depth.saturating_mul(PACKAGE_PAGE_ROWS).min(files.saturating_add(depth));
    let names = rows.saturating_mul(count(root.reach.length).saturating_add(PACKAGE_NAME_BYTES));
    let sums = files.saturating_mul(PACKAGE_FILE_BYTES);
    let all = PACKAGE_BASE_BYTES.saturating_add(names).saturating_add(sums);
    all.min(PACKAGE_POOL_BYTES)
}

/// The folder of a package, which is pinned.
struct PinnedFolder {
    held: PinGuard,
    folder: i64,
}

impl PinnedFolder {
    fn walk(&self) -> Walk {
        Walk::new(self.folder)
    }

    /// The next page of a walk; `None` after the last one. With `parts`, each small file has its part, if it has one.
    async fn page(&self, walk: &mut Walk, with_parts: bool) -> Result<Option<Vec<Found>>> {
        let owner = self.held.owner.clone();
        let mut here = std::mem::replace(walk, Walk::new(self.folder));
        let step = move |tx: &mut Tx<'_>| {
            // Without its pin the folder could be reclaimed, and a read would not notice that.
            pin::check(tx, &owner, 1)?;
            let Some(items) = here.step(tx)? else { return Ok((here, None)) };
            let find = |item: Item| {
                let small = item.file.as_ref().filter(|_| with_parts);
                let part = small.map(|file| single_part::part(tx, file)).transpose()?.flatten();
                Ok(Found { item, part })
            };
            let found = items.into_iter().map(find).collect::<Result<Vec<_>>>()?;
            Ok((here, Some(found)))
        };
        let (here, found) = self.held.store.0.engine.read(None, step).await?;
        *walk = here;
        Ok(found)
    }

    /// The length of the archive without compression.
    async fn length(&self) -> Result<u64> {
        let (mut walk, mut length) = (self.walk(), Length::default());
        while let Some(page) = self.page(&mut walk, false).await? {
            for found in page {
                let name = found.name();
                let entry = found.entry(&name);
                length.add(&entry, zip::plain_len(entry.size));
            }
        }
        Ok(length.total())
    }
}

/// An entry of the package, and the part of a small file.
struct Found {
    item: Item,
    part: Option<PartRow>,
}

impl Found {
    /// The name in the archive: that of an empty folder ends in `/`.
    fn name(&self) -> String {
        match self.item.file {
            Some(_) => self.item.path.clone(),
            None => format!("{}/", self.item.path),
        }
    }

    fn entry<'a>(&self, name: &'a str) -> Entry<'a> {
        let size = self.item.file.map_or(0, |file| file.size as u64);
        Entry { name, size, modified: self.item.modified }
    }
}

/// The sending end of a package.
struct PackageTask {
    path: StorePath,
    folder: PinnedFolder,
    peer: Peer,
    asks: PieceRequests,
    /// The handle of the turn, on which stalls of the caller are noted.
    hold: PermitHandle,
    compression: Compression,
    /// What is not sent yet.
    out: BytesMut,
    /// The bytes that were sent.
    sent: u64,
    /// The sums of the entries so far, in their order.
    sums: Vec<(u32, u64)>,
}

impl PackageTask {
    /// Sends the package until its end, or until the work is interrupted.
    async fn run(mut self, mut interruption: Interruption) {
        let sent = tokio::select! {
            sent = self.all() => sent,
            () = interruption.wait() => return,
        };
        if let Err(error) = sent {
            self.asks.fail(error, interruption).await;
        }
    }

    async fn all(&mut self) -> Result<()> {
        let mut walk = self.folder.walk();
        while let Some(page) = self.folder.page(&mut walk, true).await? {
            for found in page {
                self.entry(found).await?;
            }
        }
        let directory = self.sent + self.out.len() as u64;
        let (mut walk, mut offset) = (self.folder.walk(), 0);
        let entries = self.sums.len() as u64;
        let mut sums = std::mem::take(&mut self.sums).into_iter();
        while let Some(page) = self.folder.page(&mut walk, false).await? {
            for found in page {
                let (crc, packed) = sums
                    .next()
                    .ok_or_else(|| Error::internal("a pinned folder has got more entries"))?;
                let (name, sums) = (found.name(), Sums { crc, packed });
                let entry = found.entry(&name);
                entry.put_directory(&mut self.out, sums, offset);
                offset += entry.record_len(sums);
                self.send_full().await?;
            }
        }
        let size = self.sent + self.out.len() as u64 - directory;
        zip::put_end(&mut self.out, entries, directory, size);
        self.send_full().await?;
        let last = std::mem::take(&mut self.out).freeze();
        if !last.is_empty() {
            self.send(last).await?;
        }
        // An empty piece is the end, see `Package::next`.
        self.send(Bytes::new()).await
    }

    async fn entry(&mut self, found: Found) -> Result<()> {
        let name = found.name();
        let entry = found.entry(&name);
        let sums = match found.item.file {
            None => {
                entry.put_header(&mut self.out, Sums::default());
                Sums::default()
            }
            Some(file) if entry.is_streamed() => self.streamed(&entry, &file).await?,
            Some(file) => self.small(&entry, &file, found.part).await?,
        };
        self.sums.push((sums.crc, sums.packed));
        self.send_full().await
    }

    /// Adds a file of at most one message.
    async fn small(
        &mut self,
        entry: &Entry<'_>,
        file: &File,
        part: Option<PartRow>,
    ) -> Result<Sums> {
        let bytes = match part {
            _ if entry.size == 0 => Bytes::new(),
            Some(part) => {
                let path = self.path.child(entry.name);
                self.folder.held.store.read_part(&path, part).await?
            }
            None => {
                let mut receiver = self.read(entry, file);
                let mut bytes = BytesMut::new();
                while (bytes.len() as u64) < entry.size {
                    bytes.extend_from_slice(&receiver.next().await.ok_or_else(interrupted)??);
                }
                bytes.freeze()
            }
        };
        if bytes.len() as u64 != entry.size {
            let (found, size) = (bytes.len(), entry.size);
            let message = format!("\"{}\" has {found} bytes, not {size}", entry.name);
            return Err(Error::new(Kind::Corrupt, message));
        }
        let (packed, sums) = encode::whole(bytes, self.compression).await?;
        entry.put_header(&mut self.out, sums);
        self.out.extend_from_slice(&packed);
        Ok(sums)
    }

    /// Adds a larger file, piece by piece.
    async fn streamed(&mut self, entry: &Entry<'_>, file: &File) -> Result<Sums> {
        let mut receiver = self.read(entry, file);
        let mut encoder = Encoder::new(entry.size, self.compression);
        entry.put_header(&mut self.out, Sums::default());
        while encoder.left() > 0 {
            self.send_full().await?;
            let piece = receiver.next().await.ok_or_else(interrupted)??;
            encoder = encoder.push(piece, &mut self.out).await?;
        }
        let sums = encoder.sums();
        entry.put_descriptor(&mut self.out, sums);
        Ok(sums)
    }

    fn read(&self, entry: &Entry<'_>, file: &File) -> PieceReceiver {
        let turn = (self.peer, self.hold.clone());
        self.folder.held.store.send_pinned(self.path.child(entry.name), file, turn)
    }

    /// Sends what fills whole messages.
    async fn send_full(&mut self) -> Result<()> {
        while self.out.len() >= DOWNLOAD_MESSAGE_BYTES {
            let piece = self.out.split_to(DOWNLOAD_MESSAGE_BYTES).freeze();
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn send(&mut self, piece: Bytes) -> Result<()> {
        if !self.asks.wait().await {
            return Err(Error::new(Kind::Cancelled, "the caller of the package left"));
        }
        self.sent += piece.len() as u64;
        self.asks.answer(Ok(piece));
        Ok(())
    }
}
