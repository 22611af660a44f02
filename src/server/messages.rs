//! Where the messages of a gRPC body begin and end.
//!
//! A message has a prefix of five bytes: whether it is compressed, and its length, the highest byte
//! first. Whoever decodes it keeps what came of it until it is whole.

/// The prefix of a message.
const PREFIX_BYTES: usize = 5;

/// The place in a body.
#[derive(Debug, Default)]
pub(super) struct Messages {
    prefix: Vec<u8>,
    /// The messages whose prefix is whole.
    begun: u64,
    size: usize,
    left: usize,
    is_packed: bool,
}

impl Messages {
    /// Follows the next piece of the body up to the end of a message, if one ends in it. Returns how many
    /// of its bytes that are.
    pub(super) fn follow(&mut self, piece: &[u8]) -> usize {
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

    /// Begins a message, if its prefix is whole.
    fn begin(&mut self) -> bool {
        let [packed, length @ ..] = self.prefix.as_slice() else { return false };
        let Ok(length) = <[u8; 4]>::try_from(length) else { return false };
        self.is_packed = *packed != 0;
        self.size = u32::from_be_bytes(length) as usize;
        self.left = self.size;
        self.begun += 1;
        self.prefix.clear();
        true
    }

    /// The message that has begun and is not whole: its number, and the bytes it will have.
    pub(super) fn unfinished(&self) -> Option<(u64, usize)> {
        (self.left > 0).then_some((self.begun, self.size))
    }

    /// Whether the message that has begun last is compressed.
    pub(super) fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// Whether a message has just come to its end.
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
        // By every byte where the body can be cut.
        let mut at = Messages::default();
        let step = |&byte: &u8| {
            assert_eq!(at.follow(&[byte]), 1);
            at.unfinished()
        };
        let found: Vec<_> = body.iter().map(step).collect();
        for end in 0..=body.len() {
            for cut in 0..=end {
                let mut messages = Messages::default();
                for mut piece in [&body[..cut], &body[cut..end]] {
                    while !piece.is_empty() {
                        let size = messages.follow(piece);
                        assert!(size == piece.len() || messages.unfinished().is_none());
                        piece = &piece[size..];
                    }
                }
                let expect = end.checked_sub(1).and_then(|last| found[last]);
                assert_eq!(messages.unfinished(), expect, "{end} bytes, cut at {cut}");
            }
        }
        let begun: Vec<_> = found.iter().flatten().collect();
        assert_eq!(begun.len(), 3 + 300 + 1, "from the prefix to the byte before the last");
        assert_eq!(begun.last(), Some(&&(4, 1)));
        assert_eq!(found.last(), Some(&None));
    }
}
