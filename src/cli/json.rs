//! Messages as JSON, for `--json`.
//!
//! Field names and enum values are those of the proto; 64-bit integers are JSON numbers, times are RFC 3339 in UTC,
//! and an absent field is null.

use std::{borrow::Cow, ops::RangeInclusive, sync::LazyLock};

use prost::{Message, Name};
use prost_reflect::{
    DescriptorError, DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage,
    SerializeOptions, Value as Dynamic,
};
use serde::{Serialize, Serializer, ser::Error};
use serde_json::{Value, json};

use crate::{
    client::{
        backup::{BackupSummary, RestoreSummary},
        transfer::TransferredFile,
    },
    model::{Formats, Moved},
    wire::{
        DESCRIPTOR,
        v1::{DeleteResponse, Entry, Operation, Token},
    },
};

/// The descriptor of the API.
static API: LazyLock<Result<DescriptorPool, DescriptorError>> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTOR));

/// The full name of the message of a time.
const TIMESTAMP: &str = "google.protobuf.Timestamp";
/// The seconds since 1970 that RFC 3339 can express: from the year 1 to the end of the year 9999.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const OPTIONS: SerializeOptions = SerializeOptions::new()
    .stringify_64_bit_integers(false)
    .use_proto_field_name(true)
    .skip_default_fields(false);

/// A message of the API as JSON, by its descriptor.
#[derive(Debug)]
pub(super) struct Json<'a, M>(pub(super) &'a M);

impl<M: Message + Name> Serialize for Json<'_, M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        value(self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// A message as a JSON value.
///
/// # Errors
/// A message type that the descriptor does not have, and a descriptor that cannot be decoded.
fn value<M: Message + Name>(message: &M) -> serde_json::Result<Value> {
    let api = API.as_ref().map_err(serde_json::Error::custom)?;
    let name = M::full_name();
    let descriptor = api.get_message_by_name(&name);
    let descriptor = descriptor.ok_or_else(|| serde_json::Error::custom(name))?;
    let bytes = message.encode_to_vec();
    let message = DynamicMessage::decode(descriptor.clone(), bytes.as_slice());
    let mut message = message.map_err(serde_json::Error::custom)?;
    remove_unknown(&mut message);
    let mut value = message.serialize_with_options(serde_json::value::Serializer, &OPTIONS)?;
    add_absent(&mut value, &descriptor);
    Ok(value)
}

/// Removes values that have no JSON form: a time outside [`TIMESTAMP_SECONDS`] becomes null, and an enum number that
/// this program does not know becomes the unspecified value.
fn remove_unknown(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    for field in descriptor.fields().filter(|field| message.has_field(field)).collect::<Vec<_>>() {
        let value = message.get_field_mut(&field);
        let is_known = if let Some(items) = value.as_list_mut() {
            items.iter_mut().filter_map(Dynamic::as_message_mut).for_each(remove_unknown);
            true
        } else if let Some(below) = value.as_message_mut() {
            remove_unknown(below);
            below.descriptor().full_name() != TIMESTAMP || is_time(below)
        } else if let (Some(number), Kind::Enum(names)) = (value.as_enum_number(), field.kind()) {
            names.get_value(number).is_some()
        } else {
            true
        };
        if !is_known {
            message.clear_field(&field);
        }
    }
}

/// Whether a time has a JSON form.
fn is_time(time: &DynamicMessage) -> bool {
    let seconds = time.get_field_by_name("seconds").and_then(|value| value.as_i64());
    let nanos = time.get_field_by_name("nanos").and_then(|value| value.as_i32());
    seconds.is_none_or(|seconds| TIMESTAMP_SECONDS.contains(&seconds))
        && nanos.is_none_or(|nanos| (0..1_000_000_000).contains(&nanos))
}

/// Adds null for each absent field, in the message and in the messages in it.
fn add_absent(value: &mut Value, descriptor: &MessageDescriptor) {
    // A value that is not an object is a message with a JSON form of its own: a time is a string.
    let Value::Object(fields) = value else { return };
    for field in descriptor.fields() {
        let value = fields.entry(field.name()).or_insert(Value::Null);
        let Kind::Message(below) = field.kind() else { continue };
        if let Some(items) = value.as_array_mut() {
            for item in items {
                add_absent(item, &below);
            }
        } else {
            add_absent(value, &below);
        }
    }
}

/// An operation as JSON. Its error has a code and a message, but no details, whose types depend on the server.
#[derive(Debug)]
pub(super) struct OperationJson<'a>(pub(super) &'a Operation);

impl Serialize for OperationJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut operation = self.0.clone();
        if let Some(error) = &mut operation.error {
            error.details.clear();
        }
        let mut value = value(&operation).map_err(S::Error::custom)?;
        if let Some(error) = value.get_mut("error").and_then(Value::as_object_mut) {
            error.remove("details");
        }
        value.serialize(serializer)
    }
}

/// A transferred file as JSON: the fields of the entry, the local file as `local`, and `files_replaced`.
#[derive(Debug, Serialize)]
pub(super) struct MovedFile<'a> {
    #[serde(flatten)]
    entry: Json<'a, Entry>,
    local: Option<Cow<'a, str>>,
    files_replaced: Option<u64>,
}

/// A transferred file as JSON.
pub(super) fn moved(moved: &TransferredFile) -> MovedFile<'_> {
    MovedFile {
        entry: Json(&moved.entry),
        local: moved.local.as_ref().map(|local| local.to_string_lossy()),
        files_replaced: moved.files_replaced,
    }
}

/// A deletion as JSON: the path, and the fields of the response.
#[derive(Debug, Serialize)]
pub(super) struct Deleted<'a> {
    pub(super) path: &'a str,
    #[serde(flatten)]
    pub(super) answer: Json<'a, DeleteResponse>,
}

/// A token and its secret as JSON: the fields of the token, and `secret`.
#[derive(Serialize)]
pub(super) struct TokenWithSecret<'a> {
    #[serde(flatten)]
    pub(super) token: Json<'a, Token>,
    pub(super) secret: &'a str,
}

/// A link as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedLink<'a> {
    /// The whole address.
    pub(super) link: &'a str,
    /// Its end.
    pub(super) expires_at: &'a str,
}

/// A finished backup as JSON.
pub(super) fn backed(backed: &BackupSummary) -> Value {
    json!({
        "path": backed.path.to_string_lossy(),
        "snapshot": backed.snapshot,
        "file_count": backed.file_count,
        "size_bytes": backed.size_bytes,
        "parts": backed.parts,
        "part_bytes": backed.part_bytes,
        "new_parts": backed.new_parts,
        "new_bytes": backed.new_bytes,
    })
}

/// A finished migration as JSON.
pub(super) fn migrated(moved: &Moved) -> Value {
    json!({
        "passes": moved.passes,
        "file_count": moved.totals.files,
        "size_bytes": moved.totals.bytes,
        "new_parts": moved.parts,
        "new_bytes": moved.bytes,
        "new_folders": moved.folders,
        "tokens": moved.tokens,
    })
}

/// A finished upgrade as JSON.
pub(super) fn upgraded(formats: Formats) -> Value {
    json!({ "format_before": formats.before, "format": formats.after })
}

/// A finished restore as JSON.
pub(super) fn restored(restored: &RestoreSummary) -> Value {
    json!({
        "path": restored.path.to_string_lossy(),
        "file_count": restored.file_count,
        "size_bytes": restored.size_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v1::{
        CheckResponse, EntryKind, Finding, GetCallerResponse, GetStoreInfoResponse, Grant,
        OperationKind, OperationState, Role, StatResponse, Usage,
    };

    fn shown(value: impl Serialize) -> Value {
        serde_json::to_value(value).expect("JSON")
    }

    /// The names of the fields of a message, from the descriptor that reflection serves.
    fn fields(message: &str) -> Vec<String> {
        let set = prost_types::FileDescriptorSet::decode(DESCRIPTOR).expect("a set");
        let file = set.file.iter().find(|file| file.package() == "imagestore.v1").expect("ours");
        let message = file.message_type.iter().find(|found| found.name() == message).expect("it");
        let mut names: Vec<_> = message.field.iter().map(|field| field.name().to_owned()).collect();
        names.sort();
        names
    }

    fn keys(value: impl Serialize) -> Vec<String> {
        let mut keys: Vec<_> =
            shown(value).as_object().expect("an object").keys().cloned().collect();
        keys.sort();
        keys
    }

    #[test]
    fn every_field_of_a_message_is_there_under_its_name() {
        assert_eq!(keys(Json(&Entry::default())), fields("Entry"));
        assert_eq!(keys(Json(&StatResponse::default())), fields("StatResponse"));
        assert_eq!(keys(OperationJson(&Operation::default())), fields("Operation"));
        assert_eq!(keys(Json(&GetStoreInfoResponse::default())), fields("GetStoreInfoResponse"));
        assert_eq!(keys(Json(&CheckResponse::default())), fields("CheckResponse"));
        assert_eq!(keys(Json(&Finding::default())), fields("Finding"));
        let mut of_delete = fields("DeleteResponse");
        of_delete.push("path".to_owned());
        let answer = DeleteResponse::default();
        assert_eq!(keys(Deleted { path: "a", answer: Json(&answer) }), of_delete);
        let usage = || Some(Usage { used_bytes: 1, file_count: 2 });
        let info = GetStoreInfoResponse { logical: usage(), ..GetStoreInfoResponse::default() };
        let info = shown(Json(&info));
        assert_eq!(info["logical"], json!({ "used_bytes": 1, "file_count": 2 }));
        assert_eq!((&info["unique"], &info["folder_count"]), (&Value::Null, &0.into()));
        let report =
            CheckResponse { findings: vec![Finding::default()], ..CheckResponse::default() };
        let finding = json!({
            "kind": "FINDING_KIND_UNSPECIFIED",
            "message": "",
            "paths": [],
            "more_paths": false,
            "repaired": false,
        });
        assert_eq!(shown(Json(&report))["findings"], json!([finding]));
        let stat = StatResponse { entry: Some(Entry::default()), ..StatResponse::default() };
        assert_eq!(shown(Json(&stat))["entry"]["version"], Value::Null);
        let answer = DeleteResponse { files_deleted: 1, bytes_deleted: 2 };
        let deleted = shown(Deleted { path: "a", answer: Json(&answer) });
        assert_eq!(deleted, json!({ "path": "a", "files_deleted": 1, "bytes_deleted": 2 }));
    }

    #[test]
    fn what_has_no_form_is_absent() {
        let time = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let operation = Operation {
            kind: 77,
            started_at: time(i64::MAX, 0),
            updated_at: time(0, -1),
            finished_at: time(253_402_300_799, 120_000_000),
            ..Operation::default()
        };
        let value = shown(OperationJson(&operation));
        assert_eq!(value["kind"], "OPERATION_KIND_UNSPECIFIED");
        assert_eq!((&value["started_at"], &value["updated_at"]), (&Value::Null, &Value::Null));
        assert_eq!(value["finished_at"], "9999-12-31T23:59:59.120Z");
        let report = CheckResponse {
            findings: vec![Finding { kind: 77, ..Finding::default() }],
            ..CheckResponse::default()
        };
        assert_eq!(shown(Json(&report))["findings"][0]["kind"], "FINDING_KIND_UNSPECIFIED");
    }

    #[test]
    fn an_operation_keeps_its_values() {
        let value = shown(OperationJson(&Operation {
            id: "id".to_owned(),
            kind: OperationKind::Copy.into(),
            state: OperationState::Failed.into(),
            bytes_total: 1 << 53,
            started_at: Some(prost_types::Timestamp { seconds: 0, nanos: 1_000 }),
            error: Some(tonic_types::Status {
                code: 5,
                message: "gone".to_owned(),
                details: vec![prost_types::Any::default()],
            }),
            ..Operation::default()
        }));
        assert_eq!(value["kind"], "OPERATION_KIND_COPY");
        assert_eq!(value["state"], "OPERATION_STATE_FAILED");
        assert_eq!(value["bytes_total"], 9_007_199_254_740_992_u64);
        assert_eq!(value["started_at"], "1970-01-01T00:00:00.000001Z");
        assert_eq!(value["finished_at"], Value::Null);
        assert_eq!(value["error"], json!({ "code": 5, "message": "gone" }));
    }

    #[test]
    fn a_token_has_its_secret_among_its_fields() {
        let grants = vec![Grant { role: Role::Reader.into(), path: "/".to_owned() }];
        let token = Token { name: "ci".to_owned(), grants, ..Token::default() };
        assert_eq!(keys(Json(&token)), fields("Token"));
        let with_secret = TokenWithSecret { token: Json(&token), secret: "imagestore_1" };
        let value = shown(&with_secret);
        assert_eq!((&value["name"], &value["secret"]), (&"ci".into(), &"imagestore_1".into()));
        assert_eq!(value["grants"], json!([{ "role": "ROLE_READER", "path": "/" }]));
        assert_eq!(value["expires_at"], Value::Null);
        let mut all = fields("Token");
        all.push("secret".to_owned());
        all.sort();
        assert_eq!(keys(&with_secret), all);
        let caller = GetCallerResponse::default();
        assert_eq!(keys(Json(&caller)), fields("GetCallerResponse"));
        assert_eq!(shown(Json(&caller))["may"], Value::Null);
    }

    #[test]
    fn a_moved_file_names_both_places() {
        let entry = Entry {
            path: "a/b".to_owned(),
            kind: EntryKind::File.into(),
            size_bytes: 3,
            ..Entry::default()
        };
        let moved = TransferredFile { entry, local: Some("/x/b".into()), files_replaced: Some(3) };
        let value = shown(super::moved(&moved));
        assert_eq!(value["path"], "a/b");
        assert_eq!(value["local"], "/x/b");
        assert_eq!(value["files_replaced"], 3);
        assert_eq!(value["size_bytes"], 3);
    }
}
