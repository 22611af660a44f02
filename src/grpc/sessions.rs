//! Upload sessions.

use crate::{
    access::{RequestContext, Rpc},
    error::Result,
    grpc::messages,
    model::{SessionId, StorePath},
    store::Store,
    wire::v1,
};

/// Returns an upload session.
pub(super) async fn get(
    store: &Store,
    context: &RequestContext,
    message: v1::GetUploadSessionRequest,
) -> Result<v1::UploadSession> {
    let call = context.authorize(Rpc::GetUploadSession, &[])?;
    let id = SessionId::parse(&message.session_id)?;
    store.session(id, &call).await.map(messages::session)
}

/// Lists a page of upload sessions.
pub(super) async fn list(
    store: &Store,
    context: &RequestContext,
    message: v1::ListUploadSessionsRequest,
) -> Result<v1::ListUploadSessionsResponse> {
    let call = context.authorize(Rpc::ListUploadSessions, &[])?;
    let v1::ListUploadSessionsRequest { path, page_size, page_token } = message;
    let path = StorePath::parse_or_root(&path, "path")?;
    let path = (!path.is_root()).then_some(path);
    let page = store.sessions(path, page_size as usize, page_token, &call).await?;
    Ok(v1::ListUploadSessionsResponse {
        sessions: page.items.into_iter().map(messages::session).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

/// Makes the file of a session visible.
pub(super) async fn commit(
    store: &Store,
    context: &RequestContext,
    message: v1::CommitUploadSessionRequest,
) -> Result<v1::CommitUploadSessionResponse> {
    let call = context.authorize(Rpc::CommitUploadSession, &[])?;
    let id = SessionId::parse(&message.session_id)?;
    context.note_id(&id);
    let conditions = messages::conditions(
        &message.if_match,
        &message.if_none_match,
        message.if_unmodified_since.as_ref(),
    )?;
    let replaces = messages::replaces(message.if_exists)?;
    let committed = store.commit_session_if(id, replaces, conditions, &call).await?;
    Ok(messages::committed(committed))
}

/// Deletes a session.
pub(super) async fn delete(
    store: &Store,
    context: &RequestContext,
    message: v1::DeleteUploadSessionRequest,
) -> Result<v1::DeleteUploadSessionResponse> {
    let call = context.authorize(Rpc::DeleteUploadSession, &[])?;
    let id = SessionId::parse(&message.session_id)?;
    context.note_id(&id);
    store.delete_session(id, &call).await?;
    Ok(v1::DeleteUploadSessionResponse {})
}
