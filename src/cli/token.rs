//! The commands `token` and `whoami`.

use prost_types::Timestamp;

use crate::{
    cli::{
        Failure,
        args::token::{CreateToken, TokenCommand, Whoami},
        json::{Json, TokenWithSecret},
        output::Output,
        text::{grant, second},
    },
    client::{Client, token::duration},
    secret::Secret,
    wire::v1::{CreateTokenRequest, Grant, Role, Token},
};

/// Runs a command below `token`.
pub(super) async fn run(
    client: &Client,
    command: TokenCommand,
    output: &mut Output,
) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => {
            let (token, secret) = client.create_token(request(args)).await?;
            print_secret(&token, &secret, output)
        }
        TokenCommand::List(_) => list(client, output).await,
        TokenCommand::Rotate(args) => {
            let (token, secret) = client.rotate_token(&args.name, args.overlap.0).await?;
            print_secret(&token, &secret, output)
        }
        TokenCommand::Revoke(args) => {
            let token = client.revoke_token(&args.name).await?;
            Ok(output.print_and_flush(&Json(&token), format_args!("revoked {}", token.name))?)
        }
    }
}

/// The request of `token create`.
fn request(args: CreateToken) -> CreateTokenRequest {
    let role = Role::from(args.role).into();
    CreateTokenRequest {
        name: args.name,
        grants: args.paths.into_iter().map(|path| Grant { role, path }).collect(),
        life: (!args.never_expires).then(|| duration(args.life.0)),
        never_expires: args.never_expires,
    }
}

/// Prints a secret alone on standard output, and the end of its token on standard error.
///
/// # Errors
/// [`Failure::Said`] if standard output takes no secret, also if it is a closed pipe: then nobody has it.
fn print_secret(token: &Token, secret: &Secret, output: &mut Output) -> Result<(), Failure> {
    let value = TokenWithSecret { token: Json(token), secret: secret.expose() };
    output.print(&value, secret.expose()).and_then(|()| output.flush()).map_err(|why| {
        let again = format!("'imagestore token rotate {}' makes another one", token.name);
        Failure::Said(format!("cannot write the secret: {why}; {again}"))
    })?;
    if output.is_json() {
        return Ok(());
    }
    let end = match &token.expires_at {
        Some(time) => format!("expires at {}", second(Some(time))),
        None => "never expires".to_owned(),
    };
    output.note(format_args!("this token is shown once; it {end}"));
    Ok(())
}

/// Lists the tokens, page by page.
async fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let now = jiff::Timestamp::now().as_second();
    let mut page_token = String::new();
    loop {
        let page = client.tokens(&page_token).await?;
        for token in &page.tokens {
            output.print(&Json(token), line(token, now))?;
        }
        output.flush()?;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

/// A token as a line: name, id, grants, end and last use. `now` is in seconds since 1970.
fn line(token: &Token, now: i64) -> String {
    let grants: Vec<_> = token.grants.iter().map(grant).collect();
    let used = match &token.last_used_at {
        Some(time) => format!("used {}", second(Some(time))),
        None => "never used".to_owned(),
    };
    format!("{}  {}  {}  {}  {used}", token.name, token.id, grants.join(", "), end(token, now))
}

/// The end of a token.
fn end(token: &Token, now: i64) -> String {
    let at = |what: &str, time: &Timestamp| format!("{what} {}", second(Some(time)));
    match (&token.revoked_at, &token.expires_at) {
        (Some(time), _) => at("revoked", time),
        (None, Some(time)) if time.seconds <= now => at("ended", time),
        (None, Some(time)) => at("expires", time),
        (None, None) => "never expires".to_owned(),
    }
}

/// Shows who the caller is, or whether it has a role at a path.
pub(super) async fn whoami(
    client: &Client,
    args: &Whoami,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(role) = args.may {
        let path = args.path.as_deref().unwrap_or_default();
        let caller = client.caller(Some((role.into(), path))).await?;
        let (answer, ended) = if caller.may() { ("yes", Ok(())) } else { ("no", Err(Failure::No)) };
        output.print_and_flush(&Json(&caller), answer)?;
        return ended;
    }
    let caller = client.caller(None).await?;
    if output.is_json() {
        return Ok(output.print(&Json(&caller), "")?);
    }
    output.print(&(), &caller.name)?;
    caller.names.iter().skip(1).try_for_each(|name| output.print(&(), name))?;
    caller.grants.iter().try_for_each(|pair| output.print(&(), grant(pair)))?;
    if let Some(time) = &caller.expires_at {
        output.print(&(), format_args!("expires {}", second(Some(time))))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_a_token_allows_and_when_it_ends() {
        let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let pair = |role: Role, path: &str| Grant { role: role.into(), path: path.to_owned() };
        let mut token = Token {
            id: "3fA9xYz0".to_owned(),
            name: "ci".to_owned(),
            grants: vec![pair(Role::Writer, "Apps/Calc*"), pair(Role::Reader, "/")],
            ..Token::default()
        };
        let start = "ci  3fA9xYz0  writer Apps/Calc*, reader /  ";
        assert_eq!(line(&token, 100), format!("{start}never expires  never used"));
        token.last_used_at = time(0);
        token.expires_at = time(101);
        let used = "used 1970-01-01T00:00:00Z";
        assert_eq!(line(&token, 100), format!("{start}expires 1970-01-01T00:01:41Z  {used}"));
        assert_eq!(line(&token, 101), format!("{start}ended 1970-01-01T00:01:41Z  {used}"));
        token.revoked_at = time(50);
        assert_eq!(line(&token, 101), format!("{start}revoked 1970-01-01T00:00:50Z  {used}"));
    }
}
