//! The commands `upload` and `download`.
//!
//! Ctrl-C stops either command: files that were transferred stay, an unfinished file leaves nothing.

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
        args::{Download, Upload},
        interrupt::Interrupt,
        json,
        many::Failures,
        output::Output,
        place,
        progress::ProgressDisplay,
        text::{self, bytes, count, files, path},
    },
    client::{
        Client,
        download::{Existing, FolderDownload},
        error::Error,
        path::{target, validate_name},
        transfer::{TransferProgress, TransferredFile},
        upload::{FolderUpload, Marks, Omitted},
    },
    error::Kind,
    limits,
    wire::v1::{Entry, EntryKind, IfExists},
};

/// Uploads files and folders, one after the other.
pub(super) async fn upload(
    client: &Client,
    args: Upload,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut sources = Vec::with_capacity(args.locals.len());
    for local in &args.locals {
        sources.push((local.display().to_string(), name_in_store(local).await?));
    }
    let places = place::destinations(client, &sources, &args.path);
    let places = interrupt.unless(places).await??;
    let mut failures = Failures::default();
    for (local, to) in args.locals.iter().zip(&places) {
        let to = place::trimmed(to);
        let outcome = if is_stream(local) {
            upload_stream(client, to, &args, &mut interrupt, output).await
        } else {
            upload_one(client, (local, to), &args, &mut interrupt, output).await
        };
        failures.take(outcome, output)?;
    }
    failures.end()
}

/// Whether a path on the command line is `-`, which means a standard stream.
fn is_stream(local: &Path) -> bool {
    local.as_os_str() == "-"
}

/// The name of a local file or folder in the store; `None` for a stream, and for a folder such as `.`, whose contents
/// are uploaded without a folder of that name.
async fn name_in_store(local: &Path) -> Result<Option<&str>, Failure> {
    let is_folder = tokio::fs::metadata(local).await.is_ok_and(|found| found.is_dir());
    if is_stream(local) || (is_folder && local.file_name().is_none()) {
        return Ok(None);
    }
    Ok(Some(validate_name(local)?))
}

/// Uploads a file or a folder.
async fn upload_one(
    client: &Client,
    (local, to): (&Path, &str),
    args: &Upload,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    let metadata = tokio::fs::metadata(local).await.map_err(|why| Error::Local {
        action: "read",
        path: local.to_owned(),
        why,
    })?;
    let tally = Arc::new(TransferProgress::default());
    let (sender, done) = mpsc::channel(args.jobs.jobs.into());
    let mut to = to.to_owned();
    if to.is_empty() && !metadata.is_dir() {
        validate_name(local)?.clone_into(&mut to);
    }
    let if_exists = if_exists(args);
    let mut omitted = Omitted::default();
    let work = async {
        if metadata.is_dir() {
            let marks = if args.mark { Marks::Every } else { Marks::Existing };
            let options = FolderUpload { jobs: args.jobs.jobs.into(), marks, if_exists };
            let uploaded = client.upload_folder((local, &to), options, &tally, &sender).await;
            omitted = uploaded.map_err(in_the_way)?;
        } else if args.mark {
            let local = local.display();
            return Err(Failure::Refused(format!("--mark is for folders, and {local} is a file")));
        } else {
            tally.expect(1, metadata.len());
            match client.upload(local, &to, if_exists, &tally).await {
                Ok(moved) => drop(sender.send(moved).await),
                Err(error) => return Err(advise(client, &to, error).await),
            }
        }
        Ok(())
    };
    let label = format!("uploading {}", local.display());
    let meter = ProgressDisplay::new(label, output);
    run_with_progress((work, interrupt), done, &tally, meter, output).await?;
    warn(&omitted, output);
    report_total("uploaded", path(&to), &tally, output)
}

/// What an upload may replace. The server decides when the file becomes visible.
fn if_exists(args: &Upload) -> IfExists {
    if args.replace { IfExists::Overwrite } else { IfExists::ReplaceSameKind }
}

/// Adds to an `AlreadyExists` error what the user can do; asks the server whether the path is a folder.
async fn advise(client: &Client, to: &str, error: Error) -> Failure {
    if error.kind() != Some(Kind::AlreadyExists) {
        return error.into();
    }
    match client.stat(to).await {
        Ok(found) if found.entry.as_ref().is_some_and(|it| it.kind() == EntryKind::Folder) => {
            Failure::Refused(format!("{error}; {to}/ puts it into it, and --replace replaces it"))
        }
        Ok(_) | Err(_) => in_the_way(error),
    }
}

/// Adds to an `AlreadyExists` error what the user can do, without asking the server.
fn in_the_way(error: Error) -> Failure {
    if error.kind() == Some(Kind::AlreadyExists) {
        return Failure::Refused(format!("{error}; --replace replaces it"));
    }
    error.into()
}

/// Uploads the standard input.
async fn upload_stream(
    client: &Client,
    to: &str,
    args: &Upload,
    interrupt: &mut Interrupt,
    output: &mut Output,
) -> Result<(), Failure> {
    if to.is_empty() || place::ends_as_folder(&args.path) {
        let message = "the standard input has no name; say the path of the file, not of its folder";
        return Err(Failure::Refused(message.to_owned()));
    }
    if args.mark {
        return Err(Failure::Refused("--mark is for folders, and - is a file".to_owned()));
    }
    let tally = Arc::new(TransferProgress::default());
    let (sender, done) = mpsc::channel(1);
    let work = async {
        let stream = (std::io::stdin(), "the standard input");
        match client.upload_stream(stream, to, if_exists(args), &tally).await {
            Ok(moved) => drop(sender.send(moved).await),
            Err(error) => return Err(advise(client, to, error).await),
        }
        Ok(())
    };
    let meter = ProgressDisplay::new("uploading the standard input".to_owned(), output);
    run_with_progress((work, interrupt), done, &tally, meter, output).await?;
    report_total("uploaded", path(to), &tally, output)
}

/// Prints what of an uploaded folder is not in the store.
fn warn(omitted: &Omitted, output: &mut Output) {
    match omitted.empty_folders {
        0 => {}
        1 => output.note("1 empty folder is not kept; --mark keeps it"),
        many => {
            output.note(format_args!(
                "{} empty folders are not kept; --mark keeps them",
                count(many)
            ));
        }
    }
    if !omitted.partials.is_empty() {
        let partials: Vec<_> = omitted.partials.iter().map(|it| it.display().to_string()).collect();
        output.note(format_args!(
            "left out what a download that was broken off has left: {}",
            partials.join(", ")
        ));
    }
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
async fn run_with_progress(
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
fn report_total(
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
