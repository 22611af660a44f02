//! The caller of a call, and tokens.

use std::time::Duration;

use crate::{
    access::{Pattern, RequestContext, Rights, Role, Rpc},
    error::{Error, Result},
    limits::{TOKEN_GRANTS_MAX, TOKEN_LIFE_DEFAULT, TOKEN_OVERLAP_DEFAULT},
    model::{StorePath, Token},
    store::{NewToken, Store},
    wire::{
        convert::timestamp,
        v1::{self, Role as WireRole},
    },
};

/// Describes the caller.
pub(super) fn caller(
    context: &RequestContext,
    message: &v1::GetCallerRequest,
) -> Result<v1::GetCallerResponse> {
    let call = context.authorize(Rpc::GetCaller, &[])?;
    call.check()?;
    let may = if message.role == i32::from(WireRole::Unspecified) {
        None
    } else {
        let path = StorePath::parse_or_root(&message.path, "path")?;
        Some(call.may(role(message.role, "role")?, &path))
    };
    let caller = call.caller();
    Ok(v1::GetCallerResponse {
        name: caller.name().to_owned(),
        names: caller.names().to_vec(),
        grants: grants(&caller.rights()),
        expires_at: caller.expiry().map(|expiry| timestamp(expiry.at)),
        may,
    })
}

/// Creates a token.
pub(super) async fn create(
    store: &Store,
    context: &RequestContext,
    message: v1::CreateTokenRequest,
) -> Result<v1::CreateTokenResponse> {
    let call = context.authorize(Rpc::CreateToken, &[])?;
    let v1::CreateTokenRequest { name, grants, life, never_expires } = message;
    if life.is_some() && never_expires {
        let message = "a token that never expires has no life; set one of both";
        return Err(Error::invalid("life", message));
    }
    let life = duration(life, TOKEN_LIFE_DEFAULT, "life")?;
    let life = (!never_expires).then_some(life);
    let new = NewToken { name, rights: rights(&grants)?, life };
    let (created, secret) = store.create_token(new, &call).await?;
    context.note_id(&created.id);
    let secret = secret.expose().to_owned();
    Ok(v1::CreateTokenResponse { token: Some(token(created)), secret })
}

/// Lists a page of tokens.
pub(super) async fn list(
    store: &Store,
    context: &RequestContext,
    message: v1::ListTokensRequest,
) -> Result<v1::ListTokensResponse> {
    let call = context.authorize(Rpc::ListTokens, &[])?;
    let page = store.tokens(message.page_size as usize, message.page_token, &call).await?;
    Ok(v1::ListTokensResponse {
        tokens: page.items.into_iter().map(token).collect(),
        next_page_token: page.next.unwrap_or_default(),
    })
}

/// Replaces the secret of a token.
pub(super) async fn rotate(
    store: &Store,
    context: &RequestContext,
    message: v1::RotateTokenRequest,
) -> Result<v1::RotateTokenResponse> {
    let call = context.authorize(Rpc::RotateToken, &[])?;
    let overlap = duration(message.overlap, TOKEN_OVERLAP_DEFAULT, "overlap")?;
    let (rotated, secret) = store.rotate_token(message.name, overlap, &call).await?;
    context.note_id(&rotated.id);
    let secret = secret.expose().to_owned();
    Ok(v1::RotateTokenResponse { token: Some(token(rotated)), secret })
}

/// Revokes a token.
pub(super) async fn revoke(
    store: &Store,
    context: &RequestContext,
    message: v1::RevokeTokenRequest,
) -> Result<v1::Token> {
    let call = context.authorize(Rpc::RevokeToken, &[])?;
    let revoked = store.revoke_token(message.name, &call).await?;
    context.note_id(&revoked.id);
    Ok(token(revoked))
}

fn duration(
    time: Option<prost_types::Duration>,
    default: Duration,
    field: &'static str,
) -> Result<Duration> {
    let Some(time) = time else { return Ok(default) };
    Duration::try_from(time)
        .map_err(|_| Error::invalid(field, format!("{field} is below zero; set a time, or none")))
}

fn role(number: i32, field: &'static str) -> Result<Role> {
    match WireRole::try_from(number) {
        Ok(WireRole::Monitor) => Ok(Role::Monitor),
        Ok(WireRole::Reader) => Ok(Role::Reader),
        Ok(WireRole::Writer) => Ok(Role::Writer),
        Ok(WireRole::Admin) => Ok(Role::Admin),
        Ok(WireRole::Unspecified) | Err(_) => {
            let message =
                format!("{number} is no role; set that of a monitor, reader, writer or admin");
            Err(Error::invalid(field, message))
        }
    }
}

fn rights(grants: &[v1::Grant]) -> Result<Rights> {
    if grants.len() > TOKEN_GRANTS_MAX {
        let message =
            format!("{} grants are given; at most {TOKEN_GRANTS_MAX} are taken", grants.len());
        return Err(Error::invalid("grants", message));
    }
    let pairs = grants.iter().map(|grant| {
        let pattern = Pattern::parse(&grant.path).map_err(|why| Error::invalid("grants", why))?;
        Ok((role(grant.role, "grants")?, pattern))
    });
    pairs.collect::<Result<_>>().map(Rights::new)
}

fn grants(rights: &Rights) -> Vec<v1::Grant> {
    let grant = |(role, pattern): &(Role, Pattern)| {
        let role = match role {
            Role::Monitor => WireRole::Monitor,
            Role::Reader => WireRole::Reader,
            Role::Writer => WireRole::Writer,
            Role::Admin => WireRole::Admin,
        };
        v1::Grant { role: role.into(), path: pattern.to_string() }
    };
    rights.iter().map(grant).collect()
}

fn token(token: Token) -> v1::Token {
    v1::Token {
        id: token.id,
        name: token.name,
        // A row that is damaged shows no grants.
        grants: Rights::parse(&token.grants).map(|rights| grants(&rights)).unwrap_or_default(),
        created_by: token.created_by,
        created_at: Some(timestamp(token.created)),
        expires_at: token.expires.map(timestamp),
        last_used_at: token.used.map(timestamp),
        revoked_at: token.revoked.map(timestamp),
        old_secret_until: token.old_until.map(timestamp),
    }
}
