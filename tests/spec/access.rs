//! Who may call what: each rpc and each REST route, by callers with and without rights. `access.txt` has the expected
//! outcomes; a new rpc fails the test until it has its row.

use std::fmt::Write as _;

use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;
use imagestore::{
    server::SERVICE,
    wire::{
        DESCRIPTOR,
        rpc::rpcs,
        v1::{self, Role},
    },
};
use prost::Message;
use tonic::{Code, Status, body::Body};

use crate::{
    credentials::{create, with},
    harness::{Client, Server, chunk, copy, upload},
    rest_routes::{documented, extensions},
};

const EXPECTED: &str = include_str!("access.txt");
const SESSION: &str = "d7d3d8c8-4d2a-4b8e-9c06-0e2f8f0f8b11";
const OPERATION: &str = "0190a9f0-1234-7abc-8def-0123456789ab";
/// The callers, beside who sends no credential and who sends an unknown one: a role at a path.
const CALLERS: [(&str, Role, &str); 7] = [
    ("monitor", Role::Monitor, "/"),
    ("reader", Role::Reader, "a"),
    ("writer", Role::Writer, "a"),
    ("reader-all", Role::Reader, "/"),
    ("writer-other", Role::Writer, "other"),
    ("admin-other", Role::Admin, "other"),
    ("admin", Role::Admin, "/"),
];

/// A server that requires a right, and the tokens of all callers by name.
async fn start() -> (Server, Vec<(&'static str, Option<String>)>) {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut tokens = vec![("none", None), ("unknown", Some("no.such.token".to_owned()))];
    for (name, role, path) in CALLERS {
        tokens.push((name, Some(create(&mut client, name, role, &[path]).await)));
    }
    (server.restart_with_access(None).await, tokens)
}

/// Puts into the store what the calls are about: a file, an upload session, an operation, a token.
async fn prepare(client: &mut Client, admin: &str) {
    client.upload(with(admin, stream::iter(upload("a/f", b"1")))).await.expect("a file");
    let delete = v1::DeleteUploadSessionRequest { session_id: SESSION.to_owned() };
    client.delete_upload_session(with(admin, delete)).await.ok();
    let header = v1::UploadChunkHeader {
        session_id: SESSION.to_owned(),
        path: "a/g".to_owned(),
        length: 3,
        total_bytes: 3,
        ..Default::default()
    };
    let chunk = stream::iter(chunk(header, b"123"));
    client.upload_chunk(with(admin, chunk)).await.expect("a chunk");
    let request =
        v1::CopyRequest { operation_id: OPERATION.to_owned(), ..(&copy("a/f", "a/h")).into() };
    let mut copying = client.copy(with(admin, request)).await.expect("a copy").into_inner();
    while copying.message().await.expect("copied").is_some() {}
    let grants = vec![v1::Grant { role: Role::Reader.into(), path: "a".to_owned() }];
    let token = v1::CreateTokenRequest { name: "t".to_owned(), grants, ..Default::default() };
    client.create_token(with(admin, token)).await.ok();
}

/// The messages of a call of an rpc.
fn sample(rpc: &str) -> Vec<Vec<u8>> {
    let path = || "a/f".to_owned();
    let id = || OPERATION.to_owned();
    let session_id = || SESSION.to_owned();
    let one = |message: &dyn Encode| vec![message.encoded()];
    let grants = vec![v1::Grant { role: Role::Reader.into(), path: "a".to_owned() }];
    match rpc {
        "Copy" => one(&v1::CopyRequest::from(&copy("a/f", "a/x"))),
        "WatchOperation" => one(&v1::WatchOperationRequest { id: id() }),
        "WatchOperations" => one(&v1::WatchOperationsRequest::default()),
        "ListOperations" => one(&v1::ListOperationsRequest::default()),
        "GetOperation" => one(&v1::GetOperationRequest { id: id() }),
        "CancelOperation" => one(&v1::CancelOperationRequest { id: id() }),
        "List" => one(&v1::ListRequest { path: "a".to_owned(), ..Default::default() }),
        "Stat" => one(&v1::StatRequest { path: path() }),
        "Upload" => upload("a/f", b"1").iter().map(Message::encode_to_vec).collect(),
        "Download" => one(&v1::DownloadRequest { path: path(), ..Default::default() }),
        "DownloadPackage" => {
            one(&v1::DownloadPackageRequest { path: "a".to_owned(), ..Default::default() })
        }
        "Delete" => one(&v1::DeleteRequest { path: path(), ..Default::default() }),
        "UploadChunk" => {
            let header = v1::UploadChunkHeader {
                session_id: session_id(),
                path: "a/g".to_owned(),
                length: 3,
                total_bytes: 3,
                ..Default::default()
            };
            chunk(header, b"123").iter().map(Message::encode_to_vec).collect()
        }
        "GetUploadSession" => one(&v1::GetUploadSessionRequest { session_id: session_id() }),
        "ListUploadSessions" => one(&v1::ListUploadSessionsRequest::default()),
        "CommitUploadSession" => {
            one(&v1::CommitUploadSessionRequest { session_id: session_id(), ..Default::default() })
        }
        "DeleteUploadSession" => one(&v1::DeleteUploadSessionRequest { session_id: session_id() }),
        "GetStoreInfo" => one(&v1::GetStoreInfoRequest {}),
        "Check" => one(&v1::CheckRequest { deep: false, repair: false }),
        "Check with repair" => one(&v1::CheckRequest { deep: false, repair: true }),
        "Backup" => {
            let start = v1::backup_request::Payload::Start(v1::BackupStart {
                everything: true,
                copy: false,
            });
            one(&v1::BackupRequest { payload: Some(start) })
        }
        "Restore" => Vec::new(),
        "GetCaller" => one(&v1::GetCallerRequest::default()),
        "CreateToken" => {
            one(&v1::CreateTokenRequest { name: "u".to_owned(), grants, ..Default::default() })
        }
        "CreateLink" => one(&v1::CreateLinkRequest {
            path: path(),
            target: v1::LinkTarget::Content.into(),
            ..Default::default()
        }),
        "RotateLinkKey" => one(&v1::RotateLinkKeyRequest {}),
        "ListTokens" => one(&v1::ListTokensRequest::default()),
        "RotateToken" => one(&v1::RotateTokenRequest { name: "t".to_owned(), overlap: None }),
        "RevokeToken" => one(&v1::RevokeTokenRequest { name: "t".to_owned() }),
        other => panic!("the rpc {other} has no message here, and no row in access.txt"),
    }
}

trait Encode {
    fn encoded(&self) -> Vec<u8>;
}

impl<M: Message> Encode for M {
    fn encoded(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

/// The code with which a call of an rpc begins.
async fn call(server: &Server, rpc: &str, token: Option<&str>) -> Code {
    let method = rpc.split(' ').next().expect("a name");
    let frames = sample(rpc).into_iter().flat_map(|message| {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[0], length.as_slice(), &message].concat()
    });
    let body = http_body_util::Full::new(frames.collect::<Bytes>());
    let mut request =
        http::Request::post(format!("http://{}/{SERVICE}/{method}", server.grpc_address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::new(body)).expect("a request");
    let response = server.grpc_http2().await.send_request(request).await.expect("a response");
    let refused = Status::from_header_map(response.headers()).map(|status| status.code());
    let is_stream = rpcs(&[DESCRIPTOR]).expect("descriptors")[&format!("/{SERVICE}/{method}")];
    match refused {
        Some(code) => code,
        // What has begun is allowed; a watch has no end.
        None if is_stream.streams_out => Code::Ok,
        None => {
            let whole = response.into_body().collect().await.expect("a body");
            let trailers = whole.trailers().expect("trailers");
            Status::from_header_map(trailers).expect("a status").code()
        }
    }
}

/// Every rpc in the order of the descriptor, then the calls that need more than their rpc says.
fn every_rpc() -> Vec<String> {
    let mut names: Vec<String> = rpcs(&[DESCRIPTOR])
        .expect("descriptors")
        .into_keys()
        .filter_map(|path| Some(path.strip_prefix(&format!("/{SERVICE}/"))?.to_owned()))
        .collect();
    names.push("Check with repair".to_owned());
    names.sort();
    names
}

#[tokio::test]
async fn each_caller_may_do_what_is_granted_and_nothing_else() {
    let (server, tokens) = start().await;
    let admin = tokens.iter().find(|(name, _)| *name == "admin").expect("an admin").1.clone();
    let admin = admin.expect("a token");
    let mut client = server.client().await;
    let mut table = String::new();
    for rpc in every_rpc() {
        write!(table, "{rpc}:").expect("text");
        for (name, token) in &tokens {
            prepare(&mut client, &admin).await;
            let code = call(&server, &rpc, token.as_deref()).await;
            write!(table, " {name}={code:?}").expect("text");
        }
        table.push('\n');
    }
    for route in documented().iter().chain(&extensions()) {
        write!(table, "{} {}:", route.method, route.target).expect("text");
        for (name, token) in &tokens {
            prepare(&mut client, &admin).await;
            let mut request = route.request(server.http(), "api-version=6.0");
            if let Some(token) = token {
                request = request.header("Authorization", &format!("Bearer {token}"));
            }
            let answer = request.send().await;
            write!(table, " {name}={}", answer.status).expect("text");
        }
        table.push('\n');
    }
    for path in ["/", "/health", "/health/live", "/page/main.js"] {
        write!(table, "GET {path}:").expect("text");
        for (name, token) in &tokens {
            let mut request = server.http().request("GET", path);
            if let Some(token) = token {
                request = request.header("Authorization", &format!("Bearer {token}"));
            }
            write!(table, " {name}={}", request.send().await.status).expect("text");
        }
        table.push('\n');
    }
    assert_eq!(table, EXPECTED, "the table is now:\n{table}");
}
