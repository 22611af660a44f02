//! Checks beside writers that change rows between the scan, the judgement and the repair.

use super::*;
use crate::{
    model::{CheckRequest, Finding, FindingKind, SessionId},
    namespace::check::{self, Candidate, Repair, RepairResult, Verdict},
};

const REPAIR: CheckRequest = CheckRequest { deep: false, repair: true };

impl Fixture {
    async fn execute(&self, sql: &'static str) {
        let run = move |tx: &mut Tx<'_>| tx.execute(sql, &[]);
        self.store.0.engine.write(None, run).await.unwrap();
    }

    /// Judges a candidate: a folder, a session, or another row.
    async fn judge(&self, candidate: Candidate) -> Vec<Verdict> {
        let judge = move |tx: &mut Tx<'_>| check::judge(tx, &candidate);
        self.store.0.engine.read(None, judge).await.unwrap()
    }

    async fn repair(&self, repair: Repair) -> RepairResult {
        let step = move |tx: &mut Tx<'_>| check::repair(tx, &repair);
        self.store.0.engine.write(None, step).await.unwrap()
    }

    async fn check(&self) -> Vec<Finding> {
        let mut checking = self.store.check(REPAIR, &Call::system()).unwrap();
        let mut findings = Vec::new();
        while let Some(report) = checking.next().await.unwrap() {
            findings.extend(report.findings);
        }
        findings
    }

    async fn totals(&self, at: &str) -> Totals {
        self.store.stat(&path(at), &Call::system()).await.unwrap().entry.totals
    }
}

#[tokio::test]
async fn a_repair_that_finds_nothing_to_mend_waits_for_no_writer() {
    let fixture = Fixture::new().await;
    fixture.upload("a/b", "b").await.unwrap();
    fixture.execute("UPDATE entry SET size = 7 WHERE child IS NULL").await;
    fixture.execute("UPDATE folder SET bytes = 7").await;
    let held = fixture.hold_writer().await;
    let kinds: Vec<_> = fixture.check().await.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::EntrySize]);
    held.send(()).expect("the writer is still held");
}

#[tokio::test]
async fn what_is_written_after_the_verdict_on_a_folder_counts() {
    let fixture = Fixture::new().await;
    fixture.upload("a/b/f", "12345").await.unwrap();
    fixture.execute("UPDATE folder SET files = files + 2, bytes = bytes - 3").await;
    let id = "SELECT child FROM entry WHERE name = 'b'";
    let mut verdicts = fixture.judge(Candidate::Folder(fixture.number(id).await)).await;
    let Verdict { finding, repair } = verdicts.pop().unwrap();
    assert_eq!((finding.kind, finding.repaired), (FindingKind::FolderTotals, false));
    fixture.upload("a/b/g", "123").await.unwrap();
    fixture.upload("a/b/deep/er/h", "1").await.unwrap();
    assert_eq!(fixture.repair(repair.unwrap()).await, RepairResult::Yes);
    assert_eq!(fixture.totals("a/b").await, Totals { files: 3, bytes: 9 });
    assert!(fixture.check().await.iter().all(|finding| finding.repaired));
    assert_eq!(fixture.check().await, []);
}

#[tokio::test]
async fn what_arrives_after_the_verdict_on_a_session_counts() {
    let fixture = Fixture::new().await;
    let id = SessionId::parse("00000000-0000-4000-8000-000000000001").unwrap();
    let send = async |offset: u64| {
        let range = crate::model::ChunkRange::new(offset, 10, 30).unwrap();
        let mut chunk = fixture.store.chunk(id, path("f"), range, &Call::system()).await.unwrap();
        chunk.write(vec![1; 10].into()).await.unwrap();
        chunk.finish().await.unwrap();
    };
    send(0).await;
    fixture.execute("UPDATE upload_session SET received = 12").await;
    let mut verdicts = fixture.judge(Candidate::Session(id.to_string())).await;
    send(20).await;
    let repair = verdicts.pop().unwrap().repair.unwrap();
    assert_eq!(fixture.repair(repair.clone()).await, RepairResult::Yes);
    assert_eq!(fixture.number("SELECT received FROM upload_session").await, 20);
    fixture.store.delete_session(id, &Call::system()).await.unwrap();
    assert_eq!(fixture.repair(repair).await, RepairResult::No);
}

#[tokio::test]
async fn what_has_a_reason_to_be_there_since_the_verdict_stays() {
    let fixture = Fixture::with_grace(Duration::from_hours(1)).await;
    fixture.upload("f", "f").await.unwrap();
    fixture.store.delete(&path("f"), &Call::system()).await.unwrap();
    fixture.execute("DELETE FROM garbage").await;
    let content = fixture.number("SELECT id FROM content").await;
    let mut verdicts = fixture.judge(Candidate::Content(content)).await;
    let repair = verdicts.pop().unwrap().repair.unwrap();
    assert_eq!(fixture.repair(repair.clone()).await, RepairResult::Yes);
    assert_eq!(fixture.repair(repair.clone()).await, RepairResult::No, "it waits to be freed");
    fixture.execute("DELETE FROM garbage").await;
    fixture.upload("g", "f").await.unwrap();
    assert_eq!(fixture.repair(repair).await, RepairResult::No, "a file has it");
}

/// The missing object of a part that was reclaimed meanwhile is neither reported nor logged.
#[tokio::test]
async fn a_part_that_is_reclaimed_while_it_is_read_is_well() {
    let fixture = Fixture::new().await;
    fixture.upload("a", object(7)).await.unwrap();
    fixture.gate.close();
    let reads = fixture.gate.reads();
    let meanwhile = async {
        until("it is read", async || fixture.gate.reads() > reads).await;
        fixture.store.delete(&path("a"), &Call::system()).await.unwrap();
        until("it is reclaimed", async || fixture.gate.keys().await.is_empty()).await;
        fixture.gate.open();
    };
    let (findings, ()) = futures::join!(fixture.check(), meanwhile);
    assert_eq!(findings, []);
}
