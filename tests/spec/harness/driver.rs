//! A common driver for both interfaces, REST and gRPC, and the comparison of a scenario over both.

use std::{collections::BTreeMap, fmt};

use imagestore::error::Kind;

use super::{Grpc, Rest, Server};

/// The error of a call, in a form that is common to both interfaces.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

/// The result of a call of a driver.
pub(crate) type Outcome<T> = Result<T, Fault>;

/// Reduces an outcome to the kind of its error.
pub(crate) fn of<T>(outcome: Outcome<T>) -> Result<(), Kind> {
    outcome.map(drop).map_err(|fault| fault.kind)
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) path: String,
    pub(crate) is_folder: bool,
    /// 0 for a folder: REST does not return its size.
    pub(crate) size: u64,
    pub(crate) files: u64,
    /// The version number of a file; 0 for a folder.
    pub(crate) version: u64,
    /// The upload time of a file, in milliseconds since 1970; 0 for a folder.
    pub(crate) modified: i64,
}

/// The conditions of a write.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "these are the names in the requests")]
pub(crate) struct Preconditions {
    pub(crate) if_match: Vec<String>,
    pub(crate) if_none_match: Vec<String>,
    /// In seconds since 1970.
    pub(crate) if_unmodified_since: Option<i64>,
}

impl Preconditions {
    /// The entry at the path has one of these entity tags.
    pub(crate) fn matches(tags: &[&str]) -> Self {
        let if_match = tags.iter().map(|&tag| tag.to_owned()).collect();
        Self { if_match, ..Self::default() }
    }

    /// The entry at the path has none of these entity tags.
    pub(crate) fn none_matches(tags: &[&str]) -> Self {
        let if_none_match = tags.iter().map(|&tag| tag.to_owned()).collect();
        Self { if_none_match, ..Self::default() }
    }

    /// The entry at the path was uploaded at or before this time, in seconds since 1970.
    pub(crate) fn unmodified_since(seconds: i64) -> Self {
        Self { if_unmodified_since: Some(seconds), ..Self::default() }
    }
}

/// What an upload may replace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MayReplace {
    SameKind,
    Anything,
}

/// The request of a copy.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an argument of the call")]
pub(crate) struct Copy {
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) skip: Vec<String>,
    pub(crate) check_mark: bool,
    pub(crate) keep: bool,
    pub(crate) same_kind: bool,
    pub(crate) verify: bool,
    pub(crate) id: String,
    pub(crate) when: Preconditions,
}

/// A copy that overwrites its destination and ignores mark files.
pub(crate) fn copy(source: &str, destination: &str) -> Copy {
    Copy { source: source.to_owned(), destination: destination.to_owned(), ..Copy::default() }
}

impl Copy {
    /// With `CheckMarkFile`.
    pub(crate) fn checked(self) -> Self {
        Self { check_mark: true, ..self }
    }

    /// With `CopyFlag` Echo, which is `KEEP`.
    pub(crate) fn keep(self) -> Self {
        Self { keep: true, ..self }
    }

    /// Replaces only a file by a file and a folder by a folder.
    pub(crate) fn same_kind(self) -> Self {
        Self { same_kind: true, ..self }
    }

    /// Verifies all parts first.
    pub(crate) fn verify(self) -> Self {
        Self { verify: true, ..self }
    }

    /// With a skip list.
    pub(crate) fn skip(self, names: &[&str]) -> Self {
        Self { skip: names.iter().map(|&name| name.to_owned()).collect(), ..self }
    }

    /// With conditions on the destination.
    pub(crate) fn when(self, when: &Preconditions) -> Self {
        Self { when: when.clone(), ..self }
    }

    /// With an operation id.
    pub(crate) fn id(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }
}

/// The results of a copy other than its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyResult {
    pub(crate) files_replaced: u64,
    pub(crate) skip_files_unmatched: Vec<String>,
}

/// The calls that both interfaces have.
#[tonic::async_trait]
pub(crate) trait Driver: Sync {
    /// Stores a file.
    async fn upload(&self, path: &str, bytes: &[u8]) -> Outcome<()> {
        self.upload_if(path, bytes, &Preconditions::default()).await
    }
    /// Stores a file under conditions.
    async fn upload_if(&self, path: &str, bytes: &[u8], when: &Preconditions) -> Outcome<()>;
    /// Stores a file that may replace what `over` says; returns the number of replaced files.
    async fn upload_onto(&self, path: &str, bytes: &[u8], over: Option<MayReplace>)
    -> Outcome<u64>;
    /// Does the same by an upload session of one chunk; `over` has the values of the chunk and of the commit.
    async fn chunked_onto(
        &self,
        path: &str,
        bytes: &[u8],
        over: [Option<MayReplace>; 2],
    ) -> Outcome<u64>;
    /// The entity tag of a file.
    async fn etag(&self, path: &str) -> Outcome<String>;
    /// Returns the bytes of a file.
    async fn download(&self, path: &str) -> Outcome<Vec<u8>>;
    /// Returns at most `length` bytes of a file from `offset` on.
    async fn range(&self, path: &str, offset: u64, length: u64) -> Outcome<Vec<u8>>;
    /// Copies, and waits until the copy has ended.
    async fn copy(&self, copy: &Copy) -> Outcome<()>;
    /// Deletes a path.
    async fn delete(&self, path: &str) -> Outcome<()> {
        self.delete_if(path, &Preconditions::default()).await
    }
    /// Deletes a path under conditions.
    async fn delete_if(&self, path: &str, when: &Preconditions) -> Outcome<()>;
    /// Lists all pages of a folder, one level deep, sorted by path.
    async fn list(&self, path: &str) -> Outcome<Vec<Item>>;
    /// The total size of the files below a folder, in bytes.
    async fn size(&self, path: &str) -> Outcome<u64>;
    /// Stores a chunk; `at` is its offset and the total size of the file.
    async fn chunk(&self, session: &str, path: &str, at: (u64, u64), bytes: &[u8]) -> Outcome<()>;
    /// The missing ranges of an upload session, both ends included; `None` if there is no such session.
    async fn session(&self, session: &str) -> Outcome<Option<Vec<(u64, u64)>>>;
    /// Commits an upload session.
    async fn commit(&self, session: &str) -> Outcome<()> {
        self.commit_if(session, &Preconditions::default()).await
    }
    /// Commits an upload session under conditions.
    async fn commit_if(&self, session: &str, when: &Preconditions) -> Outcome<()>;
    /// Deletes an upload session.
    async fn forget(&self, session: &str) -> Outcome<()>;
    /// The state of an operation and its counters, as text.
    async fn operation(&self, id: &str) -> Outcome<String>;
    /// The results of an operation other than its counters.
    async fn copy_result(&self, id: &str) -> Outcome<CopyResult>;
    /// Cancels an operation.
    async fn cancel(&self, id: &str) -> Outcome<()>;
}

/// Stores the files of a text such as `a/b=1 a/_.dir`, in the order of the text: `path=content`, or a path for an empty
/// file.
pub(crate) async fn fill(store: &dyn Driver, files: &str) {
    for file in files.split_whitespace() {
        let (path, content) = file.split_once('=').unwrap_or((file, ""));
        store.upload(path, content.as_bytes()).await.expect(path);
    }
}

/// All files of a store in the form that [`fill`] takes, sorted. Also checks the file count of every folder.
pub(crate) async fn tree(store: &dyn Driver) -> String {
    let mut files = BTreeMap::new();
    let mut folders = vec![(String::new(), None)];
    let mut counts = BTreeMap::new();
    while let Some((folder, count)) = folders.pop() {
        counts.insert(folder.clone(), count);
        for item in store.list(&folder).await.expect("a listing") {
            if item.is_folder {
                folders.push((item.path, Some(item.files)));
            } else {
                let bytes = store.download(&item.path).await.expect("the bytes");
                assert_eq!(bytes.len() as u64, item.size, "{}", item.path);
                files.insert(item.path, String::from_utf8(bytes).expect("text"));
            }
        }
    }
    for (folder, count) in counts {
        let below = files.keys().filter(|path| path.starts_with(&format!("{folder}/"))).count();
        assert!(count.is_none_or(|count| count == below as u64), "the count of {folder}");
    }
    let line = |(path, content): (&String, &String)| match content.as_str() {
        "" => path.clone(),
        content => format!("{path}={content}"),
    };
    let mut lines: Vec<String> = files.iter().map(line).collect();
    lines.sort_unstable();
    lines.join(" ")
}

/// Sorts the files of a text in the form that [`fill`] takes.
pub(crate) fn sorted(files: &str) -> String {
    let mut files: Vec<&str> = files.split_whitespace().collect();
    files.sort_unstable();
    files.join(" ")
}

/// Two servers: one is driven over REST, the other over gRPC.
pub(crate) struct Pair {
    over_rest: Server,
    over_grpc: Server,
}

impl Pair {
    /// Starts both.
    pub(crate) async fn start() -> Self {
        Self { over_rest: Server::start().await, over_grpc: Server::start().await }
    }

    /// Runs a scenario over each interface, each on an empty store. Both must return the same value and leave the same
    /// files, read over either interface. Returns the value, and the files in the form of [`tree`].
    pub(crate) async fn run<T: PartialEq + fmt::Debug>(
        &self,
        scenario: impl AsyncFn(&dyn Driver) -> T,
    ) -> (T, String) {
        let (rest, grpc): (Rest, Grpc) = (self.over_rest.rest(), self.over_grpc.grpc().await);
        clear(&rest).await;
        clear(&grpc).await;
        let told_rest = scenario(&rest).await;
        let told_grpc = scenario(&grpc).await;
        assert_eq!(told_rest, told_grpc, "REST tells something else than gRPC");
        let left_rest = tree(&self.over_rest.grpc().await).await;
        let left_grpc = tree(&self.over_grpc.rest()).await;
        assert_eq!(left_rest, left_grpc, "REST leaves something else than gRPC");
        assert_eq!(tree(&rest).await, left_rest, "gRPC sees something else than REST");
        (told_rest, left_rest)
    }
}

/// Deletes everything in a store.
async fn clear(store: &dyn Driver) {
    for item in store.list("").await.expect("a listing") {
        // The reserved folders themselves cannot be deleted, but their entries can.
        if store.delete(&item.path).await.is_err() {
            for item in store.list(&item.path).await.expect("a listing") {
                store.delete(&item.path).await.expect("deleted");
            }
        }
    }
}

/// Runs one scenario on a pair of its own.
pub(crate) async fn both<T: PartialEq + fmt::Debug>(
    scenario: impl AsyncFn(&dyn Driver) -> T,
) -> (T, String) {
    Pair::start().await.run(scenario).await
}
