//! The command `check`.

use tokio::time::Instant;

use crate::{
    cli::{
        Failure,
        args::Check,
        json::Json,
        output::Output,
        text::{bytes, count},
    },
    client::Client,
    limits,
    wire::v1::{CheckRequest, CheckResponse, Finding},
};

/// Checks the store and prints each finding as soon as it arrives.
pub(super) async fn check(
    client: &Client,
    args: &Check,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = CheckRequest { deep: args.deep, repair: args.repair };
    let mut check = client.check(request).await?;
    let mut shown = Instant::now();
    let mut last = CheckResponse::default();
    while let Some(mut report) = check.next().await? {
        for finding in std::mem::take(&mut report.findings) {
            output.print_and_flush(&Json(&finding), line(&finding))?;
        }
        if !output.is_json() && !report.done && shown.elapsed() >= limits::PROGRESS_LINE_EVERY {
            shown = Instant::now();
            output.note(format_args!("checking: {}", looked_at(&report)));
        }
        last = report;
    }
    output.print_and_flush(&Json(&last), summary(&last))?;
    if last.findings_total == 0 {
        return Ok(());
    }
    let (total, repaired) = (count(last.findings_total), count(last.findings_repaired));
    Err(Failure::Said(format!("the store is damaged: {total} findings, {repaired} repaired")))
}

/// A finding as a line.
fn line(finding: &Finding) -> String {
    let repaired = if finding.repaired { " (repaired)" } else { "" };
    let kind = finding.kind().as_str_name();
    let kind = kind.strip_prefix("FINDING_KIND_").unwrap_or(kind).to_lowercase();
    format!("{kind}: {}{repaired}", finding.message)
}

/// The progress of a check as text.
fn looked_at(report: &CheckResponse) -> String {
    let (rows, objects) = (count(report.rows_checked), count(report.objects_checked));
    format!("{rows} rows, {objects} objects, {} read", bytes(report.bytes_read))
}

/// The result of a check as a line.
fn summary(report: &CheckResponse) -> String {
    let verdict = if report.findings_total == 0 { "clean" } else { "damaged" };
    format!("{verdict}: {}", looked_at(report))
}
