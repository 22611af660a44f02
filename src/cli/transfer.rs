//! The commands `upload` and `download`.
//!
//! Ctrl-C stops them: files that have arrived stay, a file that is under way leaves nothing.

use std::{pin::pin, sync::Arc};

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
        output::Output,
        progress::Meter,
        text::{bytes, count, files, path},
    },
    client::{
        Client,
        download::{Existing, FolderDownload},
        error::Error,
        path::{join, kept_name},
        transfer::{Moved, Tally},
        upload::{FolderUpload, Marks, Omitted},
    },
    limits,
    wire::v1::EntryKind,
};

/// Uploads a file or a folder.
pub(super) async fn upload(
    client: &Client,
    args: Upload,
    output: &mut Output,
) -> Result<(), Failure> {
    let metadata = tokio::fs::metadata(&args.local).await.map_err(|why| Error::Local {
        action: "read",
        path: args.local.clone(),
        why,
    })?;
    let tally = Arc::new(Tally::default());
    let (sender, done) = mpsc::channel(args.jobs.jobs.into());
    let mut to = args.path.trim_matches([' ', '/', '\\']).to_owned();
    if !metadata.is_dir() && is_folder(&args.path) {
        to = join(&to, kept_name(&args.local)?);
    }
    let mut omitted = Omitted::default();
    let work = async {
        if metadata.is_dir() {
            let marks = if args.mark { Marks::Every } else { Marks::Existing };
            let options = FolderUpload { jobs: args.jobs.jobs.into(), marks };
            omitted = client.upload_folder((&args.local, &to), options, &tally, &sender).await?;
        } else if args.mark {
            let local = args.local.display();
            return Err(Failure::Said(format!("--mark is for folders, and {local} is a file")));
        } else {
            tally.expect(1, metadata.len());
            let entry = client.upload(&args.local, &to, &tally).await?;
            sender.send(Moved { entry, local: Some(args.local.clone()) }).await.ok();
        }
        Ok(())
    };
    let label = format!("uploading {}", args.local.display());
    drive(work, done, &tally, Meter::new(label, output), output).await?;
    warn(&omitted, output);
    conclude("uploaded", path(&to), &tally, output)
}

/// Tells what of a folder is not in the store.
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

/// Whether a path in the store can only be that of a folder.
fn is_folder(path: &str) -> bool {
    let path = path.trim_matches(' ');
    path.is_empty() || path.ends_with(['/', '\\'])
}

/// Downloads a file or a folder.
pub(super) async fn download(
    client: &Client,
    args: Download,
    output: &mut Output,
) -> Result<(), Failure> {
    let found = client.stat(&args.path).await?.entry.unwrap_or_default();
    let existing = if args.force { Existing::Overwrite } else { Existing::Refuse };
    let tally = Arc::new(Tally::default());
    let (sender, done) = mpsc::channel(args.jobs.jobs.into());
    let work = async {
        if found.kind() == EntryKind::Folder {
            let options = FolderDownload { jobs: args.jobs.jobs.into(), existing };
            client.download_folder((&found, &args.local), options, &tally, &sender).await?;
        } else {
            let moved = client.download(&found, &args.local, existing, &tally).await?;
            sender.send(moved).await.ok();
        }
        Ok(())
    };
    let label = format!("downloading {}", path(&found.path));
    drive(work, done, &tally, Meter::new(label, output), output).await?;
    conclude("downloaded", path(&found.path), &tally, output)
}

/// Runs a transfer to its end, while it shows how far it is and tells what has arrived.
async fn drive(
    work: impl Future<Output = Result<(), Failure>>,
    mut done: mpsc::Receiver<Moved>,
    tally: &Tally,
    mut meter: Meter,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen()?;
    let mut look = interval(limits::PROGRESS_EVERY);
    let mut work = pin!(work);
    let result = loop {
        tokio::select! {
            Some(moved) = done.recv() => arrived(&moved, output)?,
            result = &mut work => break result,
            _ = look.tick() => {
                // Nothing is known before the work has been counted.
                if tally.progress().files_total > 0 {
                    meter.show(tally.progress(), Instant::now(), output);
                }
            }
            () = interrupt.heard() => break Err(Failure::Said(format!(
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

/// Tells of a file. For people the sum at the end is enough.
fn arrived(moved: &Moved, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.tell(&json::moved(moved), "")?;
    }
    Ok(())
}

/// Tells the sum of a transfer.
fn conclude(verb: &str, path: &str, tally: &Tally, output: &mut Output) -> Result<(), Failure> {
    if !output.is_json() {
        let done = tally.progress();
        let (files, bytes) = (files(done.files_done), bytes(done.bytes_done));
        output.tell(&(), format_args!("{verb} {path}: {files}, {bytes}"))?;
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
        let (tally, (_sender, done)) = (Tally::default(), mpsc::channel(1));
        let work = async {
            // Nothing is counted at first. The clock jumps.
            tokio::time::sleep(limits::PROGRESS_EVERY).await;
            tally.expect(1, 8);
            tokio::time::sleep(2 * limits::PROGRESS_LINE_EVERY).await;
            Ok(())
        };
        let meter = Meter::new("uploading a".to_owned(), &output);
        drive(work, done, &tally, meter, &mut output).await.expect("done");
        assert!(err.text().starts_with("uploading a: 0 of 1 file, 0 B of 8 B\n"), "{}", err.text());
    }
}
