//! The command `download`, and what it shares with `upload`.
//!
//! Ctrl-C stops it: files that were transferred stay, an unfinished file leaves nothing.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use tokio::{
    sync::mpsc,
    time::{Instant, interval},
};

use crate::{
    cli::{
        Failure,
        args::Download,
        interrupt::Interrupt,
        json,
        many::Failures,
        output::Output,
        place,
        progress::ProgressDisplay,
        text::{self, bytes, files, path},
    },
    client::{
        Client,
        download::{Existing, FolderDownload},
        error::Error,
        path::target,
        transfer::{TransferProgress, TransferredFile},
    },
    limits,
    wire::v1::{Entry, EntryKind},
};

/// Whether a path on the command line is `-`, which means a standard stream.
pub(super) fn is_stream(local: &Path) -> bool {
    local.as_os_str() == "-"
}

/// Downloads files and folders, one after the other.
pub(super) async fn download(
    client: &Client,
    args: Download,
    output: &mut Output,
) -> Result<(), Failure> {
    let (sources, local) = match args.paths.as_slice() {
        [source] => (std::slice::from_ref(source), None),
        [sources @ .., local] => (sources, Some(local.as_path())),
        [] => (&[][..], None),
    };
    let sources = sources.iter().map(|source| {
        let not_text = || format!("{} is no path in the store: not UTF-8", source.display());
        source.to_str().ok_or_else(|| Failure::Said(not_text()))
    });
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let several = sources.len() > 1;
    if several {
        let named: Vec<_> =
            sources.iter().map(|source| (source, place::own_name(source))).collect();
        place::names(&named)?;
    }
    if let Some(local) = local.filter(|_| several)
        && (is_stream(local) || !(place::is_local_folder(local) || local.is_dir()))
    {
        let local = local.display();
        let message =
            format!("{local} is no folder, into which several can go; {local}/ makes one");
        return Err(Failure::Said(message));
    }
    let mut interrupt = Interrupt::listen()?;
    let mut failures = Failures::default();
    for source in sources {
        let outcome = if local.is_some_and(is_stream) {
            download_stream(client, source, &mut interrupt, output).await
        } else {
            let local = (local, several);
            download_one(client, (source, local), &args, &mut interrupt, output).await
        };
        failures.take(outcome, output)?;
    }
    failures.end()
}

/// The local path of a downloaded file or folder. `several`: `local` is the folder for several sources.
///
/// # Errors
/// [`Failure::Refused`] for the root, which has no name, if `local` does not name a target; the errors of [`target`].
fn place_here(found: &Entry, local: Option<&Path>, several: bool) -> Result<PathBuf, Failure> {
    let into = several || local.is_none_or(place::is_local_folder);
    match (place::own_name(&found.path), local) {
        (None, None) => {
            Err(Failure::Refused("the root has no name; say which folder it becomes".to_owned()))
        }
        (Some(name), local) if into => Ok(local.unwrap_or(Path::new(".")).join(target(name)?)),
        (_, local) => Ok(local.unwrap_or(Path::new(".")).to_owned()),
    }
}

/// Downloads a file or a folder.
async fn download_one(
    client: &Client,
    (source, (local, several)): (&str, (Option<&Path>, bool)),
    args: &Download,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let found = interrupt.unless(client.stat(source)).await??.entry.unwrap_or_default();
    let local = place_here(&found, local, several)?;
    let existing = if args.force { Existing::Overwrite } else { Existing::Refuse };
    let tally = Arc::new(TransferProgress::default());
    let (sender, done) = mpsc::channel(args.jobs.jobs.into());
    let work = async {
        if found.kind() == EntryKind::Folder {
            let options = FolderDownload { jobs: args.jobs.jobs.into(), existing };
            client.download_folder((&found, &local), options, &tally, &sender).await?;
        } else {
            let moved = client.download(&found, &local, existing, &tally).await?;
            sender.send(moved).await.ok();
        }
        Ok(())
    };
    let label = format!("downloading {}", path(&found.path));
    let meter = ProgressDisplay::new(label, output);
    run_with_progress((work, interrupt), done, &tally, meter, output).await?;
    report_total("downloaded", path(&found.path), &tally, output)
}

/// Writes the bytes of a file to the standard output, and no summary.
async fn download_stream(
    client: &Client,
    source: &str,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    if output.is_json() {
        let message = "- and --json are both for the standard output; leave one out";
        return Err(Failure::Said(message.to_owned()));
    }
    let found = interrupt.unless(client.stat(source)).await??.entry.unwrap_or_default();
    if found.kind() == EntryKind::Folder {
        let message = format!("{source} is a folder, and only a file goes to the standard output");
        return Err(Failure::Said(message));
    }
    let tally = Arc::new(TransferProgress::default());
    let (_sender, done) = mpsc::channel(1);
    let work = async {
        let stream = (std::io::stdout(), "the standard output");
        match client.download_stream(&found, stream, &tally).await {
            Err(Error::Local { action: "write", why, .. }) => Err(Failure::Stream(why)),
            ended => Ok(ended?),
        }
    };
    let meter = ProgressDisplay::new(format!("downloading {}", path(&found.path)), output);
    run_with_progress((work, interrupt), done, &tally, meter, output).await
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
