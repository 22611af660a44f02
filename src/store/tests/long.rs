//! Files of many parts, whose lists are written and dropped in steps.

use super::*;
use crate::{
    limits::{EXPIRE_ROWS, LIST_STEP_ROWS},
    model::{CheckRequest, ChunkRange, SessionId},
    namespace::{
        assembly::{self, Cursor},
        content::{self, ListedPart, Part, Place},
        pin::Owner,
        session::{self, Built, Long, Outcome, Sent},
    },
    store::part_writer::Storing,
};

/// The bytes of one piece.
const PIECE: usize = 8;
/// More pieces than two steps take.
const PIECES: usize = 2 * LIST_STEP_ROWS + 3;

fn session(number: u8) -> SessionId {
    SessionId::parse(&format!("00000000-0000-4000-8000-0000000000{number:02x}")).unwrap()
}

impl Fixture {
    /// Makes a complete session of many pieces, and returns its bytes.
    async fn fill_session(&self, id: SessionId, at: &str) -> Vec<u8> {
        let (at, total) = (path(at), (PIECES * PIECE) as u64);
        let bytes: Vec<u8> = (0..PIECES).flat_map(usize::to_be_bytes).collect();
        let sent = bytes.clone();
        let add = move |tx: &mut Tx<'_>| {
            for (number, piece) in sent.chunks(PIECE).enumerate() {
                let range = ChunkRange::new((number * PIECE) as u64, PIECE as u64, total)?;
                let place = Place::Inline(Bytes::copy_from_slice(piece));
                let part = Part { digest: Digest::of(piece), size: PIECE as i64, place };
                let to = (&at, Replaces::default());
                session::add_chunk(tx, id, to, range, &Sent::Parts(vec![part]))?;
            }
            Ok(())
        };
        self.store.0.engine.write(None, add).await.unwrap();
        bytes
    }

    async fn commit(&self, id: SessionId) -> Result<()> {
        self.store.commit_session(id, &Call::system()).await.map(|entry| {
            entry.expect("the file");
        })
    }

    async fn long(&self, id: SessionId) -> Long {
        let commit = move |tx: &mut Tx<'_>| {
            session::commit(tx, id, (Replaces::default(), &Conditions::default()), None)
        };
        match self.store.0.engine.write(None, commit).await.unwrap() {
            Outcome::Long(long) => long,
            Outcome::Done(_) => panic!("all in one transaction"),
        }
    }

    /// Builds the content of a session with many pieces, and does not commit the session.
    async fn build(&self, id: SessionId) -> Built {
        let (session, owner) = (self.long(id).await, Owner::new(&self.store.0.server));
        let source: crate::store::assembly::PartSource =
            Arc::new(move |tx: &mut Tx<'_>, at| session.page(tx, at));
        let list = self.store.assemble(&owner, source, &Call::system()).await.unwrap();
        Built { session, owner, list }
    }

    async fn page(&self, long: Long, at: Cursor) -> Result<Vec<ListedPart>> {
        self.store.0.engine.read(None, move |tx: &mut Tx<'_>| long.page(tx, at)).await
    }

    async fn expect_well(&self) {
        let mut checking =
            self.store.check(CheckRequest { deep: true, repair: false }, &Call::system()).unwrap();
        while let Some(report) = checking.next().await.unwrap() {
            assert_eq!(report.findings, []);
        }
    }
}

#[tokio::test]
async fn a_session_of_many_pieces_becomes_a_file_in_steps() {
    let fixture = Fixture::new().await;
    let bytes = fixture.fill_session(session(1), "long").await;
    let long = fixture.long(session(1)).await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM content_part").await, 0, "nothing yet");
    let mut at = Cursor::default();
    let mut pages = Vec::new();
    loop {
        let page = fixture.page(long, at).await.unwrap();
        pages.push(page.len());
        if page.is_empty() {
            break;
        }
        at.pass(&page);
    }
    assert_eq!(pages, [LIST_STEP_ROWS, LIST_STEP_ROWS, 3, 0]);

    let before = fixture.store.0.engine.written();
    fixture.commit(session(1)).await.unwrap();
    assert_eq!(fixture.read("long").await.unwrap(), bytes);
    // Writes: a commit that finds a long list, the new content, its pages, and the commit.
    assert!(fixture.store.0.engine.written() - before >= 3 + pages.len() as u64);
    fixture.commit(session(1)).await.unwrap();
    fixture.idle().await;
    assert!(fixture.store.0.engine.written() - before >= (PIECES.div_ceil(EXPIRE_ROWS)) as u64);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_chunk").await, 0);
    assert_eq!(fixture.number("SELECT pieces FROM upload_session").await, 0);
    // The background pins the content while it computes the digest.
    until("nothing is pinned", async || fixture.number("SELECT COUNT(*) FROM pin").await == 0)
        .await;
    fixture.expect_well().await;
}

#[tokio::test]
async fn pieces_that_a_commit_leaves_are_no_damage() {
    let fixture = Fixture::new().await;
    fixture.fill_session(session(1), "long").await;
    let built = fixture.build(session(1)).await;
    let commit = move |tx: &mut Tx<'_>| {
        let how = (Replaces::default(), &Conditions::default());
        session::commit(tx, session(1), how, Some(&built)).map(drop)
    };
    fixture.store.0.engine.write(None, commit).await.unwrap();
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_chunk").await, PIECES as i64);
    fixture.expect_well().await;
    let drop_some = move |tx: &mut Tx<'_>| session::drop_pieces(tx, session(1));
    assert!(fixture.store.0.engine.write(None, drop_some).await.unwrap());
    fixture.expect_well().await;
    fixture.store.delete_session(session(1), &Call::system()).await.unwrap();
    fixture.idle().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_chunk").await, 0);
    fixture.expect_well().await;
}

#[tokio::test]
async fn what_is_built_and_not_committed_is_reclaimed() {
    let fixture = Fixture::new().await;
    fixture.fill_session(session(1), "long").await;
    let Built { owner: own, list, .. } = fixture.build(session(1)).await;
    fixture.expect_well().await;
    fixture.store.unpin(own.id.clone());
    fixture.idle().await;
    let again = (own.clone(), list.clone());
    let put = move |tx: &mut Tx<'_>| {
        assembly::put(tx, &again.0, (&path("long"), Replaces::default()), &again.1, None).map(drop)
    };
    let lost = fixture.store.0.engine.write(None, put).await.unwrap_err();
    assert_eq!(lost.kind(), Kind::Busy);
    let step = move |tx: &mut Tx<'_>| assembly::write(tx, &own, &list, Cursor::default(), &[]);
    let lost = fixture.store.0.engine.write(None, step).await.unwrap_err();
    assert_eq!(lost.kind(), Kind::Busy);
    until("it is reclaimed", async || {
        fixture.store.reclaim().await.unwrap();
        fixture.number("SELECT COUNT(*) FROM content").await == 0
    })
    .await;
    fixture.commit(session(1)).await.unwrap();
    fixture.idle().await;
    fixture.expect_well().await;
}

#[tokio::test]
async fn a_list_that_is_there_is_used_and_healed() {
    let fixture = Fixture::new().await;
    let bytes = fixture.fill_session(session(1), "one").await;
    fixture.commit(session(1)).await.unwrap();
    for (number, damage) in [
        (2, "UPDATE content SET digest = digest"),
        (3, "DELETE FROM content_part WHERE start = 4800"),
        (4, "UPDATE content_part SET start = 4801 WHERE start = 4800"),
        (
            5,
            "INSERT INTO content_part SELECT content, 1000000, part FROM content_part WHERE start = 0",
        ),
    ] {
        fixture.store.0.engine.write(None, move |tx| tx.execute(damage, &[])).await.unwrap();
        fixture.fill_session(session(number), "other").await;
        fixture.commit(session(number)).await.unwrap();
        assert_eq!(fixture.number("SELECT COUNT(*) FROM content").await, 1, "{damage}");
        assert_eq!(fixture.read("one").await.unwrap(), bytes, "{damage}");
        fixture.idle().await;
        fixture.expect_well().await;
    }
}

#[tokio::test]
async fn a_session_of_many_pieces_is_given_up_in_steps() {
    let fixture = Fixture::new().await;
    fixture.fill_session(session(1), "long").await;
    let long = fixture.long(session(1)).await;
    let delete = move |tx: &mut Tx<'_>| session::delete(tx, session(1));
    assert!(fixture.store.0.engine.write(None, delete).await.unwrap());
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_chunk").await, PIECES as i64);
    fixture.expect_well().await;
    let call = &Call::system();
    let gone = fixture.store.session(session(1), call).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::SessionNotFound);
    let gone = fixture.store.delete_session(session(1), call).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::SessionNotFound);
    let all = fixture.store.sessions(None, 0, String::new(), call).await.unwrap();
    assert_eq!(all.items.len(), 0);
    let range = ChunkRange::new(0, 1, 2).unwrap();
    let busy = fixture.store.chunk(session(1), path("long"), range, call).await.unwrap_err();
    assert_eq!(busy.kind(), Kind::Busy);
    assert_eq!(fixture.page(long, Cursor::default()).await.unwrap_err().kind(), Kind::Busy);
    assert_eq!(fixture.store.info(call).await.unwrap().staging.count, 0);
    // A deleted session whose pieces a crash has left expires at once.
    fixture.store.expire().await.unwrap();
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_session").await, 0);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_chunk").await, 0);
    fixture.fill_session(session(1), "long").await;
    fixture.store.delete_session(session(1), call).await.unwrap();
    fixture.idle().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM upload_session").await, 0);
    fixture.expect_nothing_left().await;
}

#[tokio::test]
async fn an_upload_of_many_parts_becomes_a_file_in_steps() {
    let fixture = Fixture::new().await;
    let mut upload =
        fixture.store.upload(UploadSpec::new(path("f")), &Call::system()).await.unwrap();
    let owner = upload.part_writer.owner.clone();
    let place = Place::Inline(Bytes::from_static(b"12345678"));
    let part = Part { digest: Digest::of(b"12345678"), size: 8, place };
    let stored = Part { place: Place::Stored, ..part.clone() };
    let add = move |tx: &mut Tx<'_>| content::add_part(tx, &owner, &part);
    fixture.store.0.engine.write(None, add).await.unwrap();
    upload.part_writer.parts = (0..PIECES).map(|_| Storing::Done(stored.clone())).collect();
    upload.part_writer.has_pins = true;
    upload.write(Bytes::from_static(b"9")).await.unwrap();
    let before = fixture.store.0.engine.written();
    upload.finish().await.unwrap();
    // Writes: the new content, its pages, and the commit.
    assert!(fixture.store.0.engine.written() - before >= 2 + 4);
    assert_eq!(fixture.read("f").await.unwrap().len(), 8 * PIECES + 1);
    fixture.idle().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM pin").await, 0);
    fixture.expect_well().await;
}
