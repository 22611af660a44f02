//! The bytes of a file in an archive: as they are, deflated, or in the stored blocks of deflate.
//!
//! The last form is for files that are streamed without compression. It has 5 bytes more for each 65,535 bytes, so
//! that the length is known before the bytes are, and every reader takes it.

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression as Level, FlushCompress, Status};

use super::{
    Compression,
    zip::{BLOCK_BYTES, Sums, may_deflate},
};
use crate::{
    error::{Error, Result},
    limits::{COMPRESSION_WORK, DOWNLOAD_MESSAGE_BYTES},
    offload,
};

/// A small file: its bytes in the archive, and their sums.
pub(super) async fn whole(bytes: Bytes, compression: Compression) -> Result<(Bytes, Sums)> {
    let crc = crc32fast::hash(&bytes);
    let packed = match compression {
        Compression::None => bytes,
        Compression::Deflate => {
            let work = bytes.len() * COMPRESSION_WORK;
            offload::run(work, move || -> Result<Bytes> {
                let mut out = BytesMut::new();
                let mut deflate = Compress::new(Level::default(), false);
                deflated(&mut deflate, &bytes, &mut out, FlushCompress::Finish)?;
                // The method of an entry is known by its sizes: what does not become smaller is stored.
                Ok(if out.len() < bytes.len() { out.freeze() } else { bytes })
            })
            .await?
        }
    };
    let sums = Sums { crc, packed: packed.len() as u64 };
    Ok((packed, sums))
}

/// The encoder of a file that is streamed.
#[derive(Debug)]
pub(super) struct Encoder {
    crc: crc32fast::Hasher,
    /// The bytes of the file that are still to come.
    left: u64,
    packed: u64,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// Stored blocks, and the bytes that are still to come of the current one.
    Blocks(u64),
    Deflate(Box<Compress>),
}

impl Encoder {
    /// The encoder of a file of `size` bytes.
    pub(super) fn new(size: u64, compression: Compression) -> Self {
        let form = match compression {
            Compression::Deflate if may_deflate(size) => {
                Form::Deflate(Box::new(Compress::new(Level::default(), false)))
            }
            Compression::None | Compression::Deflate => Form::Blocks(0),
        };
        Self { crc: crc32fast::Hasher::new(), left: size, packed: 0, form }
    }

    /// The bytes of the file that are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The sums, after the last bytes.
    pub(super) fn sums(self) -> Sums {
        Sums { crc: self.crc.finalize(), packed: self.packed }
    }

    /// Appends the next bytes of the file. Compression runs on the blocking pool.
    ///
    /// # Errors
    /// `Internal` for more bytes than the file has.
    pub(super) async fn push(mut self, bytes: Bytes, out: &mut BytesMut) -> Result<Self> {
        self.crc.update(&bytes);
        let after = self.left.checked_sub(bytes.len() as u64);
        let after = after.ok_or_else(|| Error::internal("a file has more bytes than its entry"))?;
        let before = out.len();
        match &mut self.form {
            Form::Blocks(block) => put_blocks(&bytes, (self.left, block), out),
            Form::Deflate(_) => {
                let mut moved = std::mem::take(out);
                let work = bytes.len() * COMPRESSION_WORK;
                let flush = if after == 0 { FlushCompress::Finish } else { FlushCompress::None };
                let run = move || {
                    let Form::Deflate(deflate) = &mut self.form else { return Ok((self, moved)) };
                    deflated(deflate, &bytes, &mut moved, flush)?;
                    Ok::<_, Error>((self, moved))
                };
                (self, *out) = offload::run(work, run).await?;
            }
        }
        self.packed += (out.len() - before) as u64;
        self.left = after;
        Ok(self)
    }
}

/// Appends bytes as stored blocks. `left` bytes of the file come from here on, `block` of them in the current block.
fn put_blocks(mut bytes: &[u8], (mut left, block): (u64, &mut u64), out: &mut BytesMut) {
    while !bytes.is_empty() {
        if *block == 0 {
            *block = left.min(BLOCK_BYTES);
            let length = u16::try_from(*block).unwrap_or(u16::MAX);
            out.put_u8(u8::from(*block == left));
            out.put_u16_le(length);
            out.put_u16_le(!length);
        }
        let most = usize::try_from(*block).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at(most.min(bytes.len()));
        out.put_slice(now);
        *block -= now.len() as u64;
        left -= now.len() as u64;
        bytes = later;
    }
}

/// Appends what deflate makes of bytes.
fn deflated(
    deflate: &mut Compress,
    mut bytes: &[u8],
    out: &mut BytesMut,
    flush: FlushCompress,
) -> Result<()> {
    let mut buffer = vec![0; DOWNLOAD_MESSAGE_BYTES];
    loop {
        let (taken, made) = (deflate.total_in(), deflate.total_out());
        let status = deflate.compress(bytes, &mut buffer, flush).map_err(Error::internal)?;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let made = count(deflate.total_out() - made);
        out.put_slice(buffer.get(..made).unwrap_or_default());
        bytes = bytes.get(count(deflate.total_in() - taken)..).unwrap_or_default();
        // A full buffer may leave bytes in the encoder that the next call returns.
        let is_empty = bytes.is_empty() && made < buffer.len();
        if status == Status::StreamEnd || (is_empty && !matches!(flush, FlushCompress::Finish)) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::DeflateDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::store::package::zip::{is_streamed, plain_len};

    /// Encodes a file that comes in pieces.
    fn encode(bytes: &[u8], pieces: &[usize], compression: Compression) -> (BytesMut, Sums) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut out = BytesMut::new();
            let mut encoder = Encoder::new(bytes.len() as u64, compression);
            let mut rest = bytes;
            let mut sizes = pieces.iter().cycle();
            while !rest.is_empty() {
                let size = sizes.next().expect("endless").clamp(&1, &rest.len()).to_owned();
                let (now, later) = rest.split_at(size);
                let now = Bytes::copy_from_slice(now);
                encoder = encoder.push(now, &mut out).await.expect("as many bytes as announced");
                rest = later;
            }
            assert_eq!(encoder.left(), 0);
            (out, encoder.sums())
        })
    }

    fn check(bytes: &[u8], pieces: &[usize]) {
        for compression in [Compression::None, Compression::Deflate] {
            let (out, sums) = encode(bytes, pieces, compression);
            let mut back = Vec::new();
            DeflateDecoder::new(&out[..]).read_to_end(&mut back).expect("deflated");
            assert!(back == bytes, "{} bytes in {pieces:?}", bytes.len());
            assert_eq!(sums, Sums { crc: crc32fast::hash(bytes), packed: out.len() as u64 });
            if compression == Compression::None && is_streamed(bytes.len() as u64) {
                assert_eq!(sums.packed, plain_len(bytes.len() as u64));
            }
        }
    }

    #[test]
    fn every_size_around_the_ends_of_blocks_comes_back() {
        for blocks in [1, 2, 3] {
            for size in blocks * 65_535 - 2..=blocks * 65_535 + 2 {
                let bytes: Vec<u8> = (0..251).cycle().take(size).collect();
                check(&bytes, &[65_536]);
                check(&bytes, &[65_535]);
                check(&bytes, &[1_000, 65_536, 7]);
            }
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(
            bytes in prop::collection::vec(any::<u8>(), 1..200_000),
            pieces in prop::collection::vec(1_usize..70_000, 1..5),
        ) {
            check(&bytes, &pieces);
        }
    }

    #[test]
    fn a_file_that_could_outgrow_its_records_is_not_deflated() {
        let is_deflated =
            |size| matches!(Encoder::new(size, Compression::Deflate).form, Form::Deflate(_));
        let most = u64::from(u32::MAX);
        for (size, expected) in [
            (100_000, true),
            (most - (1 << 24), true),
            (most - (1 << 23), false),
            (most, false),
            (most + 1, true),
        ] {
            assert_eq!(is_deflated(size), expected, "{size}");
        }
    }

    #[test]
    fn more_bytes_than_announced_are_refused() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (mut out, bytes) = (BytesMut::new(), Bytes::from_static(b"ab"));
        let push = Encoder::new(1, Compression::None).push(bytes, &mut out);
        assert!(runtime.block_on(push).is_err());
    }
}
