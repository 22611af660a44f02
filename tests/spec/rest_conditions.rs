//! Conditional reads of `$/Content`, and files that are replaced while they are read.

use imagestore::{
    error::Kind,
    rest::{self, Config},
    web,
    wire::backend::remote,
};
use tokio::{net::TcpListener, sync::watch};
use tower::{Service, ServiceExt, service_fn};

use crate::harness::{Answer, Driver, Http, Server, fill};

const TARGET: &str = "/ImageStore/f/$/Content";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

async fn get(http: Http, lines: &[(&str, &str)]) -> Answer {
    let request = http.request("GET", TARGET);
    let request = lines.iter().fold(request, |request, (name, value)| request.header(name, value));
    request.send().await
}

#[tokio::test]
async fn dates_and_tags_of_all_lines_are_compared() {
    let server = Server::start().await;
    fill(&server.rest(), "f=0123456789").await;
    let first = server.http().get(TARGET).await;
    let (tag, date) = (first.header("etag").expect("a tag"), first.header("last-modified"));
    let (date, weak) = (date.expect("a date"), format!("W/{tag}"));
    let dotted = "Sunday, 06-Nov-94 08:49:37 GMT";
    for (lines, status) in [
        (&[("If-Modified-Since", date)][..], 304),
        (&[("If-Modified-Since", AFTER)], 304),
        (&[("If-Modified-Since", BEFORE)], 200),
        (&[("If-Modified-Since", dotted)], 200),
        (&[("If-Modified-Since", "yesterday")], 200),
        (&[("If-Unmodified-Since", date)], 200),
        (&[("If-Unmodified-Since", BEFORE)], 412),
        (&[("If-Unmodified-Since", "yesterday")], 200),
        (&[("If-None-Match", "\"x\""), ("If-None-Match", tag)], 304),
        (&[("If-None-Match", &weak)], 304),
        (&[("If-None-Match", "\"a,b c\"")], 200),
        (&[("Range", "bytes=0-1"), ("If-Range", "\"a b\"")], 200),
        (&[("If-Match", "\"x\""), ("If-Match", tag)], 200),
        (&[("If-Match", "\"x\""), ("If-Match", "\"y\"")], 412),
        // If-Match compares strongly, so a weak tag does not match.
        (&[("If-Match", &weak)], 412),
        // A date is ignored if there are entity tags.
        (&[("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)], 200),
        (&[("If-Match", tag), ("If-Unmodified-Since", BEFORE)], 200),
        (&[("If-Match", "\"x\""), ("If-None-Match", tag)], 412),
        (&[("Range", "bytes=0-1"), ("If-Range", date)], 206),
        (&[("Range", "bytes=0-1"), ("If-Range", BEFORE)], 200),
        (&[("Range", "bytes=0-1"), ("If-Range", "x")], 200),
        (&[("Range", "bytes=0-1"), ("If-None-Match", tag)], 304),
        (&[("Range", "bytes=0-1"), ("If-Match", "\"x\"")], 412),
        (&[("Range", "bytes=99-"), ("If-Match", "\"x\"")], 412),
    ] {
        let answer = get(server.http(), lines).await;
        assert_eq!(answer.status, status, "{lines:?}");
        if status == 412 {
            let message = answer.assert_fault(Kind::PreconditionFailed);
            assert!(message.contains("'f'") && message.contains(tag.trim_matches('"')));
        } else {
            assert_eq!(answer.header("etag"), Some(tag));
            assert_eq!(answer.header("last-modified"), Some(date));
        }
    }
}

/// A gateway to a server on which file `f` is replaced before each of the first `times` downloads, always
/// after the gateway has read the metadata of the file.
async fn unsteady(server: &Server, times: usize) -> Http {
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.grpc_address))
        .expect("a URI")
        .connect()
        .await
        .expect("connected");
    let (store, count) = (server.rest(), std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::new(count);
    let backend = service_fn(move |request: http::Request<tonic::body::Body>| {
        let (mut channel, count) = (channel.clone(), std::sync::Arc::clone(&count));
        async move {
            if request.uri().path().ends_with("/Download") {
                let count = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                if count <= times {
                    store.upload("f", format!("content {count}").as_bytes()).await.expect("stored");
                }
            }
            let answer = channel.ready().await?.call(request).await?;
            Ok::<_, tower::BoxError>(answer)
        }
    });
    let (_, ready) = watch::channel(true);
    let (_, grants) = watch::channel(std::sync::Arc::default());
    let config = Config { ready, unready: "no", grants, page: web::router() };
    let router = rest::router(remote(backend), config);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            let service = hyper_util::service::TowerToHyperService::new(router.clone());
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
        }
    });
    Http::new(address)
}

#[tokio::test]
async fn a_range_of_a_file_that_is_replaced_meanwhile_is_one_of_the_new_file() {
    let server = Server::start().await;
    fill(&server.rest(), "f=first").await;
    let http = unsteady(&server, 1).await;

    let answer = get(http, &[("Range", "bytes=4-")]).await;

    assert_eq!(answer.status, 206, "{answer:?}");
    assert_eq!(answer.body, b"ent 1");
    assert_eq!(answer.header("content-range"), Some("bytes 4-8/9"));
    let tag = server.rest().etag("f").await.expect("a tag");
    assert_eq!(answer.header("etag"), Some(format!("\"{tag}\"").as_str()));
}

#[tokio::test]
async fn a_file_that_is_replaced_while_it_is_read_is_the_new_one() {
    let server = Server::start().await;
    fill(&server.rest(), "f=first").await;
    let http = unsteady(&server, usize::MAX).await;
    let tag = server.rest().etag("f").await.expect("a tag");
    let tag = format!("\"{tag}\"");
    for (at, lines) in [
        &[][..],
        &[("Range", "bytes=0-3")],
        &[("Range", "bytes=0-3"), ("If-Range", &tag)],
        &[("If-None-Match", "\"x\"")],
        &[("If-Modified-Since", BEFORE)],
    ]
    .into_iter()
    .enumerate()
    {
        let answer = get(http, lines).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let bytes = server.rest().download("f").await.expect("the bytes");
        assert_eq!(answer.body, bytes, "{at}");
        assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
        let tag = server.rest().etag("f").await.expect("a tag");
        assert_eq!(answer.header("etag"), Some(format!("\"{tag}\"").as_str()));
    }
    // Only a request for one version, by If-Match, fails because the file has changed.
    let tag = format!("\"{}\"", server.rest().etag("f").await.expect("a tag"));
    get(http, &[("If-Match", &tag)]).await.assert_fault(Kind::PreconditionFailed);
}
