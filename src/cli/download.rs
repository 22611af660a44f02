//! The command `download`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::mpsc;

use crate::{
    cli::{
        Failure,
        args::Download,
        interrupt::Interrupt,
        many::Failures,
        output::Output,
        place,
        progress::ProgressDisplay,
        text::path,
        transfer::{is_stream, report_total, run_with_progress},
    },
    client::{
        Client,
        download::{Existing, FolderDownload},
        error::Error,
        path::target,
        transfer::TransferProgress,
    },
    wire::v1::{Entry, EntryKind},
};

/// Downloads files and folders, one after the other.
///
/// A folder becomes one archive if its target on this machine ends in `.zip` or `.sfpkg` and is not a folder that
/// exists.
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
    let is_package = !several
        && found.kind() == EntryKind::Folder
        && local.is_some_and(|local| place::is_package(local) && !local.is_dir());
    if let Some(local) = local.filter(|_| is_package && place::own_name(&found.path).is_none()) {
        let local = local.display();
        let message = format!(
            "the root has no archive; get a folder below it, or get {source} into {local}/"
        );
        return Err(Failure::Refused(message));
    }
    let local = place_here(&found, local, several)?;
    let existing = if args.force { Existing::Overwrite } else { Existing::Refuse };
    let tally = Arc::new(TransferProgress::default());
    let (sender, done) = mpsc::channel(args.jobs.jobs.into());
    let work = async {
        if is_package {
            let moved = client.download_package(&found, &local, existing, &tally).await?;
            sender.send(moved).await.ok();
        } else if found.kind() == EntryKind::Folder {
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
