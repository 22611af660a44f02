//! A bucket of a cloud: how it is reached, and the proof at the start that it can be used.
//!
//! Credentials, the region and the endpoint come from the environment and the metadata of the instance, as for the
//! tools of the clouds. An endpoint with `http://` is reached without TLS.

use std::{env, sync::Arc};

use bytes::Bytes;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder, path::Path as Location,
    prefix::PrefixStore,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    MARK,
    location::{Bucket, Cloud},
};
use crate::{
    limits::{BLOB_CONNECT_TIME, BLOB_REQUEST_TIME, BLOB_RETRIES_MAX, BLOB_TIME, ECHO_BYTES_MAX},
    tls,
};

/// Why a bucket cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("--blobs {bucket} {what}: {why}; {advice}")]
pub struct Refused {
    bucket: String,
    what: &'static str,
    /// The code of the answer of the bucket, else the error.
    why: String,
    advice: &'static str,
}

impl Refused {
    fn new(bucket: &Bucket, what: &'static str, error: &object_store::Error) -> Self {
        let text = error.to_string();
        let code = code(&text).unwrap_or(&text);
        let advice = advice(bucket.cloud, code, error);
        Self { bucket: bucket.to_string(), what, why: shorten(code), advice }
    }
}

/// The error code in the answer of a bucket, which is XML. The answer as a whole names keys and hosts, and is long.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// The text in one line, without what is beyond [`ECHO_BYTES_MAX`].
fn shorten(text: &str) -> String {
    let end = text.floor_char_boundary(ECHO_BYTES_MAX.min(text.len()));
    text.get(..end).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of the names of the objects with which a start proves that it may write.
const PROBE: &str = "probe-";

/// Opens a bucket, and proves that its objects can be put, read, listed and deleted.
///
/// # Errors
/// What is refused.
pub(super) async fn open(bucket: &Bucket) -> Result<Arc<dyn ObjectStore>, Refused> {
    let refused = |(what, error)| Refused::new(bucket, what, &error);
    let store = client(bucket).map_err(|error| refused(("has no usable settings", error)))?;
    let stalled = |_| {
        let source = format!("no answer within {} s", BLOB_TIME.as_secs()).into();
        ("does not answer", object_store::Error::Generic { store: "bucket", source })
    };
    let proof = timeout(BLOB_TIME, prove(&*store)).await.unwrap_or_else(|late| Err(stalled(late)));
    proof.map_err(refused)?;
    Ok(store)
}

/// Makes the client of a bucket. Sends nothing.
///
/// # Errors
/// A setting in the environment that cannot be used.
fn client(bucket: &Bucket) -> object_store::Result<Arc<dyn ObjectStore>> {
    tls::install_provider();
    let retries = RetryConfig {
        max_retries: BLOB_RETRIES_MAX,
        retry_timeout: BLOB_TIME,
        ..RetryConfig::default()
    };
    let name = &bucket.name;
    let options = |is_plain| {
        ClientOptions::new()
            .with_timeout(BLOB_REQUEST_TIME)
            .with_connect_timeout(BLOB_CONNECT_TIME)
            .with_allow_http(is_plain)
    };
    let is_plain = |variables: &[&str]| {
        let is_http = |value: String| value.starts_with("http://");
        variables.iter().any(|name| variable(name).is_some_and(is_http))
    };
    let store: Arc<dyn ObjectStore> = match bucket.cloud {
        Cloud::S3 => {
            let is_plain = is_plain(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
            let made = AmazonS3Builder::from_env().with_client_options(options(is_plain));
            Arc::new(made.with_retry(retries).with_bucket_name(name).build()?)
        }
        Cloud::Azure => {
            let mut made = MicrosoftAzureBuilder::from_env();
            // The names of Azure's own tools.
            if let Some(account) = variable("AZURE_STORAGE_ACCOUNT") {
                made = made.with_account(account);
            }
            if let Some(key) = variable("AZURE_STORAGE_KEY") {
                made = made.with_access_key(key);
            }
            let is_plain = is_plain(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]);
            let made = made.with_client_options(options(is_plain)).with_retry(retries);
            Arc::new(made.with_container_name(name).build()?)
        }
        Cloud::Google => {
            let made = GoogleCloudStorageBuilder::from_env().with_client_options(options(false));
            Arc::new(made.with_retry(retries).with_bucket_name(name).build()?)
        }
    };
    if bucket.prefix.is_empty() {
        return Ok(store);
    }
    Ok(Arc::new(PrefixStore::new(store, bucket.prefix.as_str())))
}

/// A variable of the environment, as the builders of `object_store` read theirs.
#[expect(clippy::disallowed_methods, reason = "the settings of the clouds are not the server's")]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// The ids of the stores that have marked a bucket.
pub(super) async fn owners(store: &dyn ObjectStore) -> object_store::Result<Vec<i64>> {
    // Keys are below 256 prefixes, which the listing names once each.
    let found = store.list_with_delimiter(None).await?;
    let names = found.objects.iter().filter_map(|object| object.location.filename());
    let ids = names.filter_map(|name| name.strip_prefix(MARK));
    Ok(ids.filter_map(|id| i64::from_str_radix(id, 16).ok()).collect())
}

/// Marks a bucket as that of a store. Returns the id of another store that has marked it meanwhile; then the mark is
/// removed again. Of two at once, at least one sees the other.
pub(super) async fn mark(store: &dyn ObjectStore, owner: i64) -> object_store::Result<Option<i64>> {
    let mark = Location::from(format!("{MARK}{owner:016x}"));
    store.put(&mark, Bytes::new().into()).await?;
    let other = owners(store).await?.into_iter().find(|id| *id != owner);
    if other.is_some() {
        store.delete(&mark).await?;
    }
    Ok(other)
}

/// Proves that objects can be put, read, listed and deleted.
///
/// # Errors
/// What is refused, to follow the name of the bucket, and the error of the store.
async fn prove(store: &dyn ObjectStore) -> Result<(), (&'static str, object_store::Error)> {
    let probe = Location::from(format!("{PROBE}{}", Uuid::new_v4().simple()));
    let bytes = Bytes::from_static(b"a start of the image store");
    owners(store).await.map_err(|error| ("cannot be listed", error))?;
    let put = store.put(&probe, bytes.clone().into()).await;
    put.map_err(|error| ("cannot be written", error))?;
    let read = async { store.get(&probe).await?.bytes().await };
    let read = read.await.map_err(|error| ("cannot be read", error));
    let deleted = store.delete(&probe).await;
    let is_same = read? == bytes;
    deleted.map_err(|error| ("does not let objects be deleted", error))?;
    if is_same {
        return Ok(());
    }
    let source = "a probe came back with other bytes".into();
    Err(("cannot be read", object_store::Error::Generic { store: "bucket", source }))
}

/// What is to be done about an error of a bucket, as far as it says.
fn advice(cloud: Cloud, code: &str, error: &object_store::Error) -> &'static str {
    let is_refused = matches!(
        error,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }
    );
    match code {
        "RequestTimeTooSkewed" => {
            "the clock of this machine differs from that of the bucket; set the clock"
        }
        "NoSuchBucket" | "ContainerNotFound" => "create the bucket, or correct its name",
        "AccessDenied"
        | "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "AuthenticationFailed"
        | "AuthorizationFailure"
        | "AuthorizationPermissionMismatch" => credentials(cloud),
        _ if is_refused => credentials(cloud),
        _ => "look at the endpoint and the network",
    }
}

/// The credentials that are looked for.
fn credentials(cloud: Cloud) -> &'static str {
    match cloud {
        Cloud::S3 => {
            "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of this instance, that may"
        }
        Cloud::Azure => {
            "give AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY, or an identity of this instance, that may"
        }
        Cloud::Google => {
            "give GOOGLE_APPLICATION_CREDENTIALS, or a service account of this instance, that may"
        }
    }
}
