//! Tests of groups of uploads in a batch: their order among other jobs, and what a failure undoes.

use std::sync::mpsc::{Sender, channel};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use super::*;
use crate::{
    model::{BlobOwner, Conditions, Digest, EntryKind, Replaces, StorePath},
    namespace::{
        Database,
        content::{self, NewFile, Part, Place},
        initialize_or_recover, list,
        server::Joining,
        sql::Mode,
    },
};

const SOON: Duration = Duration::from_secs(20);

/// A store whose writer refuses an entry with the name `odd`, and undoes its transaction for one with the name
/// `undo`.
const TRIGGERS: &str = "
CREATE TRIGGER odd BEFORE INSERT ON entry WHEN new.name = 'odd' BEGIN SELECT RAISE(ABORT, 'odd'); END;
CREATE TRIGGER undo BEFORE INSERT ON entry WHEN new.name = 'undo'
BEGIN SELECT RAISE(ROLLBACK, 'undone'); END;
";

struct Fixture {
    engine: Engine,
    _dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(dir.path().join("namespace.sqlite"));
        let mut writer = database.connect(Mode::Write).unwrap();
        initialize_or_recover(
            writer.as_mut(),
            &Joining::alone(uuid::Uuid::nil()),
            BlobOwner::Nobody,
        )
        .unwrap();
        writer.make_tables(TRIGGERS).unwrap();
        let readers = vec![database.connect(Mode::Read).unwrap()];
        Self { engine: Engine::start(writer, readers, None).unwrap(), _dir: dir }
    }

    /// Blocks the writer until the returned sender is dropped.
    async fn hold(&self) -> Sender<()> {
        let (go_on, wait) = channel::<()>();
        let (begun, began) = oneshot::channel();
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let job = move |_: &mut Tx<'_>| {
                begun.send(()).unwrap();
                wait.recv_timeout(SOON).ok();
                Ok(())
            };
            engine.write(None, job).await
        });
        began.await.unwrap();
        go_on
    }

    /// Queues a task for the held writer, and returns once its job waits.
    async fn queue<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let waiting = self.engine.waiting();
        let task = tokio::spawn(task);
        while self.engine.waiting() == waiting {
            tokio::task::yield_now().await;
        }
        task
    }

    /// Queues the upload of a file whose bytes are its path.
    async fn upload(&self, at: &'static str) -> JoinHandle<Result<Placed>> {
        let engine = self.engine.clone();
        let bytes = Bytes::from_static(at.as_bytes());
        let digest = Digest::of(&bytes);
        let part = Part { digest, size: bytes.len() as i64, place: Place::Inline(bytes) };
        let path = StorePath::parse(at, "path").unwrap();
        let file = PlainFile::new(path.clone(), Conditions::default(), std::slice::from_ref(&part));
        let new = NewFile { path, replaces: Replaces::File, parts: vec![part], digest: None };
        let alone = move |tx: &mut Tx<'_>| {
            let (_, files_replaced) = content::put_file(tx, &new)?;
            Ok(Placed { stat: list::stat(tx, &new.path)?, files_replaced })
        };
        self.queue(async move { engine.put(None, file, alone).await }).await
    }

    /// The number of files, as the root counts them.
    async fn files(&self) -> i64 {
        self.engine.read(None, files).await.unwrap()
    }
}

fn files(tx: &mut Tx<'_>) -> Result<i64> {
    Ok(list::stat(tx, &StorePath::root())?.entry.totals.files)
}

fn version(placed: &Placed) -> i64 {
    match placed.stat.entry.kind {
        EntryKind::File { version, .. } => version.number,
        EntryKind::Folder => panic!("a folder"),
    }
}

#[tokio::test]
async fn a_job_between_two_uploads_sees_the_first_and_not_the_second() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let (one, two) = (fixture.upload("a/one").await, fixture.upload("a/two").await);
    let engine = fixture.engine.clone();
    let between = fixture.queue(async move { engine.write(None, files).await }).await;
    let three = fixture.upload("a/three").await;
    drop(held);
    assert_eq!(between.await.unwrap().unwrap(), 2);
    let mut versions = Vec::new();
    for upload in [one, two, three] {
        versions.push(version(&upload.await.unwrap().unwrap()));
    }
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(fixture.files().await, 3);
}

#[tokio::test]
async fn what_is_left_out_of_a_group_runs_alone_after_it() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let first = fixture.upload("a").await;
    let below = fixture.upload("a/below").await;
    let last = fixture.upload("b").await;
    drop(held);
    first.await.unwrap().unwrap();
    let error = below.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists);
    assert!(error.message().contains("\"a\" is a file"), "{error:?}");
    last.await.unwrap().unwrap();
    assert_eq!(fixture.files().await, 2);
}

#[tokio::test]
async fn a_group_that_fails_runs_job_by_job() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let good = fixture.upload("a/good").await;
    let odd = fixture.upload("a/odd").await;
    let last = fixture.upload("a/last").await;
    drop(held);
    assert_eq!(version(&good.await.unwrap().unwrap()), 1, "nothing of the group is kept");
    assert_eq!(odd.await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert_eq!(version(&last.await.unwrap().unwrap()), 2);
    assert_eq!(fixture.files().await, 2);
}

#[tokio::test]
async fn a_group_whose_transaction_is_undone_is_refused_with_its_batch() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let before = fixture.upload("a/before").await;
    let undone = fixture.upload("a/undo").await;
    let engine = fixture.engine.clone();
    let after = fixture.queue(async move { engine.write(None, files).await }).await;
    drop(held);
    for upload in [before, undone] {
        assert_eq!(upload.await.unwrap().unwrap_err().kind(), Kind::Internal);
    }
    assert_eq!(after.await.unwrap().unwrap_err().kind(), Kind::Internal);
    assert_eq!(fixture.files().await, 0);
    assert_eq!(fixture.engine.write(None, files).await.unwrap(), 0, "the writer goes on");
}

#[tokio::test]
async fn an_upload_whose_caller_has_left_is_not_put() {
    let fixture = Fixture::new();
    let held = fixture.hold().await;
    let left = fixture.upload("a/left").await;
    let stays = fixture.upload("a/stays").await;
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    drop(held);
    stays.await.unwrap().unwrap();
    assert_eq!(fixture.files().await, 1);
}

#[tokio::test]
async fn an_upload_after_its_deadline_is_not_put() {
    let fixture = Fixture::new();
    let late = Some(Instant::now());
    let put = fixture.engine.put(late, None, |_| Err(Error::internal("it ran"))).await;
    assert_eq!(put.unwrap_err().kind(), Kind::Timeout);
}
