//! Tokens: creation, rotation, revocation, and the callers of the tokens in use.
//!
//! The caller of a token that was looked up stays in memory, so that a further call costs no read. A change of a token
//! reaches that memory when it is durable, before the change is answered. The calls that run with a token share one
//! caller, so that its revocation ends them.

use std::time::Duration;

use jiff::Timestamp;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    access::{
        ANONYMOUS, Caller, Expiry, Rights, Role, new_token_id, new_token_secret, read_token_secret,
    },
    error::{Error, Kind, Result},
    limits::{
        TOKEN_GRANTS_MAX, TOKEN_LIFE_MAX, TOKEN_NAME_BYTES_MAX, TOKEN_OVERLAP_MAX, TOKEN_USE_EVERY,
        micros,
    },
    model::{Digest, Page, StorePath, Token},
    namespace::{
        sql::Tx,
        token::{self, Kept},
    },
    secret::Secret,
    store::{Call, Store, listing::visible},
};

/// The settings of a new token.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
    /// How long it lives; `None`: for ever.
    pub life: Option<Duration>,
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Kind::Unauthenticated, message)
}

/// A time as text.
pub(super) fn date(at: i64) -> String {
    Timestamp::from_microsecond(at).map(|at| at.strftime("%FT%TZ").to_string()).unwrap_or_default()
}

impl Store {
    /// The caller of a secret that is in memory. `None` if the token has to be looked up.
    pub fn known_token(&self, text: &str) -> Option<Caller> {
        let (id, digest) = read_token_secret(text)?;
        if !self.knows_access() {
            return None;
        }
        let mut known = self.0.tokens.lock();
        let token = known.tokens.get_mut(id)?;
        let (_, caller) = token.secrets.iter().find(|(secret, _)| *secret == digest)?;
        let now = Instant::now();
        if caller.expiry().is_some_and(|expiry| expiry.instant <= now) {
            return None;
        }
        let caller = caller.clone();
        if token.note_at <= now {
            token.note_at = now + TOKEN_USE_EVERY;
            self.note_use(id.to_owned());
        }
        Some(caller)
    }

    /// Looks up the caller of a secret.
    ///
    /// # Errors
    /// `Unauthenticated` for a text that is no secret, a secret that no token has, and a token that is revoked or has
    /// expired, with its date; `Busy`.
    pub async fn token_caller(&self, text: &str) -> Result<Caller> {
        let Some((id, digest)) = read_token_secret(text) else {
            return Err(refused("the token is malformed: its checksum is wrong; copy all of it"));
        };
        let caller = self.caller_of(id, |_| Some(digest)).await?;
        self.known_token(text);
        Ok(caller)
    }

    /// Looks up the caller of one of the secrets of a token.
    pub(super) async fn caller_of(
        &self,
        id: &str,
        secret: impl Fn(&Kept) -> Option<Digest>,
    ) -> Result<Caller> {
        loop {
            let changes = self.0.tokens.lock().changes;
            let wanted = id.to_owned();
            let read = move |tx: &mut Tx<'_>| Ok((token::get(tx, &wanted)?, tx.now()?));
            let (kept, now) = self.0.engine.read(None, read).await?;
            let unknown = || refused("no token has this secret");
            let kept = kept.ok_or_else(unknown)?;
            let digest = secret(&kept).ok_or_else(unknown)?;
            let (caller, expiry) = caller(kept, digest, now)?;
            let mut known = self.0.tokens.lock();
            if known.changes == changes {
                return Ok(known.keep(id, digest, &caller, expiry));
            }
        }
    }

    /// Whether a token is neither revoked nor has expired.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn has_token(&self) -> Result<bool> {
        self.0.engine.read(None, token::is_any_valid).await
    }

    /// The number of tokens, neither revoked nor expired, that callers without a credential have created.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn anonymous_tokens(&self) -> Result<i64> {
        self.0.engine.read(None, |tx| token::count_created_by(tx, ANONYMOUS)).await
    }

    /// Notes the use of a token, without waiting for it.
    fn note_use(&self, id: String) {
        let store = self.clone();
        self.spawn(async move {
            let note = move |tx: &mut Tx<'_>| token::note_use(tx, &id);
            if let Err(error) = store.0.engine.write(None, note).await {
                tracing::debug!(%error, "the use of a token is not noted");
            }
        });
    }

    /// Creates a token. Returns it with its secret, which is kept nowhere.
    ///
    /// # Errors
    /// `Forbidden` if the caller is not an admin of every path of the token; `InvalidArgument` for a malformed name, no
    /// right, or a life that is too long; `AlreadyExists`, `TooLarge`, `Timeout`.
    pub async fn create_token(&self, new: NewToken, call: &Call) -> Result<(Token, Secret)> {
        let NewToken { name, rights, life } = new;
        check_name(&name)?;
        check_time(life, TOKEN_LIFE_MAX, "life")?;
        if rights.is_empty() || rights.iter().len() > TOKEN_GRANTS_MAX {
            let message = format!("a token has 1 to {TOKEN_GRANTS_MAX} grants");
            return Err(Error::invalid("grants", message));
        }
        call.require_admin(&rights)?;
        let id = new_token_id()?;
        let (secret, digest) = new_token_secret(&id)?;
        let created_by = call.caller().name().to_owned();
        let create = move |tx: &mut Tx<'_>| {
            let created = tx.now()?;
            let life = life.map(micros);
            let expires = life.map(|life| created + life);
            let (grants, rest) = (rights.to_string(), Token::default());
            let token = Token { id, name, grants, created_by, created, life, expires, ..rest };
            token::insert(tx, &token, &digest)?;
            Ok(token)
        };
        Ok((self.0.engine.write(call.deadline(), create).await?, secret))
    }

    /// A page of the tokens that the caller administers, ordered by name.
    ///
    /// # Errors
    /// `InvalidArgument` for a malformed page token, `Timeout`, `Busy` if too many listings wait.
    pub async fn tokens(&self, size: usize, from: String, call: &Call) -> Result<Page<Token>> {
        let list = |from: String| {
            self.read_listing(call, move |tx: &mut Tx<'_>| token::list(tx, size, &from))
        };
        if call.may(Role::Admin, &StorePath::root()) {
            return list(from).await;
        }
        let is_seen = |token: &Token| administers(call.caller(), token);
        visible(from, size, list, (is_seen, token::page_token)).await
    }

    /// Replaces the secret of a token, whose life begins again. The old secret is taken for `overlap`.
    ///
    /// # Errors
    /// `TokenNotFound` for a token that is unknown, revoked, or not administered by the caller; `InvalidArgument` for an
    /// overlap that is too long; `Timeout`.
    pub async fn rotate_token(
        &self,
        name: String,
        overlap: Duration,
        call: &Call,
    ) -> Result<(Token, Secret)> {
        check_name(&name)?;
        check_time(Some(overlap), TOKEN_OVERLAP_MAX, "overlap")?;
        let (caller, store) = (call.caller().clone(), self.clone());
        let rotate = move |tx: &mut Tx<'_>| {
            let kept = administered(tx, &name, &caller)?;
            let (secret, digest) = new_token_secret(&kept.token.id)?;
            let until = tx.now()? + micros(overlap);
            let until = kept.token.expires.map_or(until, |expires| until.min(expires));
            Ok((token::rotate(tx, &kept, &digest, until)?, secret))
        };
        // The change is made on a thread of the database.
        let runtime = Handle::current();
        let change = move |(token, _): &(Token, Secret)| {
            let mut known = store.0.tokens.lock();
            if overlap.is_zero() {
                // Nobody has the new secret yet, so all that runs has an old one.
                known.revoke(&token.id);
                return;
            }
            let callers = known.change(&token.id);
            drop(known);
            store.end_after(callers, overlap, &runtime);
        };
        self.0.engine.write_and(call.deadline(), rotate, change).await
    }

    /// Applies the row of a token in memory that another server may have changed, as a change here would.
    pub(super) fn apply_token(&self, id: &str, kept: Option<Kept>, now: i64) {
        let Some(kept) = kept.filter(|kept| kept.token.revoked.is_none()) else {
            self.0.tokens.lock().revoke(id);
            let message = "the token, which started it, was revoked";
            self.0.runs.cancel_started_by(id, &Error::new(Kind::Cancelled, message));
            return;
        };
        let replaced = self.0.tokens.lock().replace(id, kept.secret);
        let until = kept.token.old_until.filter(|until| *until > now);
        for (secret, caller) in replaced {
            let left = until.filter(|_| kept.old_secret == Some(secret));
            let left = left.and_then(|until| u64::try_from(until - now).ok());
            match left {
                Some(left) => {
                    let time = Duration::from_micros(left);
                    self.end_after(vec![caller], time, &Handle::current());
                }
                None => caller.revoke(),
            }
        }
    }

    /// Ends the calls of replaced secrets after some time.
    fn end_after(&self, callers: Vec<Caller>, time: Duration, runtime: &Handle) {
        if callers.is_empty() {
            return;
        }
        let store = self.clone();
        let end = async move {
            tokio::select! {
                () = tokio::time::sleep(time) => callers.iter().for_each(Caller::revoke),
                () = store.0.stop.cancelled() => {}
            }
        };
        self.0.tasks.spawn_on(end, runtime);
    }

    /// Ends a token, and all calls and copies that run with it.
    ///
    /// # Errors
    /// `TokenNotFound` for a token that is unknown, revoked, or not administered by the caller; `Timeout`.
    pub async fn revoke_token(&self, name: String, call: &Call) -> Result<Token> {
        check_name(&name)?;
        let (caller, store) = (call.caller().clone(), self.clone());
        let revoke = move |tx: &mut Tx<'_>| {
            let kept = administered(tx, &name, &caller)?;
            token::revoke(tx, kept.token)
        };
        let change = move |token: &Token| {
            store.0.tokens.lock().revoke(&token.id);
            let message = format!("the token '{}', which started it, was revoked", token.name);
            store.0.runs.cancel_started_by(&token.id, &Error::new(Kind::Cancelled, message));
        };
        self.0.engine.write_and(call.deadline(), revoke, change).await
    }
}

/// The caller of a secret, and when the secret ends.
///
/// # Errors
/// `Unauthenticated` if the secret is not taken.
fn caller(kept: Kept, secret: Digest, now: i64) -> Result<(Caller, Option<Expiry>)> {
    let unknown = || refused("no token has this secret");
    let Kept { token, secret: current, old_secret } = kept;
    let name = &token.name;
    let mut end = token.expires;
    if current != secret {
        if old_secret != Some(secret) {
            return Err(unknown());
        }
        let until = token.old_until.unwrap_or(0);
        if until <= now {
            let at = date(until);
            let message =
                format!("the secret of the token '{name}' was replaced, and ended at {at}");
            return Err(refused(message));
        }
        end = Some(end.map_or(until, |end| end.min(until)));
    }
    if let Some(revoked) = token.revoked {
        return Err(refused(format!("the token '{name}' was revoked at {}", date(revoked))));
    }
    if let Some(end) = end.filter(|end| *end <= now) {
        return Err(refused(format!("the token '{name}' expired at {}", date(end))));
    }
    let expiry = end.and_then(|at| {
        let left = Duration::from_micros(u64::try_from(at - now).ok()?);
        Some(Expiry { at, instant: Instant::now().checked_add(left)? })
    });
    let rights = Rights::parse(&token.grants).map_err(Error::internal)?;
    Ok((Caller::token((name, &token.id), rights, expiry), expiry))
}

/// Whether a caller is an admin of every path of a token.
fn administers(caller: &Caller, token: &Token) -> bool {
    let rights = Rights::parse(&token.grants);
    rights.is_ok_and(|rights| rights.as_role(Role::Admin).is_within(&caller.rights()))
}

/// The token with a name, if the caller administers it. For others it does not exist.
fn administered(tx: &mut Tx<'_>, name: &str, caller: &Caller) -> Result<Kept> {
    let kept = token::find(tx, name)?.filter(|kept| administers(caller, &kept.token));
    kept.ok_or_else(|| token::unknown(name))
}

fn check_name(name: &str) -> Result<()> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=TOKEN_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_part) {
        return Ok(());
    }
    let message = format!(
        "the name \"{}\" is not 1 to {TOKEN_NAME_BYTES_MAX} letters, digits, '.', '_' and '-'",
        name.escape_debug()
    );
    Err(Error::invalid("name", message))
}

fn check_time(time: Option<Duration>, longest: Duration, field: &'static str) -> Result<()> {
    let days = longest.as_secs() / (24 * 3600);
    match time {
        Some(time) if time > longest => {
            let given = time.as_secs_f64() / (24.0 * 3600.0);
            let message = format!("{field} is {given:.1} days; at most {days} are taken");
            Err(Error::invalid(field, message))
        }
        Some(_) | None => Ok(()),
    }
}
