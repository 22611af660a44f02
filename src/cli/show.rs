//! The commands that show or delete: `list`, `stat`, `delete`, `info`.

use crate::{
    cli::{
        Failure,
        args::{Delete, List},
        json::{Deleted, Json},
        many::Failures,
        output::Output,
        text::{self, bytes, files, second},
    },
    client::{Client, path},
    wire::v1::{Entry, EntryKind, Usage},
};

/// Lists a folder, page by page.
pub(super) async fn list(client: &Client, args: &List, output: &mut Output) -> Result<(), Failure> {
    let mut token = String::new();
    loop {
        let page = client.list(&args.path, &token).await?;
        for entry in &page.entries {
            let line = if args.long { long(entry) } else { short(entry) };
            output.print(&Json(entry), line)?;
        }
        output.flush()?;
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(());
        }
    }
}

/// The name of an entry; the name of a folder ends in `/`.
fn short(entry: &Entry) -> String {
    let slash = if entry.kind() == EntryKind::Folder { "/" } else { "" };
    format!("{}{slash}", path::name(&entry.path))
}

/// Size, number of files, time and name of an entry, in columns.
fn long(entry: &Entry) -> String {
    let count = indicatif::HumanCount(entry.file_count).to_string();
    let (size, time) = (bytes(entry.size_bytes), second(entry.modified_at.as_ref()));
    format!("{size:>12}  {count:>9}  {time:<20}  {}", short(entry))
}

/// Describes a path.
pub(super) async fn stat(client: &Client, path: &str, output: &mut Output) -> Result<(), Failure> {
    let answer = client.stat(path).await?;
    if output.is_json() {
        return Ok(output.print(&Json(&answer), "")?);
    }
    let entry = answer.entry.unwrap_or_default();
    let size = format!("{} ({} bytes)", bytes(entry.size_bytes), entry.size_bytes);
    let mut rows = vec![("path", text::path(&entry.path).to_owned())];
    if entry.kind() == EntryKind::Folder {
        let mark = if answer.has_mark_file { "yes" } else { "no" };
        rows.extend([
            ("kind", "folder".to_owned()),
            ("size", size),
            ("files", entry.file_count.to_string()),
            ("mark file", mark.to_owned()),
        ]);
    } else {
        let version = entry.version.unwrap_or_default();
        rows.extend([
            ("kind", "file".to_owned()),
            ("size", size),
            ("modified", second(entry.modified_at.as_ref())),
            ("version", version.version_number.to_string()),
            ("digest", or_pending(entry.digest)),
            ("etag", entry.etag),
        ]);
    }
    rows.iter().try_for_each(|(name, value)| output.print(&(), format!("{name:<10} {value}")))?;
    Ok(())
}

/// A digest, or a text if it is empty: the server computes that of a chunked upload after the commit.
fn or_pending(digest: String) -> String {
    if digest.is_empty() { "not computed yet".to_owned() } else { digest }
}

/// Deletes paths.
pub(super) async fn delete(
    client: &Client,
    args: &Delete,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut failures = Failures::default();
    for path in &args.paths {
        let outcome = delete_one(client, path, args.force, output).await;
        failures.take(outcome, output)?;
    }
    failures.end()
}

/// Deletes a path. A path that does not exist is an error, unless `force` is set.
async fn delete_one(
    client: &Client,
    path: &str,
    force: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let answer = client.delete(path).await?;
    if answer.files_deleted == 0 && !force {
        return Err(Failure::Refused(format!("nothing is at {path}; -f takes that for deleted")));
    }
    let line = if answer.files_deleted == 0 {
        format!("nothing is at {path}")
    } else {
        let (files, bytes) = (files(answer.files_deleted), bytes(answer.bytes_deleted));
        format!("deleted {path}: {files}, {bytes}")
    };
    Ok(output.print_and_flush(&Deleted { path, answer: Json(&answer) }, line)?)
}

/// Shows the space that the store uses.
pub(super) async fn info(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let info = client.info().await?;
    if output.is_json() {
        return Ok(output.print(&Json(&info), "")?);
    }
    let usage = |usage: Option<Usage>, what: &str| {
        let usage = usage.unwrap_or_default();
        let count = indicatif::HumanCount(usage.file_count).to_string();
        format!("{:>12}  {what}: {count}", bytes(usage.used_bytes))
    };
    let rows = [
        ("logical", usage(info.logical, "files, each copy counted")),
        ("unique", usage(info.unique, "distinct parts")),
        ("on disk", usage(info.on_disk, "objects, and the namespace")),
        ("staging", usage(info.staging, "files in upload sessions")),
        (
            "garbage",
            usage(info.garbage, "folders, files, parts and objects that wait to be freed, at most"),
        ),
        ("registered", usage(info.registered, "files in Store")),
        ("namespace", format!("{:>12}", bytes(info.metadata_bytes))),
        ("free disk", {
            let capacity = bytes(info.disk_capacity_bytes);
            format!("{:>12}  of {capacity}", bytes(info.disk_available_bytes))
        }),
        ("folders", format!("{:>12}", indicatif::HumanCount(info.folder_count).to_string())),
    ];
    rows.iter().try_for_each(|(name, value)| output.print(&(), format!("{name:<10} {value}")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_in_columns() {
        let file = Entry {
            path: "a/b.txt".to_owned(),
            kind: EntryKind::File.into(),
            size_bytes: 1536,
            file_count: 1,
            modified_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Entry::default()
        };
        let folder = Entry {
            path: "a/c".to_owned(),
            kind: EntryKind::Folder.into(),
            file_count: 1_000,
            ..Entry::default()
        };
        assert_eq!((short(&file), short(&folder)), ("b.txt".to_owned(), "c/".to_owned()));
        assert_eq!(long(&file), "    1.50 KiB          1  2023-11-14T22:13:20Z  b.txt");
        assert_eq!(long(&folder), "         0 B      1,000  -                     c/");
    }
}
