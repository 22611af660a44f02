//! The codec of the messages: that of the library, with a bound for the lists in requests.
//!
//! An element of a list takes one or two bytes on the wire and tens of bytes in memory. So before a request is
//! decoded, the elements of its lists are counted in the encoded bytes, and a list with more than twice as many
//! elements as its call accepts is refused. While a long message is decoded, other threads run the other tasks of
//! the runtime.

use std::marker::PhantomData;

use prost::{
    Message, Name,
    bytes::Buf,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec as TonicCodec, DecodeBuf, Decoder as TonicDecoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::{
    error::{Error, Kind},
    limits::{
        BACKUP_PAGE_ROWS, CONDITION_TAGS_MAX, IN_PLACE_BYTES_MIN, SKIP_FILES_MAX, TOKEN_GRANTS_MAX,
    },
    offload,
    wire::status,
};

/// A list in a request.
#[derive(Debug)]
struct List {
    /// The request message of the call.
    message: &'static str,
    /// The field numbers from the request message down to the list.
    path: &'static [u32],
    field: &'static str,
    /// Whether the elements are numbers, of which one encoded field can hold several (packed).
    numbers: bool,
    most: usize,
}

/// The lists of all requests.
const LISTS: [List; 13] = [
    list("BackupRequest", &[2, 1], "parts", BACKUP_PAGE_ROWS).of_numbers(),
    list("CommitUploadSessionRequest", &[3], "if_match", CONDITION_TAGS_MAX),
    list("CommitUploadSessionRequest", &[4], "if_none_match", CONDITION_TAGS_MAX),
    list("CopyRequest", &[3], "skip_files", SKIP_FILES_MAX),
    list("CopyRequest", &[9], "if_match", CONDITION_TAGS_MAX),
    list("CopyRequest", &[10], "if_none_match", CONDITION_TAGS_MAX),
    list("CreateTokenRequest", &[2], "grants", TOKEN_GRANTS_MAX),
    list("DeleteRequest", &[2], "if_match", CONDITION_TAGS_MAX),
    list("DeleteRequest", &[4], "if_none_match", CONDITION_TAGS_MAX),
    list("RestoreRequest", &[1, 3, 1], "parts", BACKUP_PAGE_ROWS).of_numbers(),
    list("RestoreRequest", &[1, 5, 1], "entries", BACKUP_PAGE_ROWS),
    list("UploadRequest", &[1, 5], "if_match", CONDITION_TAGS_MAX),
    list("UploadRequest", &[1, 6], "if_none_match", CONDITION_TAGS_MAX),
];

const fn list(
    message: &'static str,
    path: &'static [u32],
    field: &'static str,
    most: usize,
) -> List {
    List { message, path, field, numbers: false, most }
}

impl List {
    const fn of_numbers(self) -> Self {
        Self { numbers: true, ..self }
    }
}

/// Counts the elements of the lists of a message.
struct Counter {
    lists: Vec<(&'static List, usize)>,
    /// The field numbers down to the field that is being read.
    path: Vec<u32>,
}

impl Counter {
    fn new(message: &str) -> Self {
        let lists = LISTS.iter().filter(|list| list.message == message);
        Self { lists: lists.map(|list| (list, 0)).collect(), path: Vec::new() }
    }

    /// Counts in an encoded message. Invalid bytes end the count without an error: the decoder refuses them.
    ///
    /// # Errors
    /// `TooLarge` for the first list that has too many elements.
    fn count(&mut self, mut message: &[u8]) -> Result<(), Error> {
        while let Ok((field, wire)) = decode_key(&mut message) {
            self.path.push(field);
            let is_long = wire == WireType::LengthDelimited;
            let below = self.lists.iter().any(|(list, _)| list.path.starts_with(&self.path));
            if below && is_long {
                let length = decode_varint(&mut message).unwrap_or(u64::MAX);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                let Some((field, rest)) = message.split_at_checked(length) else { return Ok(()) };
                message = rest;
                self.field(field)?;
            } else {
                if below {
                    self.add(1)?;
                }
                if skip_field(wire, field, &mut message, DecodeContext::default()).is_err() {
                    return Ok(());
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    /// Counts in a field that is a list, or a message that contains one.
    fn field(&mut self, field: &[u8]) -> Result<(), Error> {
        match self.lists.iter().find(|(list, _)| list.path == self.path) {
            // Only the last byte of a varint has no continuation bit.
            Some((list, _)) if list.numbers => {
                self.add(field.iter().filter(|&&byte| byte < 0x80).count())
            }
            Some(_) => self.add(1),
            None => self.count(field),
        }
    }

    /// Adds elements to the list that is being read, if the current field is a list.
    fn add(&mut self, elements: usize) -> Result<(), Error> {
        let found = self.lists.iter_mut().find(|(list, _)| list.path == self.path);
        let Some((list, count)) = found else { return Ok(()) };
        let List { field, most, .. } = **list;
        *count += elements;
        // The call itself refuses a list up to twice the limit, with its exact length in the message.
        if *count <= 2 * most {
            return Ok(());
        }
        let message = format!("{field} has more than {} elements; give at most {most}", 2 * most);
        Err(Error::new(Kind::TooLarge, message).field(field))
    }
}

/// The codec of the messages of a call.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> TonicCodec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Decoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoder(ProstDecoder::default())
    }
}

/// The decoder, which refuses messages with too long lists.
#[derive(Debug)]
pub struct Decoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder<U> {
    fn read(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // tonic buffers a message in one contiguous piece.
        let counted = Counter::new(U::NAME).count(buf.chunk());
        counted.map_err(|error| status::from_error(&error))?;
        self.0.decode(buf)
    }
}

impl<U: Message + Name + Default> TonicDecoder for Decoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if buf.remaining() < IN_PLACE_BYTES_MIN {
            return self.read(buf);
        }
        offload::in_place(|| self.read(buf))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use http_body_util::Full;
    use prost::{
        DecodeError,
        bytes::{BufMut, Bytes},
    };
    use prost_types::{
        DescriptorProto, FileDescriptorSet,
        field_descriptor_proto::{Label, Type},
    };
    use tonic::Streaming;

    use super::*;
    use crate::wire::{
        DESCRIPTOR,
        v1::{
            BackupRequest, BackupWants, CopyRequest, DownloadResponse, UploadHeader, UploadRequest,
            backup_request, upload_request,
        },
    };

    const PACKAGE: &str = ".imagestore.v1.";

    /// The lists below a message: path, field, and whether the elements are numbers.
    fn lists(all: &[DescriptorProto], name: &str, path: &[u32]) -> Vec<(Vec<u32>, String, bool)> {
        let Some(name) = name.strip_prefix(PACKAGE) else { return Vec::new() };
        let message = all.iter().find(|message| message.name() == name).expect("a message");
        let mut found = Vec::new();
        for field in &message.field {
            let path = [path, &[u32::try_from(field.number()).expect("a number")]].concat();
            let is_number = !matches!(field.r#type(), Type::String | Type::Bytes | Type::Message);
            if field.label() == Label::Repeated {
                found.push((path.clone(), field.name().to_owned(), is_number));
            }
            if field.r#type() == Type::Message {
                found.extend(lists(all, field.type_name(), &path));
            }
        }
        found
    }

    #[test]
    fn every_list_of_a_request_has_its_bound() {
        let set = FileDescriptorSet::decode(DESCRIPTOR).expect("the descriptor");
        let all: Vec<_> = set.file.iter().flat_map(|file| file.message_type.clone()).collect();
        let calls = set.file.iter().flat_map(|file| &file.service);
        let mut requests: Vec<_> = calls
            .flat_map(|service| &service.method)
            .map(|call| call.input_type().to_owned())
            .collect();
        requests.sort();
        requests.dedup();
        let found: Vec<_> = requests
            .iter()
            .flat_map(|request| {
                let name = request.strip_prefix(PACKAGE).expect("ours").to_owned();
                let lists = lists(&all, request, &[]).into_iter();
                lists.map(move |(path, field, numbers)| (name.clone(), path, field, numbers))
            })
            .collect();
        let known = LISTS.iter().map(|list| {
            (list.message.to_owned(), list.path.to_vec(), list.field.to_owned(), list.numbers)
        });
        assert_eq!(found, known.collect::<Vec<_>>());
    }

    #[track_caller]
    fn check<M: Message + Name>(message: &M, refused: Option<&str>) {
        check_bytes::<M>(&message.encode_to_vec(), refused);
    }

    #[track_caller]
    fn check_bytes<M: Name>(message: &[u8], refused: Option<&str>) {
        let error = Counter::new(M::NAME).count(message).err();
        assert!(error.iter().all(|error| error.kind() == Kind::TooLarge));
        assert_eq!(error.as_ref().and_then(Error::violated_field), refused);
    }

    #[test]
    fn a_list_is_refused_that_is_much_too_long() {
        let copy = |names: usize, tags: usize| CopyRequest {
            source: "a".to_owned(),
            skip_files: vec![String::new(); names],
            if_match: vec!["b".to_owned(); tags],
            ..CopyRequest::default()
        };
        check(&copy(2 * SKIP_FILES_MAX, 2 * CONDITION_TAGS_MAX), None);
        check(&copy(2 * SKIP_FILES_MAX + 1, 0), Some("skip_files"));
        check(&copy(0, 2 * CONDITION_TAGS_MAX + 1), Some("if_match"));
        let upload = |tags: usize| {
            let if_none_match = vec![String::new(); tags];
            let header = UploadHeader { if_none_match, ..UploadHeader::default() };
            UploadRequest { payload: Some(upload_request::Payload::Header(header)) }
        };
        check(&upload(2 * CONDITION_TAGS_MAX), None);
        check(&upload(2 * CONDITION_TAGS_MAX + 1), Some("if_none_match"));
        // A field that is not a list has no bound here.
        let data = upload_request::Payload::Data(vec![0x2a; 1 << 20].into());
        check(&UploadRequest { payload: Some(data) }, None);
    }

    #[test]
    fn numbers_are_counted_however_they_stand() {
        let wants = |count: usize| {
            let wants = BackupWants { parts: vec![300; count], ..BackupWants::default() };
            BackupRequest { payload: Some(backup_request::Payload::Wants(wants)) }
        };
        check(&wants(2 * BACKUP_PAGE_ROWS), None);
        check(&wants(2 * BACKUP_PAGE_ROWS + 1), Some("parts"));
        // Each number in a separate field, and the message with the list in several pieces.
        let one = |count: usize| [0x12, 2, 0x08, 1].repeat(count);
        check_bytes::<BackupRequest>(&one(2 * BACKUP_PAGE_ROWS), None);
        check_bytes::<BackupRequest>(&one(2 * BACKUP_PAGE_ROWS + 1), Some("parts"));
        let decoded = BackupRequest::decode(one(3).as_slice()).expect("a message");
        let Some(backup_request::Payload::Wants(wants)) = decoded.payload else {
            panic!("no wants")
        };
        assert_eq!(wants.parts, [1; 3]);
    }

    #[test]
    fn what_is_no_message_is_left_to_its_decoder() {
        for bytes in
            [&b"\x1a"[..], b"\x1a\x05a", b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x00"]
        {
            check_bytes::<CopyRequest>(bytes, None);
            CopyRequest::decode(bytes).expect_err("no message");
        }
    }

    /// A message whose decoding blocks until another task runs.
    #[derive(Debug, Default)]
    struct Waits(bool);

    impl Name for Waits {
        const NAME: &'static str = "Waits";
        const PACKAGE: &'static str = "";
    }

    impl Message for Waits {
        fn encode_raw(&self, _: &mut impl BufMut) {}

        fn merge_field(
            &mut self,
            tag: u32,
            wire: WireType,
            buf: &mut impl Buf,
            context: DecodeContext,
        ) -> Result<(), DecodeError> {
            let (other, done) = mpsc::channel();
            drop(tokio::spawn(async move { other.send(()).ok() }));
            // The timeout only ends a failing test.
            self.0 = done.recv_timeout(Duration::from_mins(1)).is_ok();
            skip_field(wire, tag, buf, context)
        }

        fn encoded_len(&self) -> usize {
            0
        }

        fn clear(&mut self) {}
    }

    #[test]
    fn a_long_message_is_decoded_while_others_go_on() {
        let field = DownloadResponse { data: vec![7; IN_PLACE_BYTES_MIN].into(), entry: None };
        let message = field.encode_to_vec();
        let length = u32::try_from(message.len()).expect("small").to_be_bytes();
        let body = Full::<Bytes>::from([&[0][..], &length, &message].concat());
        let decoder = Decoder::<Waits>(ProstDecoder::default());
        let mut messages = Streaming::new_request(decoder, body, None, None);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).build().expect("a runtime");
        let call = async move { messages.message().await.expect("no error").expect("a message") };
        let Waits(went_on) =
            runtime.block_on(async { tokio::spawn(call).await.expect("no panic") });
        assert!(went_on);
    }
}
