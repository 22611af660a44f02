//! The command `upload`.
//!
//! Ctrl-C stops it: files that were transferred stay, an unfinished file leaves nothing.

use std::{path::Path, sync::Arc};

use tokio::sync::mpsc;

use crate::{
    cli::{
        Failure,
        args::Upload,
        interrupt::Interrupt,
        many::Failures,
        output::Output,
        place,
        progress::ProgressDisplay,
        text::{self, bytes, count, files, path},
        transfer::{is_stream, report_total, run_with_progress},
    },
    client::{
        Client,
        error::Error,
        path::validate_name,
        transfer::TransferProgress,
        upload::{FileUpload, FolderUpload, Marks, Omitted},
    },
    error::Kind,
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
        sources.push((local.display().to_string(), name_in_store(local, args.unpack).await?));
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

/// The name of a local file or folder in the store; `None` for a stream, and for a folder such as `.`, whose contents
/// are uploaded without a folder of that name.
///
/// The folder of an archive has the name of the archive without its extension.
async fn name_in_store(local: &Path, unpack: bool) -> Result<Option<&str>, Failure> {
    let is_folder = tokio::fs::metadata(local).await.is_ok_and(|found| found.is_dir());
    if is_stream(local) || (is_folder && local.file_name().is_none()) {
        return Ok(None);
    }
    let name = validate_name(local)?;
    Ok(Some(if unpack { without_extension(name) } else { name }))
}

/// The name of an archive without its extension.
fn without_extension(name: &str) -> &str {
    let stem = name.rsplit_once('.').filter(|(stem, extension)| {
        !stem.is_empty() && ["zip", "sfpkg"].iter().any(|it| extension.eq_ignore_ascii_case(it))
    });
    stem.map_or(name, |(stem, _)| stem)
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
        let name = validate_name(local)?;
        let name = if args.unpack { without_extension(name) } else { name };
        name.clone_into(&mut to);
    }
    let (if_exists, local_name) = (if_exists(args), local.display());
    if args.unpack && metadata.is_dir() {
        let message = format!("--unpack is for an archive, and {local_name} is a folder");
        return Err(Failure::Refused(message));
    }
    let (mut omitted, mut unpacked) = (Omitted::default(), None);
    let work = async {
        if metadata.is_dir() {
            let marks = if args.mark { Marks::Every } else { Marks::Existing };
            let options = FolderUpload { jobs: args.jobs.jobs.into(), marks, if_exists };
            let uploaded = client.upload_folder((local, &to), options, &tally, &sender).await;
            omitted = uploaded.map_err(in_the_way)?;
        } else if args.mark && !args.unpack {
            let message = format!("--mark is for folders, and {local_name} is a file");
            return Err(Failure::Refused(message));
        } else {
            tally.expect(1, metadata.len());
            match client.upload(local, &to, file_upload(args), &tally).await {
                Ok(moved) => {
                    unpacked = args.unpack.then(|| moved.entry.clone());
                    sender.send(moved).await.ok();
                }
                Err(error) => return Err(advise(client, &to, error).await),
            }
        }
        Ok(())
    };
    let label = format!("uploading {}", local.display());
    let meter = ProgressDisplay::new(label, output);
    run_with_progress((work, interrupt), done, &tally, meter, output).await?;
    warn(&omitted, output);
    report(&to, unpacked.as_ref(), &tally, output)
}

/// What an upload may replace. The server decides when the file becomes visible.
fn if_exists(args: &Upload) -> IfExists {
    if args.replace { IfExists::Overwrite } else { IfExists::ReplaceSameKind }
}

/// How one file is uploaded.
fn file_upload(args: &Upload) -> FileUpload {
    FileUpload { if_exists: if_exists(args), unpack: args.unpack, mark: args.mark }
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
    if args.mark && !args.unpack {
        return Err(Failure::Refused("--mark is for folders, and - is a file".to_owned()));
    }
    let mut unpacked = None;
    let tally = Arc::new(TransferProgress::default());
    let (sender, done) = mpsc::channel(1);
    let work = async {
        let stream = (std::io::stdin(), "the standard input");
        match client.upload_stream(stream, to, file_upload(args), &tally).await {
            Ok(moved) => {
                unpacked = args.unpack.then(|| moved.entry.clone());
                sender.send(moved).await.ok();
            }
            Err(error) => return Err(advise(client, to, error).await),
        }
        Ok(())
    };
    let meter = ProgressDisplay::new("uploading the standard input".to_owned(), output);
    run_with_progress((work, interrupt), done, &tally, meter, output).await?;
    report(to, unpacked.as_ref(), &tally, output)
}

/// Prints what was uploaded: the folder that an archive became, or the files that were sent.
fn report(
    to: &str,
    unpacked: Option<&Entry>,
    tally: &TransferProgress,
    output: &mut Output,
) -> Result<(), Failure> {
    let Some(folder) = unpacked else {
        return report_total("uploaded", path(to), tally, output);
    };
    if output.is_json() {
        return Ok(());
    }
    let (count, bytes) = (files(folder.file_count), bytes(folder.size_bytes));
    let replaced = text::replaced(tally.files_replaced());
    let folder = path(&folder.path);
    output.print_and_flush(&(), format_args!("unpacked {folder}: {count}, {bytes}{replaced}"))?;
    Ok(())
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
