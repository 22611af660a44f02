//! One of many concurrent clients, and its random calls.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join, join_all, try_join_all};
use imagestore::error::Kind;

use super::{
    content::{Class, PIECE_MIN, SIZE_MIN, Upload},
    record::{Record, SKIPPED},
};
use crate::{
    dice::Dice,
    harness::{Copy, Driver, Item, Outcome, copy},
};

/// A driver of one interface that tasks can share.
pub(super) type Shared = Arc<dyn Driver + Send>;

/// A client. Only this client writes below `own/c<number>`, so it knows the files there; the folder `own` is
/// shared.
pub(super) struct Client {
    pub(super) number: usize,
    /// The driver that the client mainly uses, and the driver of the other interface.
    pub(super) stores: [Shared; 2],
    pub(super) record: Arc<Record>,
    pub(super) dice: Dice,
    own: BTreeMap<String, Upload>,
}

impl Client {
    pub(super) fn new(
        number: usize,
        mut stores: [Shared; 2],
        record: Arc<Record>,
        seed: u64,
    ) -> Self {
        stores.rotate_left(number % 2);
        let dice = Dice(seed.wrapping_add(number as u64));
        Self { number, stores, record, dice, own: BTreeMap::new() }
    }

    /// Performs this number of random actions.
    pub(super) async fn run(mut self, calls: usize) -> Self {
        for _ in 0..calls {
            match Box::pin(self.act()).await {
                Err(fault) if !is_expected(fault.kind) => panic!("{fault:?}"),
                _ => {}
            }
        }
        self
    }

    /// Performs one random action.
    async fn act(&mut self) -> Outcome<()> {
        match self.dice.roll(130) {
            0..12 => self.publish().await,
            12..22 => self.copy_packages().await,
            22..25 => self.delete_packages().await,
            25..40 => self.list_package().await,
            40..50 => self.read_package().await,
            50..58 => self.upload_hot().await,
            58..64 => self.upload_in_chunks().await,
            64..70 => self.copy_hot().await,
            70..73 => self.delete_hot().await,
            73..80 => self.read_hot().await,
            80..83 => self.mirror().await,
            83..96 => self.write_own().await,
            96..100 => self.see_own().await,
            100..112 => self.write_in_order().await,
            _ => self.read_in_order().await,
        }
    }

    fn store(&self) -> Shared {
        Arc::clone(&self.stores[0])
    }

    fn one_of<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names[self.dice.roll(names.len())]
    }

    /// Waits for a call, or sometimes cancels it; a cancelled call may or may not have taken effect.
    async fn wait(&mut self, call: impl Future<Output = Outcome<()>>) -> Outcome<()> {
        self.answer(call).await.unwrap_or(Ok(()))
    }

    /// The answer of a call; `None` if it was cancelled.
    async fn answer(&mut self, call: impl Future<Output = Outcome<()>>) -> Option<Outcome<()>> {
        let patience = match self.dice.roll(6) {
            0 => Duration::from_micros(self.dice.roll(3_000) as u64),
            _ => Duration::MAX,
        };
        tokio::time::timeout(patience, call).await.ok()
    }

    /// Copies with random options.
    async fn ask(&mut self, from: &str, to: &str) -> Outcome<()> {
        let mut ask: Copy = copy(from, to);
        ask.verify = self.dice.roll(6) == 0;
        ask.keep = self.dice.roll(6) == 0;
        if self.dice.roll(3) == 0 {
            ask = ask.skip(&["nothing", &SKIPPED.to_uppercase()]);
        }
        self.record.copy(&ask);
        let store = self.store();
        self.wait(async { store.copy(&ask).await }).await
    }

    /// Uploads a version of a package to a staging folder that no other client reads, then publishes it by
    /// one copy.
    async fn publish(&mut self) -> Outcome<()> {
        let store = self.store();
        let (staging, package) = self.record.package(&mut self.dice);
        let uploads = package.files.iter().map(|(name, upload)| {
            let (store, path) = (&store, format!("{staging}/{name}"));
            async move { store.upload(&path, &upload.all()).await }
        });
        try_join_all(uploads).await?;
        let to = self.live();
        let published = self.ask(&staging, &to).await;
        store.delete(&staging).await?;
        published
    }

    /// A random path to publish a version at.
    fn live(&mut self) -> String {
        format!("live/p{}", self.dice.roll(3))
    }

    /// A random path of a package: a published one, or one in a copy of the folder `live`.
    fn place(&mut self) -> String {
        let above = self.one_of(&["live", "live", "snap0", "snap1"]);
        format!("{above}/p{}", self.dice.roll(3))
    }

    async fn copy_packages(&mut self) -> Outcome<()> {
        let (from, to) = match self.dice.roll(6) {
            0..4 => (self.place(), self.place()),
            4 => ("live".to_owned(), format!("snap{}", self.dice.roll(2))),
            _ => (format!("snap{}", self.dice.roll(2)), "live".to_owned()),
        };
        self.ask(&from, &to).await
    }

    async fn delete_packages(&mut self) -> Outcome<()> {
        let path = match self.dice.roll(4) {
            0 => "snap0".to_owned(),
            _ => self.place(),
        };
        let store = self.store();
        self.wait(async { store.delete(&path).await }).await
    }

    async fn list_package(&mut self) -> Outcome<()> {
        let folder = format!("{}{}", self.place(), self.one_of(&["", "", "/sub"]));
        let items = self.store().list(&folder).await?;
        self.record.listed(&folder, &items);
        Ok(())
    }

    async fn read_package(&mut self) -> Outcome<()> {
        let path = format!("{}/{}", self.place(), self.one_of(&["f0", "f1", SKIPPED, "sub/f0"]));
        self.read(&path).await
    }

    /// Downloads a random file range or the whole file, and records the bytes.
    async fn read(&mut self, path: &str) -> Outcome<()> {
        let store = self.store();
        let (offset, length, bytes) = if self.dice.roll(2) == 0 {
            (0, usize::MAX, store.download(path).await?)
        } else {
            let offset = self.dice.roll(SIZE_MIN - PIECE_MIN);
            let length = PIECE_MIN + self.dice.roll(40_000);
            (offset, length, store.range(path, offset as u64, length as u64).await?)
        };
        let whole = Upload::of(&bytes, offset).size();
        assert_eq!(bytes.len(), length.min(whole - offset), "{path} from {offset}");
        self.record.saw(path, &bytes, offset);
        Ok(())
    }

    fn hot(&mut self) -> String {
        format!("hot/{}/f{}", self.one_of(&["a", "b", "c"]), self.dice.roll(4))
    }

    fn class(&mut self) -> Class {
        match self.dice.roll(60) {
            0 => Class::Large,
            1..30 => Class::Object,
            _ => Class::Inline,
        }
    }

    async fn upload_hot(&mut self) -> Outcome<()> {
        let (path, class) = (self.hot(), self.class());
        let bytes = self.record.upload(&path, class, &mut self.dice).all();
        let store = self.store();
        self.wait(async { store.upload(&path, &bytes).await }).await
    }

    /// Sends the same chunks of one session over both interfaces at once, and commits it over both.
    async fn upload_in_chunks(&mut self) -> Outcome<()> {
        let path = self.hot();
        let bytes = self.record.upload(&path, Class::Object, &mut self.dice).all();
        let session = uuid::Uuid::new_v4().to_string();
        let size = bytes.len() / 4 + self.dice.roll(bytes.len());
        let send = async |store: &Shared| {
            let chunks = bytes.chunks(size).zip((0..).step_by(size));
            let chunks = chunks.map(|(chunk, offset)| {
                let at = (offset, bytes.len() as u64);
                store.chunk(&session, &path, at, chunk)
            });
            join_all(chunks).await.into_iter().collect::<Outcome<()>>()?;
            store.commit(&session).await
        };
        let (first, second) = join(send(&self.stores[0]), send(&self.stores[1])).await;
        first.and(second)
    }

    async fn copy_hot(&mut self) -> Outcome<()> {
        let folders = ["hot/a", "hot/b", "hot/c"];
        let (from, to) = match self.dice.roll(2) {
            0 => (self.hot(), self.hot()),
            _ => (self.one_of(&folders).to_owned(), self.one_of(&folders).to_owned()),
        };
        self.ask(&from, &to).await
    }

    async fn delete_hot(&mut self) -> Outcome<()> {
        let path = if self.dice.roll(4) == 0 { "hot/a".to_owned() } else { self.hot() };
        let store = self.store();
        self.wait(async { store.delete(&path).await }).await
    }

    async fn read_hot(&mut self) -> Outcome<()> {
        let path = self.hot();
        self.read(&path).await
    }

    /// A file whose calls are judged in real time.
    fn ordered(&mut self) -> String {
        format!("order/f{}", self.dice.roll(3))
    }

    /// Writes bytes that no other write has: by an upload, by the commit of a session, or by a copy.
    async fn write_in_order(&mut self) -> Outcome<()> {
        let (path, class) = (self.ordered(), self.class());
        let store = Arc::clone(&self.stores[self.dice.roll(2)]);
        let how = self.dice.roll(3);
        let id = uuid::Uuid::new_v4().to_string();
        let at = if how == 0 { format!("staging/{id}") } else { path.clone() };
        let upload = self.record.unique(&at, class);
        let bytes = upload.all();
        let last = async {
            match how {
                0 => store.copy(&copy(&at, &path)).await,
                1 => store.commit(&id).await,
                _ => store.upload(&path, &bytes).await,
            }
        };
        match how {
            0 => {
                store.upload(&at, &bytes).await?;
                self.record.copy(&copy(&at, &path));
            }
            1 => store.chunk(&id, &path, (0, bytes.len() as u64), &bytes).await?,
            _ => {}
        }
        self.record.order.begin(&path, upload);
        match self.answer(last).await {
            Some(Ok(())) => self.record.order.end(&path, upload),
            Some(Err(fault)) if fault.kind != Kind::VerdictUnknown => panic!("{fault:?}"),
            Some(Err(_)) | None => {}
        }
        Ok(())
    }

    async fn read_in_order(&mut self) -> Outcome<()> {
        let path = self.ordered();
        let store = Arc::clone(&self.stores[self.dice.roll(2)]);
        let begun = Instant::now();
        let seen = match store.download(&path).await {
            Ok(bytes) => Some(Upload::of(&bytes, 0)),
            Err(fault) if is_expected(fault.kind) => None,
            Err(fault) => panic!("{fault:?}"),
        };
        self.record.order.read(&path, seen, begun);
        Ok(())
    }

    /// Copies the folder `own`, so that the next write below it has to clone.
    async fn mirror(&mut self) -> Outcome<()> {
        let path = format!("mirror{}", self.dice.roll(2));
        let number = self.dice.roll(4);
        self.ask("own", &path).await?;
        self.read(&format!("{path}/c{number}/x")).await
    }

    fn own(&self, name: &str) -> String {
        format!("own/c{}/{name}", self.number)
    }

    /// Changes something below the client's own folder. No other client does, so the result is known exactly.
    async fn write_own(&mut self) -> Outcome<()> {
        let store = self.store();
        let name = self.one_of(&["x", "y", "d/x", "d/y/z", "e/x"]);
        let path = self.own(name);
        match self.dice.roll(10) {
            0..6 => {
                let class = self.class();
                let upload = self.record.upload(&path, class, &mut self.dice);
                store.upload(&path, &upload.all()).await.expect("stored");
                self.own.insert(name.to_owned(), upload);
            }
            6 => {
                store.delete(&path).await.expect("deleted");
                self.own.remove(name);
            }
            7 => {
                store.delete(&self.own("d")).await.expect("deleted");
                self.own.retain(|name, _| !name.starts_with("d/"));
            }
            8 => self.copy_own(name, "y").await?,
            _ => self.copy_own("d", "e").await?,
        }
        self.see_own().await
    }

    async fn copy_own(&mut self, from: &str, to: &str) -> Outcome<()> {
        let copy = copy(&self.own(from), &self.own(to));
        self.record.copy(&copy);
        let moved = |name: &str| {
            let below = name.strip_prefix(from)?;
            (below.is_empty() || below.starts_with('/')).then(|| format!("{to}{below}"))
        };
        let copied: Vec<_> =
            self.own.iter().filter_map(|(name, upload)| Some((moved(name)?, *upload))).collect();
        let outcome = self.store().copy(&copy).await;
        if copied.is_empty() {
            assert!(outcome.as_ref().is_err_and(|fault| is_expected(fault.kind)), "{outcome:?}");
            return Ok(());
        }
        outcome.expect("copied");
        if from != to {
            self.own.retain(|name, _| name != to && !name.starts_with(&format!("{to}/")));
            self.own.extend(copied);
        }
        Ok(())
    }

    /// Checks, over a random interface, that the client's own folder is as the client left it.
    pub(super) async fn see_own(&mut self) -> Outcome<()> {
        let sizes: BTreeMap<_, _> =
            self.own.iter().map(|(name, upload)| (self.own(name), upload.size() as u64)).collect();
        let folder = format!("own/c{}", self.number);
        let store = Arc::clone(&self.stores[self.dice.roll(2)]);
        let found = match files(&*store, &folder).await {
            Err(fault) if is_expected(fault.kind) && sizes.is_empty() => return Ok(()),
            found => found.expect("a listing"),
        };
        assert_eq!(found, sizes, "{folder}");
        let some = self.dice.roll(sizes.len());
        let (name, upload) = self.own.iter().nth(some).expect("a file");
        let bytes = store.download(&self.own(name)).await.expect("the bytes");
        assert!(bytes == upload.all(), "{folder}/{name} is not as {upload:?} left it");
        Ok(())
    }
}

/// The sizes of all files below a folder that no client changes now. Checks the totals of every folder by a
/// recount.
pub(super) async fn files(store: &dyn Driver, folder: &str) -> Outcome<BTreeMap<String, u64>> {
    let mut files = BTreeMap::new();
    for Item { path, is_folder, size, files: count, .. } in store.list(folder).await? {
        if !is_folder {
            files.insert(path, size);
            continue;
        }
        let below = Box::pin(self::files(store, &path)).await?;
        assert_eq!(below.len() as u64, count, "the files of {path}");
        assert_eq!(store.size(&path).await?, below.values().sum::<u64>(), "the bytes of {path}");
        files.extend(below);
    }
    Ok(files)
}

/// Whether concurrent clients can cause an error of this kind.
fn is_expected(kind: Kind) -> bool {
    matches!(
        kind,
        // A chunk was repeated after the commit of its session, and another client has changed the file.
        Kind::SessionConflict | Kind::FileNotFound | Kind::FolderNotFound | Kind::PathNotFound
    )
}
