//! Tokens: credentials that the store keeps.

/// A token, without its secret. All times are in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Its id, which its secret begins with.
    pub id: String,
    /// Its name, unique among the tokens that are not revoked.
    pub name: String,
    /// What it may do, as the text of [`access::Rights`](crate::access::Rights).
    pub grants: String,
    /// The name of the caller that created it.
    pub created_by: String,
    /// When it was created.
    pub created: i64,
    /// How long it lives from its creation or its last rotation on, in microseconds; `None`: for ever.
    pub life: Option<i64>,
    /// When it ends; `None`: never.
    pub expires: Option<i64>,
    /// When it was used last, to the hour; `None`: never.
    pub used: Option<i64>,
    /// When it was revoked; `None`: it was not.
    pub revoked: Option<i64>,
    /// Until when its secret before the last rotation is taken; `None`: there is none.
    pub old_until: Option<i64>,
}
