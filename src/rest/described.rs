//! What a request says that its body is. Where it says that this is something else than the call takes,
//! nothing is stored: bytes that are kept and what was said of them forgotten are of no use.

use http::{HeaderMap, header};

use super::route::Sends;
use crate::error::{Error, Kind};

/// Refuses a body that says that it is not the bytes which its call is for.
///
/// # Errors
/// `Kind::UnsupportedEncoding` where it is encoded, `Kind::BadRange` where it is a piece of a file.
pub(super) fn check(sends: Sends, headers: &HeaderMap) -> Result<(), Error> {
    match sends {
        Sends::Nothing => Ok(()),
        Sends::Bytes => plain(headers),
        Sends::File => whole(headers).and_then(|()| plain(headers)),
    }
}

/// Refuses a piece. Upstream does so only where its range is malformed, and replaces the file by it
/// otherwise; RFC 9110, section 14.5, has it refused.
fn whole(headers: &HeaderMap) -> Result<(), Error> {
    let Some(range) = headers.get(header::CONTENT_RANGE) else { return Ok(()) };
    let range = String::from_utf8_lossy(range.as_bytes());
    let message = format!(
        "the body is a piece of a file, its Content-Range is '{range}', and would replace the whole; \
         send pieces with UploadChunk"
    );
    Err(Error::new(Kind::BadRange, message).field("offset"))
}

/// Refuses what is encoded. All lines of the header count, and every member.
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
