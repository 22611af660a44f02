//! Which call a request makes.
//!
//! Upstream answers a wrong verb, a wrong letter case and an unknown call alike: 400 (reference,
//! section 1.2). Of the further calls a wrong verb is 405.

use http::Method;

use super::path::Target;
use crate::error::Error;

/// A call on the store. A path is decoded but not checked: that is the backend's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Lists a folder; `None`: the root.
    List(Option<String>),
    /// Stores a file.
    Upload(String),
    /// Deletes a path.
    Delete(String),
    /// Copies.
    Copy,
    /// Stores a chunk of a file.
    UploadChunk(String),
    /// Describes the session that the query names.
    Session,
    /// Lists the sessions of a path.
    Sessions(String),
    /// Forgets the session that the query names.
    DeleteSession,
    /// Commits the session that the query names.
    CommitSession,
    /// The size of a folder; `None`: the root.
    FolderSize(Option<String>),
    /// The space that the store uses.
    Info,
    /// The bytes of a file.
    Content(String),
    /// The operations.
    Operations,
    /// One operation.
    Operation(String),
    /// Cancels an operation.
    CancelOperation(String),
}

impl Route {
    /// Whether the call is one of upstream's, which need an `api-version`.
    pub(super) fn documented(&self) -> bool {
        match self {
            Self::List(_)
            | Self::Upload(_)
            | Self::Delete(_)
            | Self::Copy
            | Self::UploadChunk(_)
            | Self::Session
            | Self::Sessions(_)
            | Self::DeleteSession
            | Self::CommitSession
            | Self::FolderSize(_)
            | Self::Info => true,
            Self::Content(_) | Self::Operations | Self::Operation(_) | Self::CancelOperation(_) => {
                false
            }
        }
    }
}

/// Every verb that a call can have.
pub(super) const VERBS: [Method; 5] =
    [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE];

/// The verbs that a path takes, and whether one of its calls is upstream's.
pub(super) fn allowed(target: &Target) -> (Vec<&'static str>, bool) {
    let found =
        VERBS.iter().filter_map(|verb| Some((name(verb), find(verb, target.clone()).ok()?)));
    let (verbs, routes): (Vec<_>, Vec<_>) = found.unzip();
    (verbs, routes.iter().any(Route::documented))
}

/// The name of a verb; empty where no call has it.
pub(super) fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "",
    }
}

/// Finds the call.
///
/// # Errors
/// `Kind::InvalidArgument` where there is none.
pub(super) fn find(method: &Method, target: Target) -> Result<Route, Error> {
    let call: Vec<&str> = target.call.iter().map(String::as_str).collect();
    let route = match (name(method), target.content, call.as_slice()) {
        ("GET", path, []) => Route::List(path),
        ("PUT", Some(path), []) => Route::Upload(path),
        ("DELETE", Some(path), []) => Route::Delete(path),
        ("POST", None, ["$", "Copy"]) => Route::Copy,
        ("PUT", Some(path), ["$", "UploadChunk"]) => Route::UploadChunk(path),
        ("GET", None, ["$", "GetUploadSession"]) => Route::Session,
        ("GET", Some(path), ["$", "GetUploadSession"]) => Route::Sessions(path),
        ("DELETE", None, ["$", "DeleteUploadSession"]) => Route::DeleteSession,
        ("POST", None, ["$", "CommitUploadSession"]) => Route::CommitSession,
        ("GET", path, ["$", "FolderSize"]) => Route::FolderSize(path),
        ("GET", None, ["$", "Info"]) => Route::Info,
        ("GET" | "HEAD", Some(path), ["$", "Content"]) => Route::Content(path),
        ("GET", None, ["$", "Operations"]) => Route::Operations,
        ("GET", None, ["$", "Operations", id]) => Route::Operation((*id).to_owned()),
        ("POST", None, ["$", "Operations", id, "$", "Cancel"]) => {
            Route::CancelOperation((*id).to_owned())
        }
        (_, path, call) => {
            let names: Vec<&str> =
                path.iter().map(String::as_str).chain(call.iter().copied()).collect();
            let message = format!("there is no call '{method} /ImageStore/{}'", names.join("/"));
            return Err(Error::invalid("path", message));
        }
    };
    Ok(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::path;

    fn route(line: &str) -> Result<Route, Error> {
        let (method, path) = line.split_once(' ').expect("a verb and a path");
        let method = method.parse().expect("a verb");
        find(&method, path::parse(path).expect("a path").expect("below the prefix"))
    }

    #[track_caller]
    fn check(line: &str, expected: &Route) {
        assert_eq!(&route(line).expect(line), expected, "{line}");
    }

    #[test]
    fn the_thirteen_calls_of_upstream() {
        let a = || "a/b".to_owned();
        check("GET /ImageStore", &Route::List(None));
        check("GET /ImageStore/", &Route::List(None));
        check("GET /ImageStore/a/b", &Route::List(Some(a())));
        check("PUT /ImageStore/a/b", &Route::Upload(a()));
        check("DELETE /ImageStore/a%2Fb", &Route::Delete(a()));
        check("POST /ImageStore/$/Copy", &Route::Copy);
        check("POST /ImageStore/%24/Copy/", &Route::Copy);
        check("PUT /ImageStore/a/b/$/UploadChunk", &Route::UploadChunk(a()));
        check("GET /ImageStore/$/GetUploadSession", &Route::Session);
        check("GET /ImageStore/a/b/$/GetUploadSession", &Route::Sessions(a()));
        check("DELETE /ImageStore/$/DeleteUploadSession", &Route::DeleteSession);
        check("POST /ImageStore/$/CommitUploadSession", &Route::CommitSession);
        check("GET /ImageStore/$/FolderSize", &Route::FolderSize(None));
        check("GET /ImageStore/a/b/$/FolderSize", &Route::FolderSize(Some(a())));
        check("GET /ImageStore/$/Info", &Route::Info);
    }

    #[test]
    fn the_further_calls() {
        let id = || "7".to_owned();
        check("GET /ImageStore/a/$/Content", &Route::Content("a".to_owned()));
        check("HEAD /ImageStore/a/$/Content", &Route::Content("a".to_owned()));
        check("GET /ImageStore/$/Operations", &Route::Operations);
        check("GET /ImageStore/$/Operations/7", &Route::Operation(id()));
        check("POST /ImageStore/$/Operations/7/$/Cancel", &Route::CancelOperation(id()));
    }

    #[test]
    fn everything_else_is_refused() {
        for line in [
            "PUT /ImageStore",
            "DELETE /ImageStore",
            "POST /ImageStore",
            "HEAD /ImageStore",
            "HEAD /ImageStore/a",
            "POST /ImageStore/a",
            "PATCH /ImageStore/a",
            "OPTIONS /ImageStore/$/Copy",
            "GET /ImageStore/$/Copy",
            "PUT /ImageStore/$/Copy",
            "POST /ImageStore/$/copy",
            "POST /ImageStore/a/$/Copy",
            "POST /ImageStore/$/Copy/x",
            "PUT /ImageStore/$/UploadChunk",
            "GET /ImageStore/a/$",
            "GET /ImageStore/$",
            "GET /ImageStore/a/$/b",
            "GET /ImageStore/$/Content",
            "GET /ImageStore/a/$/Info",
            "POST /ImageStore/$/Operations/7",
            "POST /ImageStore/$/Operations/7/Cancel",
        ] {
            let error = route(line).expect_err(line);
            assert!(error.message().starts_with("there is no call '"), "{line}: {error}");
        }
    }

    #[test]
    fn a_path_has_its_verbs() {
        let verbs = |raw| allowed(&path::parse(raw).expect("a path").expect("below the prefix"));
        for (raw, expected) in [
            ("/ImageStore", (vec!["GET"], true)),
            ("/ImageStore/a", (vec!["GET", "PUT", "DELETE"], true)),
            ("/ImageStore/$/Copy", (vec!["POST"], true)),
            ("/ImageStore/a/$/Content", (vec!["GET", "HEAD"], false)),
            ("/ImageStore/$/Operations/7/$/Cancel", (vec!["POST"], false)),
            ("/ImageStore/$/Nothing", (vec![], false)),
        ] {
            assert_eq!(verbs(raw), expected, "{raw}");
        }
    }

    #[test]
    fn only_upstreams_calls_need_a_version() {
        assert!(route("GET /ImageStore").expect("a call").documented());
        assert!(!route("GET /ImageStore/$/Operations").expect("a call").documented());
    }
}
