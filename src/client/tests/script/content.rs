//! What the scripted server answers of its files.

use bytes::Bytes;
use futures::stream;
use tonic::{Response, Status};

use super::{Answers, Fault, Script, broken, lock};
use crate::wire::v1::{
    DownloadPackageResponse, Entry, EntryKind, Operation, PackageHeader,
    download_package_response::Payload,
};

impl Script {
    pub(super) fn entry(&self, path: &str) -> Option<Entry> {
        let files = lock(&self.files);
        if let Some(bytes) = files.get(path) {
            let digest = blake3::hash(bytes).to_hex().to_string();
            return Some(Entry {
                path: path.to_owned(),
                kind: EntryKind::File.into(),
                size_bytes: bytes.len() as u64,
                file_count: 1,
                etag: digest.clone(),
                digest,
                ..Entry::default()
            });
        }
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(&prefix)).collect();
        (!below.is_empty()).then(|| Entry {
            path: path.to_owned(),
            kind: EntryKind::Folder.into(),
            size_bytes: below.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
            file_count: below.len() as u64,
            ..Entry::default()
        })
    }

    pub(super) fn next_stream(&self) -> Response<Answers<Operation>> {
        let next = lock(&self.streams).pop_front().expect("one stream more than the script has");
        Response::new(Box::pin(stream::iter(next)))
    }

    /// The package of a folder: the file at the path with `.zip` at its end, in messages of 4 bytes.
    pub(super) fn package(&self, path: &str) -> Response<Answers<DownloadPackageResponse>> {
        lock(&self.log).push(format!("package {path}"));
        let bytes = lock(&self.files).get(&format!("{path}.zip")).expect("a package").clone();
        let size_bytes = Some(bytes.len() as u64);
        let header = PackageHeader { etag: "e".to_owned(), size_bytes };
        let data = bytes.chunks(4).map(|data| Payload::Data(Bytes::copy_from_slice(data)));
        let payloads = [Payload::Header(header)].into_iter().chain(data);
        let mut messages: Vec<Result<_, Status>> = payloads
            .map(|payload| Ok(DownloadPackageResponse { payload: Some(payload) }))
            .collect();
        if let Some(Fault::Break(after)) = lock(&self.faults).pop_front() {
            messages.truncate(after);
            messages.push(Err(broken()));
        }
        Response::new(Box::pin(stream::iter(messages)))
    }
}
