//! The table of routes: which call a request makes.
//!
//! Upstream answers a wrong verb, a wrong letter case and an unknown call with 400 (reference, section 1.2). For
//! calls that are extensions of this store, a wrong verb is 405.

#[cfg(test)]
mod tests;

use std::fmt;

use axum::response::Response;
use futures::future::BoxFuture;
use http::Method;

use super::{
    answer::Failure,
    call::Call,
    content, copy, info, link, list, operations, package,
    path::{Prefix, Target},
    payload::Payload,
    sessions, upload,
};
use crate::error::Error;

/// Whether the URL of a call contains a path of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathParameter {
    /// No path.
    Nothing,
    /// A path.
    Path,
    /// An optional path; without it the root.
    PathOrRoot,
    /// The path of a folder, with the suffix of an archive, below `/Packages`.
    Package,
}

/// What the body of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestContent {
    /// The body is not used.
    Nothing,
    /// Bytes, such as a chunk or JSON.
    Bytes,
    /// A whole file.
    File,
}

/// The origin of a call. A call of upstream needs an `api-version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Upstream,
    Extension,
}

/// The placeholder for the id of an operation in [`Route::call`].
const ID: &str = "{id}";

/// The handler of a route. Its [`PathParameters`] is decoded but not checked: the backend checks it.
type Handler =
    for<'a> fn(Call, PathParameters, &'a mut Payload) -> BoxFuture<'a, Result<Response, Failure>>;

/// A row of the table.
pub(super) struct Route {
    verbs: &'static [&'static str],
    names: PathParameter,
    /// The segments from the first `$` on.
    call: &'static [&'static str],
    pub(super) content: RequestContent,
    origin: Origin,
    /// The rpcs that do the work.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare them with the descriptor"))]
    rpcs: &'static [&'static str],
    pub(super) handler: Handler,
}

static ROUTES: &[Route] = &[
    Route {
        verbs: &["GET"],
        names: PathParameter::PathOrRoot,
        call: &[],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["List", "Stat"],
        handler: |call, parameters, _| Box::pin(list::list(call, parameters.path)),
    },
    Route {
        verbs: &["PUT"],
        names: PathParameter::Path,
        call: &[],
        content: RequestContent::File,
        origin: Origin::Upstream,
        rpcs: &["Upload"],
        handler: |call, parameters, body| Box::pin(upload::upload(call, parameters.path, body)),
    },
    Route {
        verbs: &["DELETE"],
        names: PathParameter::Path,
        call: &[],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["Delete"],
        handler: |call, parameters, _| Box::pin(info::delete(call, parameters.path)),
    },
    Route {
        verbs: &["POST"],
        names: PathParameter::Nothing,
        call: &["$", "Copy"],
        content: RequestContent::Bytes,
        origin: Origin::Upstream,
        rpcs: &["Copy"],
        handler: |call, _, body| Box::pin(copy::copy(call, body)),
    },
    Route {
        verbs: &["PUT"],
        names: PathParameter::Path,
        call: &["$", "UploadChunk"],
        content: RequestContent::Bytes,
        origin: Origin::Upstream,
        rpcs: &["UploadChunk"],
        handler: |call, parameters, body| Box::pin(upload::chunk(call, parameters.path, body)),
    },
    Route {
        verbs: &["GET"],
        names: PathParameter::Nothing,
        call: &["$", "GetUploadSession"],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["GetUploadSession"],
        handler: |call, _, _| Box::pin(sessions::get(call)),
    },
    Route {
        verbs: &["GET"],
        names: PathParameter::Path,
        call: &["$", "GetUploadSession"],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["ListUploadSessions"],
        handler: |call, parameters, _| Box::pin(sessions::list(call, parameters.path)),
    },
    Route {
        verbs: &["DELETE"],
        names: PathParameter::Nothing,
        call: &["$", "DeleteUploadSession"],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["DeleteUploadSession"],
        handler: |call, _, _| Box::pin(sessions::delete(call)),
    },
    Route {
        verbs: &["POST"],
        names: PathParameter::Nothing,
        call: &["$", "CommitUploadSession"],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["CommitUploadSession"],
        handler: |call, _, _| Box::pin(sessions::commit(call)),
    },
    Route {
        verbs: &["GET"],
        names: PathParameter::PathOrRoot,
        call: &["$", "FolderSize"],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["Stat"],
        handler: |call, parameters, _| Box::pin(info::folder_size(call, parameters.path)),
    },
    Route {
        verbs: &["GET"],
        names: PathParameter::Nothing,
        call: &["$", "Info"],
        content: RequestContent::Nothing,
        origin: Origin::Upstream,
        rpcs: &["GetStoreInfo"],
        handler: |call, _, _| Box::pin(info::info(call)),
    },
    Route {
        verbs: &["GET", "HEAD"],
        names: PathParameter::Path,
        call: &["$", "Content"],
        content: RequestContent::Nothing,
        origin: Origin::Extension,
        rpcs: &["Download", "Stat"],
        handler: |call, parameters, _| Box::pin(content::content(call, parameters.path)),
    },
    Route {
        verbs: &["POST"],
        names: PathParameter::Path,
        call: &["$", "CreateLink"],
        content: RequestContent::Nothing,
        origin: Origin::Extension,
        rpcs: &["CreateLink"],
        handler: |call, parameters, _| Box::pin(link::create(call, parameters.path)),
    },
    Route {
        verbs: &["GET", "HEAD"],
        names: PathParameter::Package,
        call: &[],
        content: RequestContent::Nothing,
        origin: Origin::Extension,
        rpcs: &["DownloadPackage"],
        handler: |call, parameters, _| Box::pin(package::package(call, parameters.path)),
    },
    Route {
        verbs: &["GET"],
        names: PathParameter::Nothing,
        call: &["$", "Operations"],
        content: RequestContent::Nothing,
        origin: Origin::Extension,
        rpcs: &["ListOperations", "WatchOperations"],
        handler: |call, _, _| Box::pin(operations::list(call)),
    },
    Route {
        verbs: &["GET"],
        names: PathParameter::Nothing,
        call: &["$", "Operations", ID],
        content: RequestContent::Nothing,
        origin: Origin::Extension,
        rpcs: &["GetOperation", "WatchOperation"],
        handler: |call, parameters, _| Box::pin(operations::get(call, parameters.id)),
    },
    Route {
        verbs: &["POST"],
        names: PathParameter::Nothing,
        call: &["$", "Operations", ID, "$", "Cancel"],
        content: RequestContent::Nothing,
        origin: Origin::Extension,
        rpcs: &["CancelOperation"],
        handler: |call, parameters, _| Box::pin(operations::cancel(call, parameters.id)),
    },
];

/// The decoded parameters in the URL path of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathParameters {
    /// The path in the store; empty for the root, and for a call without a path.
    pub(super) path: String,
    /// The id of an operation; empty for a call without an id.
    pub(super) id: String,
}

impl Route {
    /// Whether the call is documented by upstream; such a call needs an `api-version`.
    pub(super) fn is_documented(&self) -> bool {
        self.origin == Origin::Upstream
    }

    /// The parameters of a request, if this route matches it.
    fn parameters(&self, verb: &str, target: &Target) -> Option<PathParameters> {
        let is_package = target.prefix == Prefix::Packages;
        let names_path = match self.names {
            PathParameter::Package => is_package && target.content.is_some(),
            _ if is_package => false,
            PathParameter::Nothing => target.content.is_none(),
            PathParameter::Path => target.content.is_some(),
            PathParameter::PathOrRoot => true,
        };
        let mut id = String::new();
        let is_call = self.call.len() == target.call.len()
            && self.call.iter().zip(&target.call).all(|(&expected, segment)| {
                if expected == ID {
                    segment.clone_into(&mut id);
                }
                expected == ID || expected == segment
            });
        let path = || target.content.clone().unwrap_or_default();
        (self.verbs.contains(&verb) && names_path && is_call)
            .then(|| PathParameters { path: path(), id })
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.verbs, self.names, self.call)
    }
}

/// Every verb that a call can have.
pub(super) const VERBS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];

/// The route of a request, and the parameters in its path.
fn find_verb(verb: &str, target: &Target) -> Option<(&'static Route, PathParameters)> {
    ROUTES.iter().find_map(|route| Some((route, route.parameters(verb, target)?)))
}

/// The verbs of a path, and whether any of its calls is upstream's.
pub(super) fn allowed(target: &Target) -> (Vec<&'static str>, bool) {
    let found = VERBS.iter().filter_map(|&verb| Some((verb, find_verb(verb, target)?.0)));
    let (verbs, routes): (Vec<_>, Vec<_>) = found.unzip();
    (verbs, routes.iter().any(|route| route.is_documented()))
}

/// Finds the route of a request, and the parameters in its path.
///
/// # Errors
/// `Kind::InvalidArgument` if no route matches.
pub(super) fn find(
    method: &Method,
    target: &Target,
) -> Result<(&'static Route, PathParameters), Error> {
    find_verb(method.as_str(), target).ok_or_else(|| {
        let names: Vec<&str> =
            target.content.iter().chain(&target.call).map(String::as_str).collect();
        let prefix = target.prefix.as_str();
        let message = format!("there is no call '{method} /{prefix}/{}'", names.join("/"));
        Error::invalid("path", message)
    })
}
