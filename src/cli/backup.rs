//! The commands `backup` and `restore`.
//!
//! Ctrl-C stops either command: an unfinished backup has no file or snapshot under its name, an unfinished restore
//! leaves the store empty.

use std::sync::Arc;

use tokio::time::{Instant, interval};

use crate::{
    cli::{
        Failure,
        args::{Backup, Restore},
        interrupt::Interrupt,
        json,
        output::Output,
        progress::ProgressDisplay,
        text::{bytes, count, files},
    },
    client::{Client, backup::Place, download::Existing, transfer::TransferProgress},
    limits,
};

/// Takes a backup.
pub(super) async fn backup(
    client: &Client,
    args: &Backup,
    output: &mut Output,
) -> Result<(), Failure> {
    let existing = if args.force { Existing::Overwrite } else { Existing::Refuse };
    let tally = Arc::new(TransferProgress::default());
    let place = Place::of(&args.place);
    let work = Box::pin(client.backup(&place, existing, &tally));
    let stopped = "stopped; there is no new backup";
    let backed = run_with_progress(work, ("backing up", stopped), &tally, output).await?;
    let line = format!(
        "backed up {}, {}, as {}: {} new parts, {}",
        files(backed.file_count),
        bytes(backed.size_bytes),
        backed.path.display(),
        count(backed.new_parts),
        bytes(backed.new_bytes),
    );
    Ok(output.print_and_flush(&json::backed(&backed), line)?)
}

/// Restores a backup.
pub(super) async fn restore(
    client: &Client,
    args: &Restore,
    output: &mut Output,
) -> Result<(), Failure> {
    let tally = Arc::new(TransferProgress::default());
    let place = Place::of(&args.place);
    let work = Box::pin(client.restore(&place, args.snapshot.as_deref(), &tally));
    let stopped = "stopped; nothing is restored";
    let restored = run_with_progress(work, ("restoring", stopped), &tally, output).await?;
    let (count, size) = (files(restored.file_count), bytes(restored.size_bytes));
    let line = format!("restored {count}, {size}, from {}", restored.path.display());
    Ok(output.print_and_flush(&json::restored(&restored), line)?)
}

/// Runs a backup or restore to its end and shows the progress meanwhile. `stopped` is the message of the failure
/// after a signal.
pub(super) async fn run_with_progress<T, E>(
    mut work: impl Future<Output = Result<T, E>> + Unpin,
    (label, stopped): (&str, &str),
    tally: &TransferProgress,
    output: &mut Output,
) -> Result<T, Failure>
where
    Failure: From<E>,
{
    let mut interrupt = Interrupt::listen()?;
    let mut look = interval(limits::PROGRESS_EVERY);
    let mut meter = ProgressDisplay::new(label.to_owned(), output);
    let result = loop {
        tokio::select! {
            result = &mut work => break result.map_err(Failure::from),
            _ = look.tick() => {
                // The totals are 0 until the header of the backup has been read.
                if tally.progress().files_total > 0 {
                    meter.show(tally.progress(), Instant::now(), output);
                }
            }
            () = interrupt.recv() => break Err(Failure::Said(stopped.to_owned())),
        }
    };
    meter.end(output);
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Style, tests::output};

    #[tokio::test(start_paused = true)]
    async fn a_backup_is_shown_while_it_is_taken() {
        let (mut output, _, err) = output(Style::Lines);
        let tally = TransferProgress::default();
        let work = Box::pin(async {
            // At first there are no totals. The clock of the test is paused, so each sleep ends at once.
            tokio::time::sleep(limits::PROGRESS_EVERY).await;
            tally.expect(2, 8);
            tokio::time::sleep(2 * limits::PROGRESS_LINE_EVERY).await;
            Ok::<_, Failure>(())
        });
        run_with_progress(work, ("backing up", "stopped"), &tally, &mut output)
            .await
            .expect("done");
        assert!(err.text().starts_with("backing up: 0 of 2 files, 0 B of 8 B\n"), "{}", err.text());
    }
}
