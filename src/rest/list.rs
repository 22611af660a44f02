//! `GET /ImageStore` and `GET /ImageStore/{path}` (reference, section 4).
//!
//! The versions 1.0, 2.0 and 3.0 get a whole folder. Where it takes more than one page of the
//! backend it is streamed: files go out as they come, and only the folders, which stand last, are
//! kept in memory. A failure in the middle breaks the connection, so that no listing is silently
//! short.
//!
//! The entity tag of a listing is the change tag of its folder, that of the first page where there are
//! several. A client that has it is told so for the price of a look at the folder.

use axum::{body::Body, response::Response};
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};

use super::{
    answer::{self, Failure},
    call::Call,
    conditions::Validators,
    json::{Listing, StoreFile, StoreFolder},
    path,
};
use crate::{
    error::Error,
    limits,
    wire::v1::{EntryKind, ListRequest, StatRequest},
};

/// Answers a listing; an empty path is the root.
pub(super) async fn list(call: Call, path: String) -> Result<Response, Failure> {
    if call.head.headers.contains_key(header::IF_NONE_MATCH)
        && let Some(answer) = unchanged(&call, &path).await?
    {
        return Ok(answer);
    }
    if call.version.unpaged() { whole(call, path).await } else { paged(&call, path).await }
}

/// Answers that the client has the listing, if it does.
async fn unchanged(call: &Call, path: &str) -> Result<Option<Response>, Failure> {
    let request = call.plain(StatRequest { path: path.to_owned() });
    let found = call.client.clone().stat(request).await?.into_inner();
    let is_known = Validators::of_listing(&found.change_tag).is_known(&call.head.headers);
    if found.change_tag.is_empty() || !is_known {
        return Ok(None);
    }
    let mut response = answer::with_body(StatusCode::NOT_MODIFIED, Body::empty());
    put_tag(response.headers_mut(), &found.change_tag);
    Ok(Some(response))
}

/// Adds the tag of a listing. The one file of a path has none.
fn put_tag(headers: &mut HeaderMap, change_tag: &str) {
    if !change_tag.is_empty()
        && let Some(tag) = Validators::of_listing(change_tag).weak_tag()
    {
        headers.insert(header::ETAG, tag);
    }
}

/// What asks the backend for a page.
fn ask(path: &str, page_token: String, size: usize) -> ListRequest {
    let page_size = size.try_into().unwrap_or_default();
    ListRequest { path: path.to_owned(), page_size, page_token }
}

/// Answers one page, and the token of the next.
async fn paged(call: &Call, path: String) -> Result<Response, Failure> {
    let token = call.query.continuation_token()?;
    let token = token.map(|token| name_below(&path, &token)).transpose()?.unwrap_or_default();
    let request = call.plain(ask(&path, token, limits::LIST_PAGE_MAX));
    let page = call.client.clone().list(request).await?.into_inner();
    let mut listing = Listing {
        store_files: Vec::new(),
        store_folders: Vec::new(),
        continuation_token: continuation_token(&path, &page.next_page_token),
    };
    for entry in &page.entries {
        match entry.kind() {
            EntryKind::Folder => listing.store_folders.push(StoreFolder::new(entry)),
            EntryKind::File | EntryKind::Unspecified => {
                listing.store_files.push(StoreFile::new(entry, call.version));
            }
        }
    }
    let mut response = answer::json(StatusCode::OK, &listing);
    put_tag(response.headers_mut(), &page.change_tag);
    Ok(response)
}

/// The token for a page that begins with a name: its whole path, encoded, so that the client sends
/// it back as it is.
fn continuation_token(folder: &str, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    path::encode(&path::normalize(&format!("{}/{name}", path::normalize(folder))))
}

/// The name that a decoded token has below the folder that is listed.
fn name_below(folder: &str, token: &str) -> Result<String, Error> {
    let (folder, whole) = (path::normalize(folder), path::normalize(token));
    let (parent, name) = whole.rsplit_once('/').unwrap_or(("", &whole));
    if parent != folder || matches!(name, "" | "." | "..") {
        let message = format!("the ContinuationToken '{token}' is not of the folder '{folder}'");
        return Err(Error::invalid("page_token", message));
    }
    Ok(name.to_owned())
}

/// Answers the whole folder.
async fn whole(call: Call, path: String) -> Result<Response, Failure> {
    let mut pages = Pages { call, path, token: String::new(), files: 0, folders: Vec::new() };
    let mut first = br#"{"StoreFiles":["#.to_vec();
    let change_tag = pages.read(&mut first).await?;
    let answer = |body| {
        let mut response = answer::with_body(StatusCode::OK, body);
        put_tag(response.headers_mut(), &change_tag);
        response
    };
    if pages.token.is_empty() {
        return Ok(answer(Body::from(first)));
    }
    let rest = stream::unfold(Some(pages), |pages| async move {
        let mut pages = pages?;
        let mut bytes = Vec::new();
        match pages.read(&mut bytes).await {
            Ok(_) => Some((Ok(bytes), (!pages.token.is_empty()).then_some(pages))),
            Err(failure) => Some((Err(std::io::Error::other(failure.message)), None)),
        }
    });
    let body = stream::once(async { Ok(first) }).chain(rest);
    Ok(answer(Body::from_stream(body)))
}

/// Walks the pages of a folder.
struct Pages {
    call: Call,
    path: String,
    /// Where the next page begins; empty before the first page and after the last.
    token: String,
    /// Files written so far.
    files: u64,
    /// The folders found so far, as the elements of an array.
    folders: Vec<u8>,
}

impl Pages {
    /// Reads the next page and writes its files; after the last page also all folders. Returns the change
    /// tag of the folder.
    async fn read(&mut self, out: &mut Vec<u8>) -> Result<String, Failure> {
        let is_first = self.token.is_empty();
        let ask = ask(&self.path, std::mem::take(&mut self.token), limits::LIST_STREAM_PAGE);
        let request = if is_first { self.call.plain(ask) } else { Call::further(ask) };
        let page = self.call.client.clone().list(request).await?.into_inner();
        for entry in &page.entries {
            let written = match entry.kind() {
                EntryKind::Folder => {
                    if !self.folders.is_empty() {
                        self.folders.push(b',');
                    }
                    serde_json::to_writer(&mut self.folders, &StoreFolder::new(entry))
                }
                EntryKind::File | EntryKind::Unspecified => {
                    if self.files > 0 {
                        out.push(b',');
                    }
                    self.files += 1;
                    serde_json::to_writer(&mut *out, &StoreFile::new(entry, self.call.version))
                }
            };
            written.map_err(Error::internal)?;
        }
        self.token = page.next_page_token;
        if self.token.is_empty() {
            out.extend_from_slice(br#"],"StoreFolders":["#);
            out.append(&mut self.folders);
            out.extend_from_slice(b"]}");
        }
        Ok(page.change_tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

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
