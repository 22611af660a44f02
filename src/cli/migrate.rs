//! The command `migrate`. Ctrl-C stops it; the next one goes on with what the target has.

use std::{process::ExitCode, sync::Arc};

use crate::{
    cli::{
        Failure, Global,
        backup::run_with_progress,
        connected, json,
        output::Output,
        run_to_end,
        text::{bytes, count, files},
        within,
    },
    client::{Client, transfer::TransferProgress},
    model::Moved,
};

/// Runs a migration to its end, and says what it has moved. Returns 0 for success, else 1 after printing the failure.
/// `work` gets the client of the server to copy from, if the source `is_running`.
pub fn migrate<F: Future<Output = Result<Moved, String>>>(
    global: &Global,
    is_running: bool,
    work: impl FnOnce(Option<Client>, Arc<TransferProgress>) -> F,
) -> ExitCode {
    run_to_end(global, async |output: &mut Output| {
        let work = async {
            let client = if is_running { Some(connected(global, output).await?) } else { None };
            let progress = Arc::new(TransferProgress::default());
            let moving = work(client, Arc::clone(&progress));
            let moving = Box::pin(async { moving.await.map_err(Failure::Said) });
            let stopped = "stopped; the same command goes on with what the target has";
            run_with_progress(moving, ("migrating", stopped), &progress, output).await
        };
        let moved = within(global, work).await?;
        Ok(output.print_and_flush(&json::migrated(&moved), line(&moved))?)
    })
}

fn line(moved: &Moved) -> String {
    let passes = if moved.passes == 1 { "pass" } else { "passes" };
    let rest = match moved.tokens {
        Some(tokens) => format!("with the key of links and {}", several(tokens, "token")),
        None => "without tokens, which come once the server is stopped".to_owned(),
    };
    format!(
        "migrated {}, {}, in {} {passes}: {}, {}, {}, {rest}",
        files(moved.totals.files.unsigned_abs()),
        bytes(moved.totals.bytes.unsigned_abs()),
        moved.passes,
        several(moved.parts, "new part"),
        bytes(moved.bytes),
        several(moved.folders, "new folder"),
    )
}

fn several(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}
