//! The table of routes: which call a request makes.
//!
//! Upstream answers a wrong verb, a wrong letter case and an unknown call alike: 400 (reference,
//! section 1.2). Of the further calls a wrong verb is 405.

#[cfg(test)]
mod tests;

use http::Method;

use super::path::Target;
use crate::error::Error;

/// A call on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Lists a folder.
    List,
    /// Stores a file.
    Upload,
    /// Deletes a path.
    Delete,
    /// Copies.
    Copy,
    /// Stores a chunk of a file.
    UploadChunk,
    /// Describes the session that the query names.
    Session,
    /// Lists the sessions of a path.
    Sessions,
    /// Forgets the session that the query names.
    DeleteSession,
    /// Commits the session that the query names.
    CommitSession,
    /// The size of a folder.
    FolderSize,
    /// The space that the store uses.
    Info,
    /// The bytes of a file.
    Content,
    /// The operations.
    Operations,
    /// One operation.
    Operation,
    /// Cancels an operation.
    CancelOperation,
}

/// Whether a call names a path of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// It names none.
    Nothing,
    /// It names one.
    Path,
    /// It may name one; none is the root.
    PathOrRoot,
}

/// What the body of a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    /// It is not used.
    Nothing,
    /// Some bytes.
    Bytes,
    /// A whole file.
    File,
}

/// Whose call it is. One of upstream needs an `api-version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Upstream,
    Extension,
}

/// Stands in a call for the id of an operation.
const ID: &str = "{id}";

/// A row of the table.
#[derive(Debug)]
struct Row {
    route: Route,
    verbs: &'static [&'static str],
    names: Names,
    /// The segments from the first `$` on.
    call: &'static [&'static str],
    sends: Sends,
    of: Of,
    /// The rpcs that do the work.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare them with the descriptor"))]
    rpcs: &'static [&'static str],
}

const ROUTES: [Row; 15] = {
    use Names::{Nothing, Path, PathOrRoot};
    use Of::{Extension, Upstream};
    use Route as R;
    use Sends as S;
    [
        row(R::List, &["GET"], (PathOrRoot, &[]), (S::Nothing, Upstream), &["List", "Stat"]),
        row(R::Upload, &["PUT"], (Path, &[]), (S::File, Upstream), &["Upload"]),
        row(R::Delete, &["DELETE"], (Path, &[]), (S::Nothing, Upstream), &["Delete"]),
        row(R::Copy, &["POST"], (Nothing, &["$", "Copy"]), (S::Bytes, Upstream), &["Copy"]),
        row(
            R::UploadChunk,
            &["PUT"],
            (Path, &["$", "UploadChunk"]),
            (S::Bytes, Upstream),
            &["UploadChunk"],
        ),
        row(
            R::Session,
            &["GET"],
            (Nothing, &["$", "GetUploadSession"]),
            (S::Nothing, Upstream),
            &["GetUploadSession"],
        ),
        row(
            R::Sessions,
            &["GET"],
            (Path, &["$", "GetUploadSession"]),
            (S::Nothing, Upstream),
            &["ListUploadSessions"],
        ),
        row(
            R::DeleteSession,
            &["DELETE"],
            (Nothing, &["$", "DeleteUploadSession"]),
            (S::Nothing, Upstream),
            &["DeleteUploadSession"],
        ),
        row(
            R::CommitSession,
            &["POST"],
            (Nothing, &["$", "CommitUploadSession"]),
            (S::Nothing, Upstream),
            &["CommitUploadSession"],
        ),
        row(
            R::FolderSize,
            &["GET"],
            (PathOrRoot, &["$", "FolderSize"]),
            (S::Nothing, Upstream),
            &["Stat"],
        ),
        row(
            R::Info,
            &["GET"],
            (Nothing, &["$", "Info"]),
            (S::Nothing, Upstream),
            &["GetStoreInfo"],
        ),
        row(
            R::Content,
            &["GET", "HEAD"],
            (Path, &["$", "Content"]),
            (S::Nothing, Extension),
            &["Download", "Stat"],
        ),
        row(
            R::Operations,
            &["GET"],
            (Nothing, &["$", "Operations"]),
            (S::Nothing, Extension),
            &["ListOperations", "WatchOperations"],
        ),
        row(
            R::Operation,
            &["GET"],
            (Nothing, &["$", "Operations", ID]),
            (S::Nothing, Extension),
            &["GetOperation", "WatchOperation"],
        ),
        row(
            R::CancelOperation,
            &["POST"],
            (Nothing, &["$", "Operations", ID, "$", "Cancel"]),
            (S::Nothing, Extension),
            &["CancelOperation"],
        ),
    ]
};

const fn row(
    route: Route,
    verbs: &'static [&'static str],
    (names, call): (Names, &'static [&'static str]),
    (sends, of): (Sends, Of),
    rpcs: &'static [&'static str],
) -> Row {
    Row { route, verbs, names, call, sends, of, rpcs }
}

/// The call of a request, and what its path names. It is decoded but not checked: that is the backend's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) route: Route,
    /// Empty for the root, and where the call names none.
    pub(super) path: String,
    /// The id of an operation; empty where the call names none.
    pub(super) id: String,
    pub(super) sends: Sends,
    /// Whether the call is one of upstream's, which need an `api-version`.
    pub(super) is_documented: bool,
}

impl Row {
    /// The call, where this row is the one of a request.
    fn find(&self, verb: &str, target: &Target) -> Option<Found> {
        let names_path = match self.names {
            Names::Nothing => target.content.is_none(),
            Names::Path => target.content.is_some(),
            Names::PathOrRoot => true,
        };
        let mut id = String::new();
        let is_call = self.call.len() == target.call.len()
            && self.call.iter().zip(&target.call).all(|(&expected, segment)| {
                if expected == ID {
                    segment.clone_into(&mut id);
                }
                expected == ID || expected == segment
            });
        (self.verbs.contains(&verb) && names_path && is_call).then(|| Found {
            route: self.route,
            path: target.content.clone().unwrap_or_default(),
            id,
            sends: self.sends,
            is_documented: self.of == Of::Upstream,
        })
    }
}

/// Every verb that a call can have.
pub(super) const VERBS: [&str; 5] = ["GET", "HEAD", "PUT", "POST", "DELETE"];

/// The verbs that a path takes, and whether one of its calls is upstream's.
pub(super) fn allowed(target: &Target) -> (Vec<&'static str>, bool) {
    let found = VERBS
        .iter()
        .filter_map(|verb| Some((*verb, ROUTES.iter().find_map(|row| row.find(verb, target))?)));
    let (verbs, calls): (Vec<_>, Vec<_>) = found.unzip();
    (verbs, calls.iter().any(|call| call.is_documented))
}

/// Finds the call.
///
/// # Errors
/// `Kind::InvalidArgument` where there is none.
pub(super) fn find(method: &Method, target: &Target) -> Result<Found, Error> {
    ROUTES.iter().find_map(|row| row.find(method.as_str(), target)).ok_or_else(|| {
        let names: Vec<&str> =
            target.content.iter().chain(&target.call).map(String::as_str).collect();
        let message = format!("there is no call '{method} /ImageStore/{}'", names.join("/"));
        Error::invalid("path", message)
    })
}
