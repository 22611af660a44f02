//! Calls about tokens, and about the caller.

use std::time::Duration;

use crate::{
    client::{
        Client,
        error::{Error, Result},
    },
    secret::Secret,
    wire::v1,
};

impl Client {
    /// Calls `tell` once, when the server says that the token of this client and its clones ends soon, with the time of
    /// its end in RFC 3339.
    #[must_use]
    pub fn on_token_expiry(self, tell: impl FnOnce(&str) + Send + 'static) -> Self {
        self.expiry.set(tell);
        self
    }

    /// Describes the caller; with a role and a path, the response also says whether the caller has that role there.
    pub async fn caller(
        &self,
        role_and_path: Option<(v1::Role, &str)>,
    ) -> Result<v1::GetCallerResponse> {
        let (role, path) = role_and_path.unwrap_or((v1::Role::Unspecified, ""));
        self.with_retry("tell who the caller is".to_owned(), |mut stub| async move {
            stub.get_caller(v1::GetCallerRequest { role: role.into(), path: path.to_owned() }).await
        })
        .await
    }

    /// Creates a token, and returns it with its secret. The call is not retried when the connection is lost.
    pub async fn create_token(
        &self,
        request: v1::CreateTokenRequest,
    ) -> Result<(v1::Token, Secret)> {
        let what = format!("create the token {:?}", request.name);
        let mut stub = self.stub.clone();
        let created = self.once(what, stub.create_token(request)).await?;
        Ok((present(created.token)?, created.secret.into()))
    }

    /// Returns a page of tokens; the empty page token selects the first page.
    pub async fn tokens(&self, page_token: &str) -> Result<v1::ListTokensResponse> {
        self.with_retry("list its tokens".to_owned(), |mut stub| async move {
            let page_token = page_token.to_owned();
            stub.list_tokens(v1::ListTokensRequest { page_size: 0, page_token }).await
        })
        .await
    }

    /// Replaces the secret of a token, and returns the token with the new one. The old secret is taken for `overlap`.
    /// The call is not retried when the connection is lost.
    pub async fn rotate_token(&self, name: &str, overlap: Duration) -> Result<(v1::Token, Secret)> {
        let overlap = Some(duration(overlap));
        let request = v1::RotateTokenRequest { name: name.to_owned(), overlap };
        let mut stub = self.stub.clone();
        let what = format!("replace the secret of the token {name:?}");
        let rotated = self.once(what, stub.rotate_token(request)).await?;
        Ok((present(rotated.token)?, rotated.secret.into()))
    }

    /// Ends a token, and returns it. The call is not retried when the connection is lost.
    pub async fn revoke_token(&self, name: &str) -> Result<v1::Token> {
        let request = v1::RevokeTokenRequest { name: name.to_owned() };
        let mut stub = self.stub.clone();
        self.once(format!("revoke the token {name:?}"), stub.revoke_token(request)).await
    }
}

/// A duration as a message.
pub fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: time.as_secs() as i64, nanos: time.subsec_nanos() as i32 }
}

/// The token of a response that must have one.
fn present(token: Option<v1::Token>) -> Result<v1::Token> {
    token.ok_or_else(|| Error::Answer("it describes no token".to_owned()))
}
