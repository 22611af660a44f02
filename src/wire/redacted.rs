//! The `Debug` forms of messages with a secret.

use std::fmt;

use super::v1::{CreateLinkResponse, CreateTokenResponse, RotateTokenResponse};

impl fmt::Debug for CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse").field("token", &self.token).finish_non_exhaustive()
    }
}

impl fmt::Debug for CreateLinkResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CreateLinkResponse");
        debug.field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for RotateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateTokenResponse").field("token", &self.token).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = "imagestore_x".to_owned();
        let created = CreateTokenResponse { secret: secret.clone(), ..Default::default() };
        let linked = CreateLinkResponse { link: secret.clone(), expires_at: None };
        let rotated = RotateTokenResponse { secret, ..Default::default() };
        assert!(!format!("{created:?} {rotated:?} {linked:?}").contains("imagestore_x"));
    }
}
