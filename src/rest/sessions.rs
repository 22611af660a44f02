//! The calls on upload sessions (reference, sections 3.4 to 3.6).

use axum::response::Response;
use prost::Message;
use uuid::Uuid;

use super::{
    answer::{self, Failure},
    api_version::ApiVersion,
    call::Call,
    conditions::{self, WriteConditions},
    json::{UploadSession, UploadSessions},
};
use crate::{
    error::{Error, Kind},
    limits,
    wire::v1::{
        self, CommitUploadSessionRequest, DeleteUploadSessionRequest, GetUploadSessionRequest,
        ListUploadSessionsRequest,
    },
};

/// The length of a UUID with its four hyphens.
const HYPHENATED: usize = 36;

/// The `session-id` of the query, in lower case.
///
/// # Errors
/// `Kind::InvalidSessionId` if it is absent, or not a UUID with hyphens.
pub(super) fn id(call: &Call) -> Result<String, Error> {
    parse_id(call.query.value("session-id").unwrap_or_default())
}

/// Parses the id of a session.
fn parse_id(text: &str) -> Result<String, Error> {
    let id = Uuid::try_parse(text).ok();
    let id = id.filter(|_| text.len() == HYPHENATED);
    id.map(|id| id.hyphenated().to_string()).ok_or_else(|| {
        let message = format!("the session-id '{text}' is not a UUID of 36 characters");
        Error::new(Kind::InvalidSessionId, message).field("session_id")
    })
}

/// Responds with the session in the query; 204 if there is no such session.
pub(super) async fn get(call: Call) -> Result<Response, Failure> {
    let request = call.request_within_deadline(GetUploadSessionRequest { session_id: id(&call)? });
    match call.client.get_upload_session(request).await.map_err(Failure::from) {
        Ok(session) => sessions(vec![session.into_inner()], call.version).await,
        Err(Failure { kind: Kind::SessionNotFound, .. }) => Ok(answer::no_content()),
        Err(failure) => Err(failure),
    }
}

/// Responds with the sessions of a path; 204 if there are none. The documented response has no continuation token, so
/// it has the first page only, of up to [`RECORDS_PAGE_MAX`](limits::RECORDS_PAGE_MAX) sessions; gRPC has all pages.
pub(super) async fn list(call: Call, path: String) -> Result<Response, Failure> {
    let page_size = limits::RECORDS_PAGE_MAX.try_into().unwrap_or_default();
    let request = ListUploadSessionsRequest { path, page_size, page_token: String::new() };
    let page =
        call.client.list_upload_sessions(call.request_within_deadline(request)).await?.into_inner();
    if page.sessions.is_empty() {
        return Ok(answer::no_content());
    }
    sessions(page.sessions, call.version).await
}

/// The response with some sessions.
async fn sessions(
    sessions: Vec<v1::UploadSession>,
    version: ApiVersion,
) -> Result<Response, Failure> {
    let bytes = sessions.iter().map(Message::encoded_len).sum();
    let write = move || {
        let sessions = sessions.into_iter().map(|session| UploadSession::new(session, version));
        serde_json::to_vec(&UploadSessions { upload_sessions: sessions.collect() })
    };
    answer::long_json(bytes, write).await
}

/// Deletes the session in the query.
pub(super) async fn delete(call: Call) -> Result<Response, Failure> {
    let session_id = id(&call).map_err(as_argument)?;
    let request = call.request_within_deadline(DeleteUploadSessionRequest { session_id });
    call.client.delete_upload_session(request).await?;
    Ok(answer::empty())
}

/// Commits the session in the query.
pub(super) async fn commit(call: Call) -> Result<Response, Failure> {
    let session_id = id(&call).map_err(as_argument)?;
    let WriteConditions { if_match, if_none_match, if_unmodified_since } =
        conditions::write_conditions(&call)?;
    let request = call.request_within_deadline(CommitUploadSessionRequest {
        session_id,
        if_exists: conditions::if_exists(&call.query)?,
        if_match,
        if_none_match,
        if_unmodified_since,
    });
    // Upstream responds to an unknown session as to an incomplete one.
    let committed = call.client.commit_upload_session(request).await.map_err(as_argument)?;
    Ok(answer::stored(committed.get_ref().files_replaced))
}

/// Turns a failure because of the session (invalid id, not found, incomplete) into `InvalidArgument`.
fn as_argument(failure: impl Into<Failure>) -> Failure {
    let failure = failure.into();
    if matches!(failure.kind, Kind::InvalidSessionId | Kind::SessionNotFound | Kind::BadRange) {
        return failure.with_kind(Kind::InvalidArgument);
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_a_uuid_with_hyphens() {
        let id = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
        assert_eq!(parse_id(id).expect(id), id);
        assert_eq!(parse_id(&id.to_uppercase()).expect(id), id);
        let nil = Uuid::nil().to_string();
        assert_eq!(parse_id(&nil).expect("one as others are"), nil);
        for text in [
            "",
            "d7d3d8c84d2a4b8e9c060e2f8f0f8b11",
            "{d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11}",
            "urn:uuid:d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11",
            "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b1g",
            "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b1",
            "d7d3d8c8-4d2a4b8e-9c06-0e2f8f0f8b-11",
            "%64d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11",
        ] {
            assert_eq!(parse_id(text).expect_err(text).kind(), Kind::InvalidSessionId, "{text}");
        }
    }
}
