//! Refuses HTTP/1 requests with both `Transfer-Encoding` and `Content-Length` (request smuggling, RFC 9112, section
//! 6.1).
//!
//! hyper prefers `Transfer-Encoding` and removes `Content-Length` from a request with both, so that no handler sees
//! it. A proxy that prefers `Content-Length` finds other requests in the same bytes. So this module parses the heads
//! of the requests in the bytes of the connection, as far as needed. A request whose head has both fields is
//! refused, and the connection serves no further request. So is one with a length of more bytes than are kept here,
//! and one after a chunk whose size has more: hyper reads both to their ends.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::extract::Request;
use http::{HeaderMap, header};

use crate::error::{Error, Kind, Result};

/// How many bytes of a line are kept, less one; usual lines of both fields are shorter.
const LINE_BYTES: usize = 256;
/// The first line of an HTTP/2 connection, which is not parsed here.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";
/// The length of the line end after the data of a chunk.
const CHUNK_END_BYTES: u64 = 2;

/// Marks a request whose end hyper and others may find at different places, in its extensions.
#[derive(Clone, Copy, Debug)]
struct Ambiguous;

/// A parser of the bytes that a client sends on a connection.
#[derive(Debug, Default)]
pub(super) struct HeadParser {
    at: Position,
    /// The received beginning of the current line.
    line: Vec<u8>,
    is_chunked: bool,
    length: Option<Vec<u8>>,
    /// Whether the length has more bytes than are kept.
    is_cut: bool,
    heads: u64,
    first_refused: FirstRefused,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Position {
    /// Before the first line of a request.
    #[default]
    Start,
    Headers,
    /// In a body of a known length; the bytes that are left.
    Body(u64),
    ChunkSize,
    /// In a chunk; the bytes that are left, line end included.
    Chunk(u64),
    Trailers,
    /// Nothing more is parsed.
    Over,
}

impl HeadParser {
    /// The first request that is refused. Shared: it is set when the head of that request is received.
    pub(super) fn first_refused(&self) -> FirstRefused {
        self.first_refused.clone()
    }

    /// Whether the client of HTTP/1 has sent whole requests only.
    pub(super) fn is_between_requests(&self) -> bool {
        self.at == Position::Start && self.line.is_empty()
    }

    /// Parses the next bytes.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.at != Position::Over {
            let taken = self.skip(bytes.len()).unwrap_or_else(|| self.gather(bytes));
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Skips bytes of a body or a chunk. Returns how many; `None` where lines are expected.
    fn skip(&mut self, bytes: usize) -> Option<usize> {
        let (left, next) = match &mut self.at {
            Position::Body(left) => (left, Position::Start),
            Position::Chunk(left) => (left, Position::ChunkSize),
            Position::Start
            | Position::Headers
            | Position::ChunkSize
            | Position::Trailers
            | Position::Over => return None,
        };
        let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes);
        *left -= taken as u64;
        if *left == 0 {
            self.at = next;
        }
        Some(taken)
    }

    /// Takes bytes up to the end of the line, and parses the line if it is complete. Returns how many were taken.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let piece = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        // The rest of a longer line is dropped.
        let room = (LINE_BYTES + 1).saturating_sub(self.line.len());
        self.line.extend(piece.iter().take(room));
        let Some(end) = end else { return bytes.len() };
        let line = mem::take(&mut self.line);
        self.next_line(line.strip_suffix(b"\r").unwrap_or(&line));
        // The buffer is reused for the next line.
        self.line = line;
        self.line.clear();
        end + 1
    }

    fn next_line(&mut self, line: &[u8]) {
        match (&self.at, line) {
            (Position::Start, b"") => {}
            (Position::Start, HTTP2) => self.at = Position::Over,
            (Position::Start, _) => self.at = Position::Headers,
            (Position::Headers, b"") => self.end_head(),
            (Position::Headers, line) => self.header(line),
            (Position::ChunkSize, line)
                if line.len() > LINE_BYTES && digits(line) == line.len() =>
            {
                // hyper reads the size to its end, so the next head is elsewhere.
                self.refuse(self.heads + 1);
            }
            (Position::ChunkSize, line) => {
                self.at = match chunk_size(line) {
                    Some(0) => Position::Trailers,
                    Some(size) => Position::Chunk(size + CHUNK_END_BYTES),
                    None => Position::Over,
                }
            }
            (Position::Trailers, b"") => self.at = Position::Start,
            (Position::Trailers | Position::Body(_) | Position::Chunk(_) | Position::Over, _) => {}
        }
    }

    /// Records a header field that determines the length of the body.
    fn header(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(header::TRANSFER_ENCODING.as_str().as_bytes()) {
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str().as_bytes()) {
            self.is_cut |= line.len() > LINE_BYTES;
            self.length = Some(value.get(1..).unwrap_or_default().to_vec());
        }
    }

    /// Determines what follows a head. Parsing ends at a length that hyper refuses, since hyper then ends the
    /// connection.
    fn end_head(&mut self) {
        self.heads += 1;
        if mem::take(&mut self.is_cut) {
            return self.refuse(self.heads);
        }
        self.at = match (mem::take(&mut self.is_chunked), self.length.take()) {
            (false, None) => Position::Start,
            (true, None) => Position::ChunkSize,
            (false, Some(length)) => match number(length.trim_ascii(), 10) {
                Some(0) => Position::Start,
                Some(length) => Position::Body(length),
                None => Position::Over,
            },
            (true, Some(_)) => return self.refuse(self.heads),
        };
    }

    /// Has a request and all after it refused, and parses no further.
    fn refuse(&mut self, number: u64) {
        self.first_refused.0.refused.store(number, Ordering::Release);
        self.at = Position::Over;
    }
}

/// Parses the size line of a chunk; extensions after the size are ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    number(line.get(..digits(line))?, 16).filter(|size| size.checked_add(CHUNK_END_BYTES).is_some())
}

fn digits(line: &[u8]) -> usize {
    line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count()
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // hyper refuses a sign, which `from_str_radix` accepts.
    let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok()
}

/// The number of the first request that is refused, on one connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstRefused(Arc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    /// The number of that request, from 1; 0 while there is none.
    refused: AtomicU64,
    /// The number of the last request that hyper has handed to the service.
    last: AtomicU64,
}

impl FirstRefused {
    /// Counts the next request of the connection, and marks it if it is refused.
    pub(super) fn mark<B>(&self, request: &mut http::Request<B>) {
        let number = self.0.last.fetch_add(1, Ordering::AcqRel) + 1;
        let refused = self.0.refused.load(Ordering::Acquire);
        if refused > 0 && number >= refused {
            request.extensions_mut().insert(Ambiguous);
        }
    }
}

/// Refuses a request whose body length is ambiguous, or whose body has a transfer coding other than `chunked`.
///
/// # Errors
/// `InvalidArgument` if the head has both fields or the body is chunked twice, `Unimplemented` for another
/// transfer coding. The caller must close the connection.
pub(super) fn check(request: &Request) -> Result<()> {
    let invalid = |message: &str| Err(Error::new(Kind::InvalidArgument, message));
    if request.extensions().get::<Ambiguous>().is_some() {
        return invalid(
            "the request has Transfer-Encoding and Content-Length, or a length or chunk size of more than 256 bytes; \
             send one of them, without leading zeros",
        );
    }
    let codings = codings(request.headers());
    match codings.iter().find(|coding| !coding.eq_ignore_ascii_case("chunked")) {
        Some(coding) => {
            let message = format!("the Transfer-Encoding '{coding}' is not known; use 'chunked'");
            Err(Error::new(Kind::Unimplemented, message))
        }
        None if codings.len() > 1 => invalid("the body is chunked twice; send it chunked once"),
        None => Ok(()),
    }
}

/// The transfer codings of all `Transfer-Encoding` lines.
fn codings(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    let text = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    let codings = text.flat_map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let codings = codings.map(|coding| coding.trim().to_owned());
    codings.filter(|coding| !coding.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the number of the request with both fields, for every split of the bytes.
    #[track_caller]
    fn check_found(bytes: &str, expected: u64) {
        for cut in 0..=bytes.len() {
            let mut framing = HeadParser::default();
            let (first, rest) = bytes.as_bytes().split_at(cut);
            framing.follow(first);
            framing.follow(rest);
            assert_eq!(
                framing.first_refused.0.refused.load(Ordering::Acquire),
                expected,
                "{bytes:?} at {cut}"
            );
        }
        let mut framing = HeadParser::default();
        bytes.as_bytes().iter().for_each(|&byte| framing.follow(&[byte]));
        assert_eq!(
            framing.first_refused.0.refused.load(Ordering::Acquire),
            expected,
            "{bytes:?} by bytes"
        );
    }

    const BOTH: &str = "PUT /a HTTP/1.1\r\nHost: h\r\ncontent-LENGTH: 3\r\n\
                        Transfer-Encoding:chunked\r\n\r\n";
    const TURNED: &str = "PUT /a HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length:3\n\n";

    #[test]
    fn the_request_with_two_lengths_is_found_behind_others() {
        check_found(BOTH, 1);
        check_found(TURNED, 1);
        let get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let none = "PUT / HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
        // The bodies look like heads.
        let sized = format!("PUT / HTTP/1.1\r\nContent-Length:  {} \r\n\r\n{BOTH}", BOTH.len());
        let chunk = format!("{:X} ;a=b\r\n{BOTH}\r\n", BOTH.len());
        let chunked = format!(
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\nA: b\r\n\r\n"
        );
        for (before, number) in [
            (get.to_owned(), 2),
            (none.to_owned(), 2),
            (sized.clone(), 2),
            (chunked.clone(), 2),
            (format!("\r\n{get}\r\n{chunked}{sized}{none}{get}"), 6),
        ] {
            check_found(&before, 0);
            check_found(&format!("{before}{BOTH}"), number);
            check_found(&format!("{before}{TURNED}"), number);
        }
    }

    #[test]
    fn what_the_library_refuses_is_followed_no_further() {
        for head in
            ["Content-Length: x", "Content-Length: +1", "Content-Length: 99999999999999999999"]
        {
            check_found(&format!("PUT / HTTP/1.1\r\n{head}\r\n\r\n{BOTH}"), 0);
        }
        for size in ["", "x", "ffffffffffffffff", "fffffffffffffffff"] {
            let head = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            check_found(&format!("{head}{size}\r\n{BOTH}"), 0);
        }
        check_found(&format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{BOTH}"), 0);
    }

    #[test]
    fn a_length_that_is_not_kept_whole_is_refused() {
        let zeros = "0".repeat(300);
        // The library takes five bytes for the body, with which the first head below is over.
        let body = format!("X\r\n\r\n{BOTH}");
        let sized = |length| format!("PUT / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
        check_found(&sized("0005".to_owned()), 2);
        check_found(&sized(format!("{zeros}5")), 1);
        let head = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = |size| format!("{head}{size}\r\nX\r\n\r\n\r\n0\r\n\r\n{BOTH}");
        check_found(&chunked("0005".to_owned()), 2);
        check_found(&chunked(format!("5;{zeros}")), 2);
        check_found(&chunked(format!("{zeros}5")), 2);
        // That request and those after it.
        let first_refused = FirstRefused::default();
        first_refused.0.refused.store(2, Ordering::Release);
        let marked = || {
            let mut request = Request::default();
            first_refused.mark(&mut request);
            check(&request).is_err()
        };
        assert_eq!([marked(), marked(), marked()], [false, true, true]);
    }

    #[test]
    fn a_long_line_is_not_kept() {
        let mut framing = HeadParser::default();
        framing.follow(b"GET / HTTP/1.1\r\nA: ");
        (0..1000).for_each(|_| framing.follow(&[b'a'; 100]));
        assert_eq!(framing.line.len(), LINE_BYTES + 1);
    }

    #[test]
    fn a_body_is_chunked_once_or_not_at_all() {
        let kind = |lines: &[&'static str]| {
            let mut request = Request::default();
            for line in lines {
                let value = http::HeaderValue::from_static(line);
                request.headers_mut().append(header::TRANSFER_ENCODING, value);
            }
            check(&request).map_err(|error| error.kind())
        };
        assert_eq!(kind(&[]), Ok(()));
        assert_eq!(kind(&["chunked"]), Ok(()));
        assert_eq!(kind(&["Chunked ,"]), Ok(()));
        for lines in [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity, chunked"]] {
            assert_eq!(kind(lines), Err(Kind::Unimplemented), "{lines:?}");
        }
        for lines in [&["chunked, chunked"][..], &["chunked", "CHUNKED"]] {
            assert_eq!(kind(lines), Err(Kind::InvalidArgument), "{lines:?}");
        }
    }
}
