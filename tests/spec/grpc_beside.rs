//! The services beside the image store's: health, and reflection.

use futures::{FutureExt, stream};
use imagestore::server::SERVICE;
use prost::Message;
use tonic::{Code, transport::Channel};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, health_check_response::ServingStatus as Status,
        health_client::HealthClient,
    },
};

use tonic_types::StatusExt;

use crate::harness::Server;

async fn channel(server: &Server) -> Channel {
    let channel = Channel::from_shared(format!("http://{}", server.grpc_address));
    channel.expect("a URI").connect().await.expect("connected")
}

#[tokio::test]
async fn the_health_of_an_unknown_service_is_told_and_watched() {
    let server = Server::start().await;
    let mut client = HealthClient::new(channel(&server).await);
    let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let unknown = client.check(ask("no.Service")).await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let named = unknown.get_details_request_info().expect("a request").request_id;
    assert_eq!(unknown.metadata().get("x-request-id").expect("an id"), named.as_str());
    assert!(unknown.message().contains("'no.Service'"), "{unknown}");

    let mut known = client.watch(ask(SERVICE)).await.expect("watched").into_inner();
    let mut unknown = client.watch(ask("no.Service")).await.expect("watched").into_inner();
    let first = known.message().await.expect("a state").expect("a first one");
    assert_eq!(first.status, ServingStatus::Serving as i32);
    let first = unknown.message().await.expect("a state").expect("a first one");
    assert_eq!(first.status, Status::ServiceUnknown as i32);
    client.check(ask("")).await.expect("healthy");
    assert!(unknown.message().now_or_never().is_none(), "the watch goes on");

    let _server = server.restart().await;
    let last = known.message().await.expect("a state").expect("a last one");
    assert_eq!(last.status, ServingStatus::NotServing as i32);
    for mut watch in [known, unknown] {
        assert!(watch.message().await.expect("an end").is_none());
    }
}

/// Requests several symbols in one call of a version of reflection. Each answer is a file, or the code of an
/// error.
macro_rules! answers {
    ($version:ident, $server:expr, $symbols:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let questions = $symbols.map(|symbol| ServerReflectionRequest {
            message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
            host: "h".to_owned(),
        });
        let mut client = ServerReflectionClient::new(channel($server).await);
        let answers = client.server_reflection_info(stream::iter(questions.clone())).await;
        let mut answers = answers.expect("answers").into_inner();
        let mut told = Vec::new();
        for question in questions {
            let answer = answers.message().await.expect("an answer").expect("one");
            assert_eq!(
                (answer.valid_host.as_str(), answer.original_request),
                ("h", Some(question))
            );
            told.push(match answer.message_response.expect("a response") {
                MessageResponse::FileDescriptorResponse(files) => {
                    let file = files.file_descriptor_proto[0].as_slice();
                    let file = prost_types::FileDescriptorProto::decode(file).expect("a file");
                    Ok(file.name().to_owned())
                }
                MessageResponse::ErrorResponse(error) => {
                    Err((error.error_code, error.error_message))
                }
                other => panic!("a file was asked for: {other:?}"),
            });
        }
        assert!(answers.message().await.expect("an end").is_none());
        told
    }};
}

#[tokio::test]
async fn a_name_that_reflection_does_not_know_does_not_end_the_call() {
    let server = Server::start().await;
    let symbols = ["no.Such", "google.rpc.ErrorInfo", "imagestore.v1.Nothing", SERVICE];
    for told in [answers!(v1, &server, symbols), answers!(v1alpha, &server, symbols)] {
        let unknown = |name| Err((Code::NotFound as i32, format!("symbol '{name}' not found")));
        let file = |name: &str| Ok(name.to_owned());
        let expected = [
            unknown("no.Such"),
            file("google/rpc/error_details.proto"),
            unknown("imagestore.v1.Nothing"),
            file("imagestore/v1/image_store.proto"),
        ];
        assert_eq!(told, expected);
    }
}
