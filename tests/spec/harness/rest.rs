//! The driver over REST: the calls of upstream, and the extensions for what upstream lacks.

use serde_json::{Value, json};

use super::{
    Answer, Copy, CopyResult, Driver, Http, Item, MayReplace, Outcome, Preconditions, http::Request,
};

/// Drives a server over REST.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest(Http);

impl Rest {
    pub(crate) fn new(http: Http) -> Self {
        Self(http)
    }
}

/// The request target of a call on a path; every byte of the path is percent-encoded.
pub(crate) fn target(path: &str, call: &str) -> String {
    let path: String = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let slash = if path.is_empty() { "" } else { "/" };
    format!("/ImageStore{slash}{path}{call}")
}

const VERSION: &str = "?api-version=6.0";

/// Adds conditions to a request.
fn under(mut request: Request, when: &Preconditions) -> Request {
    let quoted = |tag: &String| if tag == "*" { tag.clone() } else { format!("\"{tag}\"") };
    for (name, tags) in [("If-Match", &when.if_match), ("If-None-Match", &when.if_none_match)] {
        if !tags.is_empty() {
            let list: Vec<String> = tags.iter().map(quoted).collect();
            request = request.header(name, &list.join(", "));
        }
    }
    if let Some(seconds) = when.if_unmodified_since {
        request = request.header("If-Unmodified-Since", &date(seconds));
    }
    request
}

/// What an upload may replace, as a part of the query.
fn asked(over: Option<MayReplace>) -> &'static str {
    match over {
        None => "",
        Some(MayReplace::SameKind) => "&if-exists=ReplaceSameKind",
        Some(MayReplace::Anything) => "&if-exists=Overwrite",
    }
}

/// The number of replaced files in the headers of a response.
fn replaced(answer: &Answer) -> u64 {
    answer.header("files-replaced").map_or(0, |count| count.parse().expect("a number"))
}

/// A date in the format of HTTP.
fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::new(seconds, 0).expect("a time");
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time).expect("a date")
}

/// Checks for an empty success, or returns the error of the response.
fn empty(answer: &Answer) -> Outcome<()> {
    ok(answer)?;
    answer.assert_empty_ok();
    Ok(())
}

/// Returns the error of a response, if its status is that of an error.
fn ok(answer: &Answer) -> Outcome<()> {
    if answer.status >= 400 { Err(answer.fault()) } else { Ok(()) }
}

/// A number in a JSON string.
fn number(value: &Value) -> u64 {
    value.as_str().expect("a string").parse().expect("a number")
}

#[tonic::async_trait]
impl Driver for Rest {
    async fn upload_if(&self, path: &str, bytes: &[u8], when: &Preconditions) -> Outcome<()> {
        let request = self.0.request("PUT", &target(path, VERSION));
        empty(&under(request, when).body(bytes).send().await)
    }

    async fn etag(&self, path: &str) -> Outcome<String> {
        let answer = self.0.get(&target(path, "/$/Content")).await;
        ok(&answer)?;
        Ok(answer.header("etag").expect("a tag").trim_matches('"').to_owned())
    }

    async fn download(&self, path: &str) -> Outcome<Vec<u8>> {
        let answer = self.0.get(&target(path, "/$/Content")).await;
        ok(&answer)?;
        Ok(answer.body)
    }

    async fn range(&self, path: &str, offset: u64, length: u64) -> Outcome<Vec<u8>> {
        let request = self.0.request("GET", &target(path, "/$/Content"));
        let range = format!("bytes={offset}-{}", offset + length - 1);
        let answer = request.header("Range", &range).send().await;
        ok(&answer)?;
        assert_eq!(answer.status, 206, "{answer:?}");
        let begins = format!("bytes {offset}-{}/", offset + answer.body.len() as u64 - 1);
        let range = answer.header("content-range").expect("a range");
        assert!(range.starts_with(&begins), "{range} for {begins}");
        Ok(answer.body)
    }

    async fn copy(&self, copy: &Copy) -> Outcome<()> {
        let mut body = json!({
            "RemoteSource": copy.source,
            "RemoteDestination": copy.destination,
            "SkipFiles": copy.skip,
            "CheckMarkFile": copy.check_mark,
        });
        if copy.keep {
            body["CopyFlag"] = "Echo".into();
        } else if copy.same_kind {
            body["CopyFlag"] = "ReplaceSameKind".into();
        }
        if copy.verify {
            body["Verify"] = true.into();
        }
        if !copy.id.is_empty() {
            body["OperationId"] = copy.id.as_str().into();
        }
        let target = target("", &format!("/$/Copy{VERSION}"));
        let request = under(self.0.request("POST", &target), &copy.when);
        empty(&request.body(body.to_string().as_bytes()).send().await)
    }

    async fn delete_if(&self, path: &str, when: &Preconditions) -> Outcome<()> {
        let request = self.0.request("DELETE", &target(path, VERSION));
        empty(&under(request, when).send().await)
    }

    async fn list(&self, path: &str) -> Outcome<Vec<Item>> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let call = format!("{VERSION}&ContinuationToken={token}");
            let answer = self.0.get(&target(path, &call)).await;
            ok(&answer)?;
            let page = answer.json();
            items.extend(page["StoreFiles"].as_array().expect("files").iter().map(file));
            items.extend(page["StoreFolders"].as_array().expect("folders").iter().map(folder));
            page["ContinuationToken"].as_str().expect("a token").clone_into(&mut token);
            if token.is_empty() {
                items.sort_by(|a, b| a.path.cmp(&b.path));
                return Ok(items);
            }
        }
    }

    async fn size(&self, path: &str) -> Outcome<u64> {
        let answer = self.0.get(&target(path, &format!("/$/FolderSize{VERSION}"))).await;
        ok(&answer)?;
        Ok(number(&answer.json()["FolderSize"]))
    }

    async fn chunk(
        &self,
        session: &str,
        path: &str,
        (offset, total): (u64, u64),
        bytes: &[u8],
    ) -> Outcome<()> {
        let end = (offset + bytes.len() as u64).saturating_sub(1);
        let call = format!("/$/UploadChunk{VERSION}&session-id={session}");
        let request = self.0.request("PUT", &target(path, &call));
        let range = format!("bytes {offset}-{end}/{total}");
        empty(&request.header("Content-Range", &range).body(bytes).send().await)
    }

    async fn session(&self, session: &str) -> Outcome<Option<Vec<(u64, u64)>>> {
        let call = format!("/$/GetUploadSession{VERSION}&session-id={session}");
        let answer = self.0.get(&target("", &call)).await;
        ok(&answer)?;
        if answer.status == 204 {
            return Ok(None);
        }
        let body = answer.json();
        let [session] = body["UploadSessions"].as_array().expect("sessions").as_slice() else {
            panic!("one session is asked for: {body}");
        };
        let ranges = session["ExpectedRanges"].as_array().expect("ranges").iter();
        let range =
            |range: &Value| (number(&range["StartPosition"]), number(&range["EndPosition"]));
        Ok(Some(ranges.map(range).collect()))
    }

    async fn commit_if(&self, session: &str, when: &Preconditions) -> Outcome<()> {
        let call = format!("/$/CommitUploadSession{VERSION}&session-id={session}");
        let request = under(self.0.request("POST", &target("", &call)), when);
        empty(&request.body(b"").send().await)
    }

    async fn upload_onto(
        &self,
        path: &str,
        bytes: &[u8],
        over: Option<MayReplace>,
    ) -> Outcome<u64> {
        let request = self.0.request("PUT", &target(path, &format!("{VERSION}{}", asked(over))));
        let answer = request.body(bytes).send().await;
        empty(&answer)?;
        Ok(replaced(&answer))
    }

    async fn chunked_onto(
        &self,
        path: &str,
        bytes: &[u8],
        over: [Option<MayReplace>; 2],
    ) -> Outcome<u64> {
        let (id, [begun, committed]) = (uuid::Uuid::new_v4(), over.map(asked));
        let call = format!("/$/UploadChunk{VERSION}&session-id={id}{begun}");
        let range = format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len());
        let request = self.0.request("PUT", &target(path, &call)).header("Content-Range", &range);
        empty(&request.body(bytes).send().await)?;
        let call = format!("/$/CommitUploadSession{VERSION}&session-id={id}{committed}");
        let answer = self.0.request("POST", &target("", &call)).body(b"").send().await;
        empty(&answer)?;
        Ok(replaced(&answer))
    }

    async fn forget(&self, session: &str) -> Outcome<()> {
        let call = format!("/$/DeleteUploadSession{VERSION}&session-id={session}");
        empty(&self.0.delete(&target("", &call)).await)
    }

    async fn operation(&self, id: &str) -> Outcome<String> {
        let answer = self.0.get(&format!("/ImageStore/$/Operations/{id}")).await;
        ok(&answer)?;
        let body = answer.json();
        let text = |key: &str| body[key].as_str().expect(key).to_owned();
        Ok(format!(
            "{} {} {}+{}/{} {}+{}/{}",
            text("Kind"),
            text("State"),
            text("FilesDone"),
            text("FilesSkipped"),
            text("FilesTotal"),
            text("BytesDone"),
            text("BytesSkipped"),
            text("BytesTotal"),
        ))
    }

    async fn copy_result(&self, id: &str) -> Outcome<CopyResult> {
        let answer = self.0.get(&format!("/ImageStore/$/Operations/{id}")).await;
        ok(&answer)?;
        let body = answer.json();
        let names = body["SkipFilesUnmatched"].as_array().expect("names").iter();
        Ok(CopyResult {
            files_replaced: number(&body["FilesReplaced"]),
            skip_files_unmatched: names.map(|it| it.as_str().expect("a name").to_owned()).collect(),
        })
    }

    async fn cancel(&self, id: &str) -> Outcome<()> {
        ok(&self.0.post(&format!("/ImageStore/$/Operations/{id}/$/Cancel"), b"").await)
    }
}

fn file(file: &Value) -> Item {
    let date: jiff::Timestamp =
        file["ModifiedDate"].as_str().expect("a date").parse().expect("ISO 8601");
    Item {
        path: file["StoreRelativePath"].as_str().expect("a path").to_owned(),
        is_folder: false,
        size: number(&file["FileSize"]),
        files: 1,
        version: number(&file["FileVersion"]["VersionNumber"]),
        modified: date.as_millisecond(),
    }
}

fn folder(folder: &Value) -> Item {
    Item {
        path: folder["StoreRelativePath"].as_str().expect("a path").to_owned(),
        is_folder: true,
        size: 0,
        files: number(&folder["FileCount"]),
        version: 0,
        modified: 0,
    }
}
