//! The table of tokens.
//!
//! A token that was revoked, or whose life has ended, keeps its row for some time, so that who uses it learns why it is
//! refused.

use crate::{
    error::{Error, Kind, Result},
    limits::{
        RECORDS_PAGE_DEFAULT, RECORDS_PAGE_MAX, TOKEN_KEPT, TOKEN_USE_EVERY, TOKENS_MAX, micros,
    },
    model::{Digest, Page, Token},
    namespace::{
        list::check_token,
        schema,
        sql::{Param, Row, Tx, params},
    },
};

/// The columns of a [`Token`], in the order of [`from_row`].
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, grants, created_by, created, life, expires, used, revoked, old_until,
               secret, old_secret FROM token ",
            $rest
        )
    };
}

/// A token with the digests of its secrets.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The token.
    pub token: Token,
    /// The digest of its secret.
    pub secret: Digest,
    /// The digest of the secret before the last rotation.
    pub old_secret: Option<Digest>,
}

fn from_row(row: &Row) -> Result<Kept> {
    Ok(Kept {
        token: Token {
            id: row.text(0)?,
            name: row.text(1)?,
            grants: row.text(2)?,
            created_by: row.text(3)?,
            created: row.int(4)?,
            life: row.opt_int(5)?,
            expires: row.opt_int(6)?,
            used: row.opt_int(7)?,
            revoked: row.opt_int(8)?,
            old_until: row.opt_int(9)?,
        },
        secret: row.digest(10)?,
        old_secret: row.opt_digest(11)?,
    })
}

/// The error for a name that no token has which is not revoked.
pub fn unknown(name: &str) -> Error {
    let message = format!("no token has the name \"{name}\"");
    Error::new(Kind::TokenNotFound, message).field("name")
}

/// Adds a token. Removes those that have ended long ago.
///
/// # Errors
/// `AlreadyExists` for a name that a token has which is not revoked; `TooLarge` beyond [`TOKENS_MAX`].
pub fn insert(tx: &mut Tx<'_>, token: &Token, secret: &Digest) -> Result<()> {
    let long_ago = tx.now()? - micros(TOKEN_KEPT);
    tx.execute("DELETE FROM token WHERE revoked < $1 OR expires < $1", params![long_ago])?;
    // A token that has expired gives its name away.
    let now = tx.now()?;
    tx.execute(
        "UPDATE token SET revoked = expires WHERE name = $1 AND revoked IS NULL AND expires <= $2",
        params![&token.name, now],
    )?;
    if find(tx, &token.name)?.is_some() {
        let message = format!(
            "a token has the name \"{}\" already; rotate or revoke it, or choose another name",
            token.name
        );
        return Err(Error::new(Kind::AlreadyExists, message).field("name"));
    }
    let sql = "SELECT COUNT(*) FROM token
               WHERE revoked IS NULL AND (expires IS NULL OR expires > $1)";
    let count = tx.one(sql, params![now])?.int(0)?;
    forget_oldest(tx, now)?;
    if count >= TOKENS_MAX {
        let message = format!("the store has {TOKENS_MAX} tokens; revoke one");
        return Err(Error::new(Kind::TooLarge, message));
    }
    tx.execute(
        "INSERT INTO token (id, name, grants, created_by, created, life, expires, secret)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        params![
            &token.id,
            &token.name,
            &token.grants,
            &token.created_by,
            token.created,
            token.life.map_or(Param::Null, Param::Int),
            token.expires.map_or(Param::Null, Param::Int),
            secret.0.as_slice()
        ],
    )
    .map(drop)
}

/// Removes the oldest of the tokens that have ended, if there are more than [`TOKENS_MAX`].
fn forget_oldest(tx: &mut Tx<'_>, now: i64) -> Result<()> {
    let ended = "SELECT id FROM token WHERE revoked IS NOT NULL OR expires <= $1
                 ORDER BY COALESCE(revoked, expires) DESC LIMIT 1 OFFSET $2";
    if tx.exists(ended, params![now, TOKENS_MAX])? {
        tx.execute(
            "DELETE FROM token WHERE id IN (
               SELECT id FROM token WHERE revoked IS NOT NULL OR expires <= $1
               ORDER BY COALESCE(revoked, expires) DESC LIMIT $3 OFFSET $2)",
            params![now, TOKENS_MAX, TOKENS_MAX],
        )?;
    }
    Ok(())
}

/// The token with an id.
pub fn get(tx: &mut Tx<'_>, id: &str) -> Result<Option<Kept>> {
    tx.first(select!("WHERE id = $1"), params![id])?.map(|row| from_row(&row)).transpose()
}

/// The token with a name that is not revoked.
pub fn find(tx: &mut Tx<'_>, name: &str) -> Result<Option<Kept>> {
    let row = tx.first(select!("WHERE name = $1 AND revoked IS NULL"), params![name])?;
    row.map(|row| from_row(&row)).transpose()
}

/// Whether a token is neither revoked nor has ended.
pub fn is_any_valid(tx: &mut Tx<'_>) -> Result<bool> {
    let now = tx.now()?;
    let sql = "SELECT 1 FROM token WHERE revoked IS NULL AND (expires IS NULL OR expires > $1)";
    tx.exists(sql, params![now])
}

/// The number of tokens, neither revoked nor expired, that a caller with a name has created.
pub fn count_created_by(tx: &mut Tx<'_>, caller: &str) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM token
               WHERE created_by = $1 AND revoked IS NULL AND (expires IS NULL OR expires > $2)";
    let now = tx.now()?;
    tx.one(sql, params![caller, now])?.int(0)
}

/// A page of tokens, ordered by name, then by id. `token` is the name and the id of the first one, or empty.
///
/// # Errors
/// `InvalidArgument` for a token that no page has.
pub fn list(tx: &mut Tx<'_>, size: usize, token: &str) -> Result<Page<Token>> {
    check_token(token)?;
    let size = if size == 0 { RECORDS_PAGE_DEFAULT } else { size.min(RECORDS_PAGE_MAX) };
    let (name, id) = token.split_once(' ').unwrap_or((token, ""));
    let rows = tx.all(
        select!("WHERE name > $1 OR (name = $1 AND id >= $2) ORDER BY name, id LIMIT $3"),
        params![name, id, size as i64 + 1],
    )?;
    let mut items: Vec<Token> =
        rows.iter().map(|row| Ok(from_row(row)?.token)).collect::<Result<_>>()?;
    let next = items.get(size).map(page_token);
    items.truncate(size);
    Ok(Page { items, next })
}

/// All tokens, ended ones included: at most twice [`TOKENS_MAX`].
///
/// # Errors
/// Those of the engine.
pub fn all(tx: &mut Tx<'_>) -> Result<Vec<Kept>> {
    let rows = tx.all(select!("ORDER BY name, id LIMIT $1"), params![2 * TOKENS_MAX])?;
    rows.iter().map(from_row).collect()
}

/// Replaces all tokens by those of another store.
///
/// # Errors
/// Those of the engine.
pub fn replace_all(tx: &mut Tx<'_>, tokens: &[Kept]) -> Result<()> {
    tx.execute("DELETE FROM token", &[])?;
    for Kept { token, secret, old_secret } in tokens {
        tx.execute(
            "INSERT INTO token (id, name, grants, created_by, created, life, expires, used, revoked, old_until,
               secret, old_secret) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            params![
                &token.id,
                &token.name,
                &token.grants,
                &token.created_by,
                token.created,
                token.life,
                token.expires,
                token.used,
                token.revoked,
                token.old_until,
                secret,
                old_secret.as_ref()
            ],
        )?;
    }
    Ok(())
}

/// The token of the page that begins with a token.
pub fn page_token(first: &Token) -> String {
    format!("{} {}", first.name, first.id)
}

/// Replaces the secret of a token. The old one is taken until `old_until`. The life of the token begins again.
pub fn rotate(tx: &mut Tx<'_>, kept: &Kept, secret: &Digest, old_until: i64) -> Result<Token> {
    schema::next_access(tx)?;
    let now = tx.now()?;
    let expires = kept.token.life.map(|life| now + life);
    tx.execute(
        "UPDATE token SET secret = $1, old_secret = $2, old_until = $3, expires = $4 WHERE id = $5",
        params![
            secret.0.as_slice(),
            kept.secret.0.as_slice(),
            old_until,
            expires.map_or(Param::Null, Param::Int),
            &kept.token.id
        ],
    )?;
    Ok(Token { expires, old_until: Some(old_until), ..kept.token.clone() })
}

/// Revokes a token.
pub fn revoke(tx: &mut Tx<'_>, token: Token) -> Result<Token> {
    schema::next_access(tx)?;
    let now = tx.now()?;
    tx.execute("UPDATE token SET revoked = $1 WHERE id = $2", params![now, &token.id])?;
    Ok(Token { revoked: Some(now), ..token })
}

/// Notes that a token is used, unless that was noted within [`TOKEN_USE_EVERY`].
pub fn note_use(tx: &mut Tx<'_>, id: &str) -> Result<()> {
    let now = tx.now()?;
    let hour = now - now.rem_euclid(micros(TOKEN_USE_EVERY));
    let sql = "UPDATE token SET used = $1 WHERE id = $2 AND (used IS NULL OR used < $1)";
    tx.execute(sql, params![hour, id]).map(drop)
}
