//! Backups of a store that changes meanwhile, and the cleanup of backups and restores that do not finish.

use tokio::time::timeout;

use super::*;
use crate::{
    limits::{BACKUP_PAGE_ROWS, RESTORE_STEP_ROWS},
    model::{BackupRecord, FileVersion, Taken},
    namespace::{
        content::{self, NewFile, Part, Place},
        pin::Owner,
        restore::{Build, Step},
    },
};

/// More files than one page has; with their contents and parts, more rows than one step writes.
const FILES: usize = BACKUP_PAGE_ROWS + 100;
const _: () = assert!(4 * FILES > RESTORE_STEP_ROWS);

/// Makes a folder of many small files in one transaction.
async fn many_files(fixture: &Fixture, folder: &str) {
    let folder = path(folder);
    let put = move |tx: &mut Tx<'_>| {
        for number in 0..FILES {
            let bytes = Bytes::copy_from_slice(&number.to_be_bytes());
            let (digest, size) = (Digest::of(&bytes), bytes.len() as i64);
            let parts = vec![Part { digest, size, place: Place::Inline(bytes) }];
            let path = folder.child(&number.to_string());
            content::put_file(
                tx,
                &NewFile { path, replaces: Replaces::default(), parts, digest: Some(digest) },
            )?;
        }
        Ok(())
    };
    fixture.store.0.engine.write(None, put).await.unwrap();
}

/// A store with all kinds of records.
async fn filled() -> Fixture {
    let fixture = Fixture::new().await;
    fixture.upload("a/b/large", object(1)).await.unwrap();
    fixture.upload("a/b/larger", object(2)).await.unwrap();
    fixture.upload("a/empty", Bytes::new()).await.unwrap();
    many_files(&fixture, "a/many").await;
    finish(fixture.store.copy(request("a", "c"), false, &Call::system()).await.unwrap())
        .await
        .unwrap();
    fixture
}

/// Reads a backup to its end, and answers each offer with all of its parts.
async fn rest(backup: &mut Backup) -> Result<Vec<BackupMessage>> {
    let mut pieces = Vec::new();
    while let Some(piece) = backup.next().await {
        match piece? {
            BackupMessage::Offer(parts) => {
                assert!(parts.len() <= BACKUP_PAGE_ROWS);
                backup.want((0..).zip(parts).map(|(place, _)| place).collect()).await;
            }
            piece @ (BackupMessage::Record(_) | BackupMessage::Data(_)) => pieces.push(piece),
            BackupMessage::Folders(_) => unreachable!(),
        }
    }
    Ok(pieces)
}

async fn whole(fixture: &Fixture) -> Vec<BackupMessage> {
    rest(&mut fixture.store.backup(true, &Call::system()).await.unwrap()).await.unwrap()
}

/// Gives pieces to a restore.
async fn feed(restore: &mut Restore, pieces: &[BackupMessage]) -> Result<()> {
    for piece in pieces {
        match piece.clone() {
            BackupMessage::Record(record) => restore.record(record).await?,
            BackupMessage::Data(data) => restore.data(data).await?,
            BackupMessage::Offer(_) | BackupMessage::Folders(_) => unreachable!(),
        }
    }
    Ok(())
}

async fn begin(fixture: &Fixture) -> Restore {
    fixture.store.restore(&Call::system()).await.unwrap()
}

async fn delete_all(fixture: &Fixture) {
    for name in ["a", "c"] {
        fixture.store.delete(&path(name), &Call::system()).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_deleted_during_a_backup_stays_until_its_end() {
    let fixture = filled().await;
    let mut backup = fixture.store.backup(false, &Call::system()).await.unwrap();
    delete_all(&fixture).await;
    fixture.store.reclaim().await.unwrap();
    let pieces = rest(&mut backup).await.unwrap();
    let other = Fixture::new().await;
    let mut restore = begin(&other).await;
    feed(&mut restore, &pieces).await.unwrap();
    assert_eq!(restore.finish(&Call::system()).await.unwrap().files, 2 * (FILES as i64 + 3));
    assert_eq!(other.read("a/b/larger").await.unwrap(), object(2));
    assert_eq!(other.read("c/many/7").await.unwrap(), 7_usize.to_be_bytes());
    drop(backup);
    fixture.idle().await;
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn a_backup_that_is_dropped_holds_nothing() {
    let fixture = filled().await;
    for pieces in 0..4 {
        let mut backup = fixture.store.backup(true, &Call::system()).await.unwrap();
        for _ in 0..pieces {
            backup.next().await.unwrap().unwrap();
        }
        drop(backup);
        fixture.idle().await;
        assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    }
    delete_all(&fixture).await;
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn a_lost_part_ends_a_backup_and_its_path_is_told() {
    let fixture = filled().await;
    for key in fixture.gate.keys().await {
        fixture.store.0.blobs.delete(&key).await.unwrap();
    }
    let mut backup = fixture.store.backup(true, &Call::system()).await.unwrap();
    let error = rest(&mut backup).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.message().contains("\"a/b/large\""), "{error}");
    // A caller that wants no bytes does not notice that they are missing.
    let mut backup = fixture.store.backup(false, &Call::system()).await.unwrap();
    while let Some(piece) = backup.next().await {
        if let BackupMessage::Offer(_) = piece.unwrap() {
            backup.want(Vec::new()).await;
        }
    }
    fixture.idle().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
}

#[tokio::test]
async fn only_so_many_backups_and_one_restore_run_at_once() {
    let fixture = filled().await;
    let mut running = Vec::new();
    // The last permit is the reserve for other peers.
    for _ in 1..BACKUPS_MAX {
        // None of them ends before its first offer has an answer.
        running.push(fixture.store.backup(false, &Call::system()).await.unwrap());
    }
    let error = fixture.store.backup(false, &Call::system()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    drop(running);
    fixture.idle().await;
    drop(fixture.store.backup(false, &Call::system()).await.unwrap());
    delete_all(&fixture).await;
    let restoring = begin(&fixture).await;
    let error = fixture.store.restore(&Call::system()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    drop(restoring);
    drop(begin(&fixture).await);
}

#[tokio::test]
async fn a_restore_that_breaks_off_anywhere_leaves_nothing() {
    let pieces = whole(&filled().await).await;
    let fixture = Fixture::new().await;
    for length in (0..pieces.len()).step_by(pieces.len() / 4).chain([pieces.len()]) {
        let mut restore = begin(&fixture).await;
        feed(&mut restore, &pieces[..length]).await.unwrap();
        drop(restore);
        fixture.idle().await;
        fixture.expect_nothing_left().await;
    }
    let mut restore = begin(&fixture).await;
    feed(&mut restore, &pieces).await.unwrap();
    let totals = restore.finish(&Call::system()).await.unwrap();
    assert_eq!(totals.files, 2 * (FILES as i64 + 3));
    assert_eq!(fixture.read("c/b/large").await.unwrap(), object(1));
    fixture.idle().await;
    delete_all(&fixture).await;
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn what_waits_to_be_freed_is_read_before_a_restore_relies_on_it() {
    let pieces = whole(&filled().await).await;
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    for (at, byte) in [("well", 1), ("bad", 2)] {
        fixture.upload(at, object(byte)).await.unwrap();
        fixture.store.delete(&path(at), &Call::system()).await.unwrap();
    }
    fixture.log.expect("a stored part cannot be read");
    fixture.gate.spoil(&object(2)).await;
    drop_half(&fixture, &pieces).await;
    let mut restore = begin(&fixture).await;
    feed(&mut restore, &pieces).await.unwrap();
    restore.finish(&Call::system()).await.unwrap();
    fixture.idle().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    assert_eq!(fixture.read("a/b/large").await.unwrap(), object(1));
    assert_eq!(fixture.read("c/b/larger").await.unwrap(), object(2));
}

/// Begins a restore, and drops it while its parts are being put.
async fn drop_half(fixture: &Fixture, pieces: &[BackupMessage]) {
    let is_data = |piece: &&BackupMessage| matches!(piece, BackupMessage::Data(_));
    let (data, _) = (1..).zip(pieces).find(|(_, piece)| is_data(piece)).unwrap();
    let mut restore = begin(fixture).await;
    feed(&mut restore, &pieces[..data]).await.unwrap();
    drop(restore);
    fixture.idle().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
}

#[tokio::test]
async fn a_restore_that_lost_a_pin_is_given_up() {
    let pieces = whole(&filled().await).await;
    let fixture = Fixture::new().await;
    let mut restore = begin(&fixture).await;
    feed(&mut restore, &pieces).await.unwrap();
    let forget = |tx: &mut Tx<'_>| tx.execute("DELETE FROM pin", &[]);
    assert!(fixture.store.0.engine.write(None, forget).await.unwrap() > 0);
    let error = restore.finish(&Call::system()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
    let page = fixture.store.list(&StorePath::root(), 0, String::new(), &Call::system()).await;
    assert_eq!(page.unwrap().items, []);
}

#[tokio::test]
async fn a_restore_that_lost_its_last_pin_is_given_up() {
    let fixture = Fixture::new().await;
    let version = FileVersion { epoch_data_loss: 0, epoch_configuration: 0, number: 0 };
    let taken = Taken { at: 0, version, totals: Totals::default() };
    let mut build = Build::new(Owner::new("server"), taken);
    let finish = move |tx: &mut Tx<'_>| {
        build.add(tx, &Step::Record(BackupRecord::Folder(Totals::default())))?;
        tx.execute("DELETE FROM pin", &[])?;
        build.finish(tx)
    };
    let error = fixture.store.0.engine.write(None, finish).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Busy);
}

#[tokio::test]
async fn what_is_stored_during_a_restore_wins() {
    let pieces = whole(&filled().await).await;
    let fixture = Fixture::new().await;
    let mut restore = begin(&fixture).await;
    feed(&mut restore, &pieces).await.unwrap();
    fixture.upload("mine", object(3)).await.unwrap();
    let error = restore.finish(&Call::system()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists);
    fixture.idle().await;
    assert_eq!(fixture.read("mine").await.unwrap(), object(3));
    fixture.store.delete(&path("mine"), &Call::system()).await.unwrap();
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn a_record_after_the_last_one_is_refused() {
    let fixture = Fixture::new().await;
    let pieces = whole(&fixture).await;
    let mut restore = begin(&fixture).await;
    feed(&mut restore, &pieces).await.unwrap();
    let more = BackupRecord::List(Vec::new());
    assert_eq!(restore.record(more).await.unwrap_err().kind(), Kind::InvalidArgument);
}

#[tokio::test]
async fn an_object_of_a_restore_has_its_row_although_nothing_comes_after_it() {
    let pieces = whole(&filled().await).await;
    let is_object =
        |piece: &BackupMessage| matches!(piece, BackupMessage::Data(data) if data.len() > 100);
    let first = pieces.iter().position(is_object).expect("an object");
    let other = Fixture::new().await;
    let mut restore = begin(&other).await;
    feed(&mut restore, &pieces[..=first]).await.unwrap();
    let parts = "SELECT COUNT(*) FROM part WHERE object IS NOT NULL";
    until("the object has a row", async || other.number(parts).await == 1).await;
    assert_eq!(other.number("SELECT COUNT(*) FROM pin WHERE kind = 3").await, 1);
    feed(&mut restore, &pieces[first + 1..]).await.unwrap();
    restore.finish(&Call::system()).await.unwrap();
    assert_eq!(other.read("a/b/larger").await.unwrap(), object(2));
}

#[tokio::test]
async fn a_backup_that_has_lost_its_pin_ends_with_an_error() {
    let fixture = filled().await;
    let mut backup = fixture.store.backup(true, &Call::system()).await.unwrap();
    let unpin = |tx: &mut Tx<'_>| tx.execute("DELETE FROM pin", &[]);
    fixture.store.0.engine.write(None, unpin).await.unwrap();
    assert_eq!(rest(&mut backup).await.unwrap_err().kind(), Kind::Busy);
}

#[tokio::test]
async fn a_restore_claims_the_space_of_the_parts_that_it_writes() {
    let messages = whole(&filled().await).await;
    let is_object =
        |message: &BackupMessage| matches!(message, BackupMessage::Data(data) if data.len() > 100);
    let first = messages.iter().position(is_object).expect("an object");
    let BackupMessage::Data(data) = &messages[first] else { unreachable!() };
    let other = Fixture::new().await;
    other.gate.hold_answers();
    let mut restore = begin(&other).await;
    feed(&mut restore, &messages[..first]).await.unwrap();
    let space = &other.store.0.space;
    assert_eq!(space.claimed(), data.len() as u64, "before its bytes come");
    feed(&mut restore, &messages[first..=first]).await.unwrap();
    until("the part is put", async || other.gate.puts() > 0).await;
    assert_eq!(space.claimed(), data.len() as u64, "while it is put");
    other.gate.open();
    until("the part is stored", async || space.claimed() == 0).await;
}

#[tokio::test]
async fn what_waits_behind_a_part_of_a_restore_is_bounded_in_bytes() {
    let pieces = whole(&filled().await).await;
    let is_object =
        |piece: &BackupMessage| matches!(piece, BackupMessage::Data(data) if data.len() > 100);
    let first = pieces.iter().position(is_object).expect("an object");
    let other = Fixture::new().await;
    other.gate.hold_puts();
    let mut restore = begin(&other).await;
    feed(&mut restore, &pieces[..=first]).await.unwrap();
    let name = "n".repeat(crate::limits::NAME_BYTES_MAX);
    let target = crate::model::BackupTarget::Folder(0);
    let entries = vec![crate::model::BackupEntry { name, target }; BACKUP_PAGE_ROWS];
    let mut taken = 0;
    let waits = async {
        loop {
            restore.record(BackupRecord::Entries(entries.clone())).await.unwrap();
            taken += BACKUP_PAGE_ROWS * crate::limits::NAME_BYTES_MAX;
        }
    };
    assert!(timeout(Duration::from_millis(200), waits).await.is_err());
    assert!(taken <= 2 * crate::limits::RESTORE_WAITING_BYTES, "{taken} bytes wait");
}
