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
}

impl Messages {
    /// Follows the next piece of the body.
    pub(super) fn follow(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.left > 0 {
                let some = self.left.min(piece.len());
                self.left -= some;
                piece = piece.get(some..).unwrap_or_default();
                continue;
            }
            let some = (PREFIX_BYTES - self.prefix.len()).min(piece.len());
            let (start, rest) = piece.split_at(some);
            self.prefix.extend_from_slice(start);
            piece = rest;
            if let [_, length @ ..] = self.prefix.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.size = u32::from_be_bytes(length) as usize;
                self.left = self.size;
                self.begun += 1;
                self.prefix.clear();
            }
        }
    }

    /// The message that has begun and is not whole: its number, and the bytes it will have.
    pub(super) fn unfinished(&self) -> Option<(u64, usize)> {
        (self.left > 0).then_some((self.begun, self.size))
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
            at.follow(&[byte]);
            at.unfinished()
        };
        let found: Vec<_> = body.iter().map(step).collect();
        for end in 0..=body.len() {
            for cut in 0..=end {
                let mut messages = Messages::default();
                messages.follow(&body[..cut]);
                messages.follow(&body[cut..end]);
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
