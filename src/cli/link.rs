//! The command `link`.

use crate::{
    cli::{
        Failure,
        args::link::{Format, Link},
        json::CreatedLink,
        output::Output,
        text::second,
    },
    client::{Client, token::duration},
    wire::v1::{Compression, CreateLinkRequest, EntryKind, LinkTarget},
};

/// Prints a link alone on the standard output, or ends all links.
pub(super) async fn link(client: &Client, args: Link, output: &mut Output) -> Result<(), Failure> {
    let Some(path) = args.path else {
        client.rotate_link_key().await?;
        return Ok(output.print_and_flush(&serde_json::json!({}), "all links have ended")?);
    };
    let entry = client.stat(&path).await?.entry.unwrap_or_default();
    let target = match (entry.kind(), args.format) {
        (EntryKind::Folder, Format::Sfpkg) => LinkTarget::Sfpkg,
        (EntryKind::Folder, Format::Zip) => LinkTarget::Zip,
        (EntryKind::File | EntryKind::Unspecified, _) => LinkTarget::Content,
    };
    let compression = if args.compress { Compression::Deflate } else { Compression::None };
    let (target, compression) = (target.into(), compression.into());
    let request =
        CreateLinkRequest { path, target, life: Some(duration(args.life.0)), compression };
    let (link, expires_at) = client.create_link(request, args.base.as_deref()).await?;
    let expires_at = second(expires_at.as_ref());
    let value = CreatedLink { link: link.expose(), expires_at: &expires_at };
    output.print_and_flush(&value, link.expose())?;
    if !output.is_json() {
        output.note(format_args!("whoever has this link may use it until {expires_at}"));
    }
    Ok(())
}
