//! `GET /ImageStore` and `GET /ImageStore/{path}` (reference, section 4).
//!
//! The versions 1.0, 2.0 and 3.0 get the whole folder in one response. If that takes more than one page of the
//! backend, the response is streamed: files are sent as they arrive, and the folders, which come last in the JSON, are
//! kept in memory meanwhile. If there are too many folders to keep, the pages with the others are read a second time.
//! A failure in the middle breaks the connection, so that no client takes a part of a listing for the whole.
//!
//! The entity tag of a listing is the change tag of its folder, as of the first page. For a client that has this tag
//! the gateway calls only `Stat`, and responds 304.

use axum::{body::Body, response::Response};
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use prost::Message;
use serde::Serialize;

use super::{
    answer::{self, Failure},
    api_version::ApiVersion,
    call::Call,
    conditions::Validators,
    json::{Listing, StoreFile, StoreFolder},
    path,
};
use crate::{
    error::{Error, Kind},
    limits, offload,
    wire::{
        status::kind,
        v1::{Entry, EntryKind, ListRequest, ListResponse, StatRequest},
    },
};

/// Responds with a listing; an empty path is the root.
pub(super) async fn list(call: Call, path: String) -> Result<Response, Failure> {
    if call.head.headers.contains_key(header::IF_NONE_MATCH)
        && let Some(answer) = unchanged(&call, &path).await?
    {
        return Ok(answer);
    }
    if call.version.unpaged() { whole(call, path).await } else { paged(&call, path).await }
}

/// The response 304 if the client has the listing already.
async fn unchanged(call: &Call, path: &str) -> Result<Option<Response>, Failure> {
    let request = call.request_within_deadline(StatRequest { path: path.to_owned() });
    let found = match call.client.stat(request).await {
        Ok(found) => found.into_inner(),
        // The caller may read something below the folder, and so list a part of it.
        Err(status) if matches!(kind(&status), Kind::Forbidden | Kind::Unauthenticated) => {
            return Ok(None);
        }
        Err(status) => return Err(status.into()),
    };
    let is_known = Validators::of_listing(&found.change_tag).is_known(&call.head.headers);
    if found.change_tag.is_empty() || !is_known {
        return Ok(None);
    }
    let mut response = answer::with_body(StatusCode::NOT_MODIFIED, Body::empty());
    put_tag(response.headers_mut(), &found.change_tag);
    Ok(Some(response))
}

/// Adds the entity tag of a listing. A listing of a single file has no change tag, and gets none.
fn put_tag(headers: &mut HeaderMap, change_tag: &str) {
    if !change_tag.is_empty()
        && let Some(tag) = Validators::of_listing(change_tag).weak_tag()
    {
        headers.insert(header::ETAG, tag);
    }
}

/// The request for a page of the backend.
fn ask(path: &str, page_token: String, size: usize) -> ListRequest {
    let page_size = size.try_into().unwrap_or_default();
    ListRequest { path: path.to_owned(), page_size, page_token }
}

/// Responds with one page, and the token of the next.
async fn paged(call: &Call, path: String) -> Result<Response, Failure> {
    let token = call.query.continuation_token()?;
    let token = token.map(|token| name_below(&path, &token)).transpose()?.unwrap_or_default();
    let request = call.request_within_deadline(ask(&path, token, limits::LIST_PAGE_MAX));
    let page = call.client.list(request).await?.into_inner();
    let bytes = page.encoded_len();
    let (token, version) = (continuation_token(&path, &page.next_page_token), call.version);
    let change_tag = page.change_tag.clone();
    let write = move || {
        let is_folder = |entry: &&Entry| entry.kind() == EntryKind::Folder;
        let (folders, files): (Vec<_>, Vec<_>) = page.entries.iter().partition(is_folder);
        serde_json::to_vec(&Listing {
            store_files: files.into_iter().map(|file| StoreFile::new(file, version)).collect(),
            store_folders: folders.into_iter().map(StoreFolder::new).collect(),
            continuation_token: token,
        })
    };
    let mut response = answer::long_json(bytes, write).await?;
    put_tag(response.headers_mut(), &change_tag);
    Ok(response)
}

/// The token of a page that begins with a name: the whole path of that entry, percent-encoded, so that the client
/// can put it into a query unchanged.
fn continuation_token(folder: &str, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    path::encode(&path::normalize(&format!("{}/{name}", path::normalize(folder))))
}

/// The name in a decoded token.
///
/// # Errors
/// `Kind::InvalidArgument` if the path in the token is not directly below `folder`.
fn name_below(folder: &str, token: &str) -> Result<String, Error> {
    let (folder, whole) = (path::normalize(folder), path::normalize(token));
    let (parent, name) = whole.rsplit_once('/').unwrap_or(("", &whole));
    if parent != folder || matches!(name, "" | "." | "..") {
        let message = format!("the ContinuationToken '{token}' is not of the folder '{folder}'");
        return Err(Error::invalid("page_token", message));
    }
    Ok(name.to_owned())
}

/// Responds with the whole folder.
async fn whole(call: Call, path: String) -> Result<Response, Failure> {
    let text = Text::new(call.version);
    let (pages, first, change_tag) = Pages { call, path, text }.read().await?;
    let answer = |body| {
        let mut response = answer::with_body(StatusCode::OK, body);
        put_tag(response.headers_mut(), &change_tag);
        response
    };
    if pages.text.is_over() {
        return Ok(answer(Body::from(first)));
    }
    let rest = stream::unfold(Some(pages), |pages| async move {
        let mut pages = pages?;
        loop {
            let (next, bytes, _) = match pages.read().await {
                Ok(read) => read,
                Err(failure) => return Some((Err(std::io::Error::other(failure.message)), None)),
            };
            if next.text.is_over() {
                return Some((Ok(bytes), None));
            }
            // A page may add no bytes, such as a page with folders only.
            if !bytes.is_empty() {
                return Some((Ok(bytes), Some(next)));
            }
            pages = next;
        }
    });
    let body = stream::once(async { Ok(first) }).chain(rest);
    Ok(answer(Body::from_stream(body)))
}

/// A cursor over the pages of a folder.
struct Pages {
    call: Call,
    path: String,
    text: Text,
}

impl Pages {
    /// Reads the next page. Returns the cursor, the bytes that the page adds to the response, and the change tag of
    /// the folder.
    async fn read(self) -> Result<(Self, Vec<u8>, String), Failure> {
        let Self { call, path, mut text } = self;
        let is_first = text.next.is_empty();
        let ask = ask(&path, std::mem::take(&mut text.next), limits::LIST_STREAM_PAGE);
        if !is_first {
            // If the backend is always ready, no await would yield to other tasks between two pages.
            tokio::task::yield_now().await;
        }
        let request = if is_first {
            call.request_within_deadline(ask)
        } else {
            call.client.next_page_request(ask)
        };
        let mut page = call.client.list(request).await?.into_inner();
        let change_tag = std::mem::take(&mut page.change_tag);
        let bytes = page.encoded_len();
        let write = move || text.write(&page).map(|out| (text, out));
        let (text, out) = offload::run(bytes, write).await.map_err(Error::internal)?;
        Ok((Self { call, path, text }, out, change_tag))
    }
}

/// The writer of the JSON of a listing, page by page.
struct Text {
    version: ApiVersion,
    /// The token of the next page; empty before the first page and after the last.
    next: String,
    stage: Stage,
    has_files: bool,
    has_folders: bool,
    /// The folders so far, as the elements of a JSON array.
    folders: Vec<u8>,
    /// The token of the first page whose folders are not kept, if there are too many folders.
    others: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Files,
    Folders,
}

impl Text {
    fn new(version: ApiVersion) -> Self {
        Self {
            version,
            next: String::new(),
            stage: Stage::Begin,
            has_files: false,
            has_folders: false,
            folders: Vec::new(),
            others: None,
        }
    }

    fn is_over(&self) -> bool {
        self.next.is_empty()
    }

    /// Returns the JSON that a page adds: its files, or its folders if the page is read for the second time.
    fn write(&mut self, page: &ListResponse) -> serde_json::Result<Vec<u8>> {
        let mut out = Vec::new();
        if self.stage == Stage::Begin {
            out.extend_from_slice(br#"{"StoreFiles":["#);
            self.stage = Stage::Files;
        }
        for entry in &page.entries {
            match (entry.kind(), self.stage) {
                (EntryKind::Folder, Stage::Folders) => {
                    element(&mut out, &mut self.has_folders, &StoreFolder::new(entry))?;
                }
                (EntryKind::Folder, _) if self.others.is_none() => {
                    element(&mut self.folders, &mut self.has_folders, &StoreFolder::new(entry))?;
                }
                (EntryKind::File | EntryKind::Unspecified, Stage::Files) => {
                    element(&mut out, &mut self.has_files, &StoreFile::new(entry, self.version))?;
                }
                _ => {}
            }
        }
        page.next_page_token.clone_into(&mut self.next);
        if self.folders.len() >= limits::LIST_FOLDERS_BYTES && self.others.is_none() {
            self.others = Some(self.next.clone());
        }
        if self.next.is_empty() && self.stage == Stage::Files {
            out.extend_from_slice(br#"],"StoreFolders":["#);
            out.append(&mut self.folders);
            self.stage = Stage::Folders;
            self.next = self.others.take().unwrap_or_default();
        }
        if self.next.is_empty() {
            out.extend_from_slice(b"]}");
        }
        Ok(out)
    }
}

/// Writes an element of an array, after a comma if `has_any` says that there is an element already.
fn element<T: Serialize>(
    out: &mut Vec<u8>,
    has_any: &mut bool,
    value: &T,
) -> serde_json::Result<()> {
    if std::mem::replace(has_any, true) {
        out.push(b',');
    }
    serde_json::to_writer(out, value)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tonic::codec::{BufferSettings, SingleMessageCompressionOverride};
    use tonic_prost::ProstCodec;
    use tower::{BoxError, service_fn};

    use super::*;
    use crate::{rest::call::Client, wire::backend::remote};

    /// Writes a listing with this many entries, every second of which is a folder. Returns the listing, and the
    /// maximum of bytes of folders that were kept.
    fn written(entries: usize) -> (serde_json::Value, usize) {
        let mut text = Text::new(ApiVersion::NEWEST);
        let (mut all, mut kept) = (Vec::new(), 0);
        loop {
            let begin = text.next.parse().unwrap_or(0);
            let end = entries.min(begin + limits::LIST_STREAM_PAGE);
            let entry = |at: usize| {
                let kind = if at.is_multiple_of(2) { EntryKind::Folder } else { EntryKind::File };
                Entry { path: format!("f/{at}"), kind: kind.into(), ..Entry::default() }
            };
            let next_page_token = if end < entries { end.to_string() } else { String::new() };
            let entries = (begin..end).map(entry).collect();
            let page = ListResponse { entries, next_page_token, ..ListResponse::default() };
            all.extend(text.write(&page).expect("JSON"));
            kept = kept.max(text.folders.capacity());
            if text.is_over() {
                return (serde_json::from_slice(&all).expect("JSON"), kept);
            }
        }
    }

    #[test]
    fn folders_stand_last_however_many_there_are() {
        for entries in [0, 1, 2, 300, 2_000, 100_000] {
            let (listing, kept) = written(entries);
            let paths = |key: &str| -> Vec<String> {
                let array = listing[key].as_array().expect("an array").iter();
                array.map(|it| it["StoreRelativePath"].as_str().expect("a path").into()).collect()
            };
            let path = |at: usize| format!("f/{at}");
            let evens: Vec<_> = (0..entries).step_by(2).map(path).collect();
            let odds: Vec<_> = (1..entries).step_by(2).map(path).collect();
            assert_eq!((paths("StoreFolders"), paths("StoreFiles")), (evens, odds), "{entries}");
            assert!(kept <= 4 * limits::LIST_FOLDERS_BYTES, "{entries}: {kept} bytes kept");
        }
    }

    #[tokio::test]
    async fn others_are_served_between_two_pages() {
        // This backend is always ready.
        let backend = service_fn(async |_| {
            let page = ListResponse { next_page_token: "b".to_owned(), ..ListResponse::default() };
            let page = tonic::codec::EncodeBody::new_server(
                ProstCodec::<_, ListRequest>::raw_encoder(BufferSettings::default()),
                stream::once(async { Ok(page) }),
                None,
                SingleMessageCompressionOverride::default(),
                None,
            );
            Ok::<_, BoxError>(http::Response::new(tonic::body::Body::new(page)))
        });
        let client = Client::of_backend(remote(backend));
        let (head, ()) = http::Request::new(()).into_parts();
        let query = crate::rest::query::parse("");
        let (version, arrived) = (ApiVersion::NEWEST, tokio::time::Instant::now());
        let call = Call { client, head, query, version, arrived };
        let pages = Pages { call, path: String::new(), text: Text::new(version) };
        let read = pages.read().now_or_never().expect("a ready backend");
        let (pages, ..) = read.map_err(|failure| failure.message).expect("a page");
        assert!(pages.read().now_or_never().is_none());
    }

    #[track_caller]
    fn check(folder: &str, name: &str, token: &str) {
        let made = continuation_token(folder, name);
        assert_eq!(made, token);
        let decoded = path::decode(&made).expect("it was encoded");
        if !name.is_empty() {
            assert_eq!(name_below(folder, &decoded).expect(token), name);
        }
    }

    #[test]
    fn a_token_is_the_path_of_the_next_entry() {
        check("", "", "");
        check("a", "", "");
        check("", "b c", "b%20c");
        check("a/b", "c", "a/b/c");
        check("/a\\b/", "c&=+%", "a/b/c%26%3D%2B%25");
        check("ä", "ö", "%C3%A4/%C3%B6");
    }

    #[test]
    fn a_token_of_another_folder_is_refused() {
        for (folder, token) in [
            ("", "a/b"),
            ("a", "b"),
            ("a", "a"),
            ("a", "a/b/c"),
            ("a", "../a/b"),
            ("a", "a/.."),
            ("a", ""),
            ("", "/"),
            ("", ".."),
        ] {
            let error = name_below(folder, token).expect_err(token);
            assert_eq!(error.kind(), Kind::InvalidArgument, "{folder} {token}");
        }
    }
}
