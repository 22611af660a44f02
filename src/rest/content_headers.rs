//! Refusal of bodies that are not what their call stores: encoded bodies (`Content-Encoding`), and a piece of a file
//! (`Content-Range`) in an upload. The store does not keep these headers, so the stored bytes would be useless without
//! them.

use http::{HeaderMap, header};

use super::route::RequestContent;
use crate::error::{Error, Kind};

/// Refuses a body whose headers say that it is not what the call stores.
///
/// # Errors
/// `Kind::UnsupportedEncoding` for an encoded body, `Kind::BadRange` for a piece of a file.
pub(super) fn check(content: RequestContent, headers: &HeaderMap) -> Result<(), Error> {
    match content {
        RequestContent::Nothing => Ok(()),
        RequestContent::Bytes => plain(headers),
        RequestContent::File => whole(headers).and_then(|()| plain(headers)),
    }
}

/// Refuses a piece of a file. Upstream refuses only a malformed range, and otherwise replaces the whole file by the
/// piece. RFC 9110, section 14.5, requires the refusal.
fn whole(headers: &HeaderMap) -> Result<(), Error> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let range = String::from_utf8_lossy(range.as_bytes());
    let message = format!(
        "the body is a piece of a file, its Content-Range is '{range}', and would replace the whole; \
         send pieces with UploadChunk"
    );
    Err(Error::new(Kind::BadRange, message).field("offset"))
}

/// Refuses an encoded body. Every member of every `Content-Encoding` line must be `identity`.
fn plain(headers: &HeaderMap) -> Result<(), Error> {
    for line in headers.get_all(header::CONTENT_ENCODING) {
        let line = String::from_utf8_lossy(line.as_bytes());
        let mut encodings = line.split(',').map(str::trim).filter(|encoding| !encoding.is_empty());
        if let Some(other) = encodings.find(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            let message =
                format!("the Content-Encoding '{other}' is not taken; send the bytes as they are");
            return Err(Error::new(Kind::UnsupportedEncoding, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_encoded_is_plain() {
        let kind = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                let value = http::HeaderValue::from_static(line);
                headers.append(header::CONTENT_ENCODING, value);
            }
            plain(&headers).map_err(|error| error.kind())
        };
        for lines in [&[][..], &[""], &["identity"], &["Identity, ", ",identity"]] {
            assert_eq!(kind(lines), Ok(()), "{lines:?}");
        }
        for lines in [&["gzip"][..], &["identity, br"], &["identity", "zstd"], &["identity;q=1"]] {
            assert_eq!(kind(lines), Err(Kind::UnsupportedEncoding), "{lines:?}");
        }
    }
}
