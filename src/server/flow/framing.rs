//! The boundaries of the length-prefixed messages in a gRPC body.
//!
//! The prefix of a message has five bytes: the compression flag, and the length in big-endian order. The decoder
//! buffers a message until it is complete.

/// The length of the prefix of a message.
const PREFIX_BYTES: usize = 5;

/// A parser of the message boundaries of one body.
#[derive(Debug, Default)]
pub(super) struct Framing {
    prefix: Vec<u8>,
    /// The number of messages whose prefix is complete.
    begun: u64,
    size: usize,
    /// The bytes of the current message that are left.
    left: usize,
    is_compressed: bool,
}

impl Framing {
    /// Parses the next piece of the body, up to the end of the current message if the piece contains it. Returns
    /// how many bytes of the piece were parsed.
    pub(super) fn advance(&mut self, piece: &[u8]) -> usize {
        let mut rest = piece;
        while !rest.is_empty() {
            let wanted = if self.left > 0 { self.left } else { PREFIX_BYTES - self.prefix.len() };
            let (some, after) = rest.split_at(wanted.min(rest.len()));
            rest = after;
            if self.left > 0 {
                self.left -= some.len();
            } else {
                self.prefix.extend_from_slice(some);
                if !self.begin() {
                    continue;
                }
            }
            if self.left == 0 {
                break;
            }
        }
        piece.len() - rest.len()
    }

    /// Begins a message if its prefix is complete. Returns whether it is.
    fn begin(&mut self) -> bool {
        let [compressed, length @ ..] = self.prefix.as_slice() else { return false };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return false };
        self.is_compressed = *compressed != 0;
        self.size = u32::from_be_bytes(length) as usize;
        self.left = self.size;
        self.begun += 1;
        self.prefix.clear();
        true
    }

    /// The number of the current message, from 1; 0 before the first.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// The size of the current message in bytes, without its prefix.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether the current message is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// Whether the parsed bytes end at the end of a message.
    pub(super) fn is_at_end(&self) -> bool {
        self.begun > 0 && self.left == 0 && self.prefix.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let sizes = [3, 0, 300, 1, 0];
        let body: Vec<u8> = sizes
            .iter()
            .flat_map(|&size: &u32| {
                let message = std::iter::repeat_n(0xff, size as usize);
                [0].into_iter().chain(size.to_be_bytes()).chain(message).collect::<Vec<_>>()
            })
            .collect();
        let place = |framing: &Framing| (framing.begun(), framing.size(), framing.is_at_end());
        // The expected state after each byte of the body.
        let mut at = Framing::default();
        let step = |&byte: &u8| {
            assert_eq!(at.advance(&[byte]), 1);
            place(&at)
        };
        let found: Vec<_> = body.iter().map(step).collect();
        for end in 0..=body.len() {
            for cut in 0..=end {
                let mut framing = Framing::default();
                for mut piece in [&body[..cut], &body[cut..end]] {
                    while !piece.is_empty() {
                        let size = framing.advance(piece);
                        assert!(size == piece.len() || framing.is_at_end());
                        piece = &piece[size..];
                    }
                }
                let expect = end.checked_sub(1).map_or((0, 0, false), |last| found[last]);
                assert_eq!(place(&framing), expect, "{end} bytes, cut at {cut}");
            }
        }
        let ends = found.iter().filter(|(_, _, is_at_end)| *is_at_end).count();
        assert_eq!((ends, found.last()), (sizes.len(), Some(&(5, 0, true))));
        assert_eq!(found.iter().filter(|&&(begun, ..)| begun == 3).count(), 300 + 5);
    }
}
