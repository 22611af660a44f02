//! What the commands `upload` and `download` share.

use std::{path::Path, pin::pin};

use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};

use crate::{
    cli::{
        Failure,
        interrupt::Interrupt,
        json,
        output::Output,
        progress::ProgressDisplay,
        text::{self, bytes, files},
    },
    client::transfer::{TransferProgress, TransferredFile},
    limits,
};

/// Whether a path on the command line is `-`, which means a standard stream.
pub(super) fn is_stream(local: &Path) -> bool {
    local.as_os_str() == "-"
}

/// Runs a transfer to its end, and meanwhile shows the progress and prints each transferred file.
pub(super) async fn run_with_progress(
    (work, interrupt): (impl Future<Output = Result<(), Failure>>, &mut Interrupt),
    mut done: mpsc::Receiver<TransferredFile>,
    tally: &TransferProgress,
    mut meter: ProgressDisplay,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut look = interval(limits::PROGRESS_EVERY);
    let mut work = pin!(work);
    let result = loop {
        tokio::select! {
            Some(moved) = done.recv() => arrived(&moved, output)?,
            result = &mut work => break result,
            _ = look.tick() => {
                // The totals are 0 until the work has been counted.
                if tally.progress().files_total > 0 {
                    meter.show(tally.progress(), Instant::now(), output);
                }
            }
            () = interrupt.recv() => break Err(Failure::Said(format!(
                "stopped; what has arrived stays: {}", files(tally.progress().files_done)
            ))),
        }
    };
    meter.end(output);
    while let Ok(moved) = done.try_recv() {
        arrived(&moved, output)?;
    }
    result
}

/// Prints a transferred file with `--json`; people get only the total at the end.
fn arrived(moved: &TransferredFile, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.print_and_flush(&json::moved(moved), "")?;
    }
    Ok(())
}

/// Prints the total of a transfer, unless the output is JSON.
pub(super) fn report_total(
    verb: &str,
    path: &str,
    tally: &TransferProgress,
    output: &mut Output,
) -> Result<(), Failure> {
    if !output.is_json() {
        let done = tally.progress();
        let (count, bytes) = (files(done.files_done), bytes(done.bytes_done));
        let replaced = text::replaced(tally.files_replaced());
        output.print_and_flush(&(), format_args!("{verb} {path}: {count}, {bytes}{replaced}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Style, tests::output};

    #[tokio::test(start_paused = true)]
    async fn a_transfer_is_shown_before_its_first_file_is_there() {
        let (mut output, _, err) = output(Style::Lines);
        let (tally, (_sender, done)) = (TransferProgress::default(), mpsc::channel(1));
        let work = async {
            // At first there are no totals. The clock of the test is paused, so each sleep ends at once.
            tokio::time::sleep(limits::PROGRESS_EVERY).await;
            tally.expect(1, 8);
            tokio::time::sleep(2 * limits::PROGRESS_LINE_EVERY).await;
            Ok(())
        };
        let meter = ProgressDisplay::new("uploading a".to_owned(), &output);
        let mut interrupt = Interrupt::listen().expect("signals");
        let work = (work, &mut interrupt);
        run_with_progress(work, done, &tally, meter, &mut output).await.expect("done");
        assert!(err.text().starts_with("uploading a: 0 of 1 file, 0 B of 8 B\n"), "{}", err.text());
    }
}
