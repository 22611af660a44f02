//! A panic ends the call in which it happens, and no other.

use futures::stream;
use http_body_util::BodyExt;
use tonic_types::StatusExt;

use super::*;

/// A body that returns these bytes, and panics when it is notified.
fn panics_after(bytes: &'static [u8], told: Arc<Notify>) -> Body {
    let first = tokio_stream::once(Ok::<_, Infallible>(Bytes::from_static(bytes)));
    Body::from_stream(first.chain(stream::once(async move {
        told.notified().await;
        panic!("a body of a test")
    })))
}

/// A router whose response bodies panic when they are notified, at `/panic` and in a gRPC call with the header
/// `panics`; all other response bodies never end.
fn bodies(begun: &'static [u8], told: &Arc<Notify>) -> Router {
    let (told, also_told) = (Arc::clone(told), Arc::clone(told));
    let lasts = async move || {
        let first = tokio_stream::once(Ok::<_, Infallible>(Bytes::from_static(begun)));
        let body = Body::from_stream(first.chain(tokio_stream::pending()));
        ([("content-type", "application/grpc")], body)
    };
    Router::new()
        .route("/panic", routing::get(async move || panics_after(begun, told)))
        .route(
            "/grpc.health.v1.Health/Watch",
            routing::post(async move |request: Request| {
                if request.headers().contains_key("panics") {
                    ([("content-type", "application/grpc")], panics_after(begun, also_told))
                        .into_response()
                } else {
                    lasts().await.into_response()
                }
            }),
        )
        .fallback(lasts)
}

#[tokio::test]
async fn an_answer_of_http1_breaks_off() {
    let told = Arc::new(Notify::new());
    let fixture = Fixture::new(bodies(b"begun", &told), Bounds::default()).await;
    let mut other = fixture.connect().await;
    send(&mut other, GET).await;
    read_until(&mut other, "begun\r\n").await;
    let mut stream = fixture.connect().await;
    send(&mut stream, "GET /panic HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let answer = read_until(&mut stream, "begun\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    told.notify_one();
    assert_eq!(read_to_end(&mut stream).await, "", "the end of the body is missing");
    let mut byte = [0];
    assert!(other.try_read(&mut byte).is_err(), "the other answer goes on");
    fixture.stop.cancel();
}

#[tokio::test]
async fn an_answer_of_http2_is_reset_and_others_on_its_connection_go_on() {
    let told = Arc::new(Notify::new());
    let fixture = Fixture::new(bodies(b"begun", &told), Bounds::default()).await;
    let (mut client, connection) = fixture.http2().await;
    let mut begin = async |path: &str| {
        let request = http::Request::get(format!("http://h{path}")).body(Body::empty());
        let mut answer = client.send_request(request.expect("a request")).await.expect("a head");
        let frame = answer.frame().await.expect("a frame").expect("a piece");
        assert_eq!(frame.into_data().expect("data"), "begun");
        answer
    };
    let mut other = begin("/").await;
    let mut broken = begin("/panic").await;
    told.notify_one();
    broken.frame().await.expect("a frame").expect_err("it is reset");
    assert!(other.frame().now_or_never().is_none(), "the other answer goes on");
    begin("/").await;
    assert!(!connection.is_finished());
    fixture.stop.cancel();
}

#[tokio::test]
async fn a_call_of_grpc_ends_with_a_status_that_names_its_request() {
    // The body begins with a health message with the status SERVING.
    let told = Arc::new(Notify::new());
    let grpc = bodies(&[0, 0, 0, 0, 2, 8, 1], &told);
    let fixture = Fixture::with_grpc(grpc, hello()).await;
    let mut client = health(fixture.address).await;
    let mut other = client.watch(HealthCheckRequest::default()).await.expect("begun").into_inner();
    other.message().await.expect("a message").expect("a first one");
    let mut request = tonic::Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("panics", "1".parse().expect("a value"));
    request.metadata_mut().insert("x-request-id", "mine".parse().expect("a value"));
    let mut broken = client.watch(request).await.expect("begun").into_inner();
    broken.message().await.expect("a message").expect("a first one");
    told.notify_one();
    let status = broken.message().await.expect_err("a panic");
    assert_eq!(status.code(), Code::Internal);
    assert_eq!(status.message(), "the server failed; its log says why");
    assert_eq!(status.get_details_request_info().expect("the request").request_id, "mine");
    assert!(other.message().now_or_never().is_none(), "the other call goes on");
    client.watch(HealthCheckRequest::default()).await.expect("the connection is well");
    fixture.stop.cancel();
}
