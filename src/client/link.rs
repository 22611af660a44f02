//! Calls about links.

use crate::{
    client::{Client, error::Result},
    secret::Secret,
    wire::v1,
};

impl Client {
    /// Makes a link. Returns its whole address, which begins with `base`, or with the address of the server, and its end.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn create_link(
        &self,
        request: v1::CreateLinkRequest,
        base: Option<&str>,
    ) -> Result<(Secret, Option<prost_types::Timestamp>)> {
        let what = format!("make a link to {:?}", request.path);
        let made = self
            .with_retry(what, |mut stub| {
                let request = request.clone();
                async move { stub.create_link(request).await }
            })
            .await?;
        let base = base.unwrap_or(&self.server).trim_end_matches('/');
        Ok((Secret::from(format!("{base}{}", made.link)), made.expires_at))
    }

    /// Ends all links.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn rotate_link_key(&self) -> Result<()> {
        self.with_retry("end all links".to_owned(), |mut stub| async move {
            stub.rotate_link_key(v1::RotateLinkKeyRequest {}).await
        })
        .await
        .map(drop)
    }
}
