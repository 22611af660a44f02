//! Image Store: keeps application packages, folders and files addressed by a relative path.
//!
//! # Bird's eye
//!
//! Data flows one way: request → [`rest`] (for REST) → [`grpc`] → [`store`] → [`namespace`] and
//! [`blob`]. There is one backend. What REST can do, gRPC can do, because the gateway has no other way
//! to the store than the generated trait of the service ([`wire::backend`]). So it also serves alone, before servers
//! elsewhere ([`server::gateway`]).
//!
//! # Code map
//!
//! | module | is | may import, beside [`model`], [`error`], [`limits`] |
//! |---|---|---|
//! | [`model`], [`error`], [`limits`] | pure values, the one error, every bound | nobody |
//! | [`budget`] | what callers share, and how | nobody |
//! | [`access`] | who may do what: roles, grants, and the authorization of a call | `budget`, `secret` |
//! | [`crash`] | points at which tests end the process | nobody |
//! | [`offload`] | long work off the threads of the runtime | nobody |
//! | [`secret`] | texts that are shown to nobody | nobody |
//! | [`tls`] | the cryptography of TLS, and certificates in PEM | nobody |
//! | [`namespace`] | which path is which content: the tree, sessions, operations, garbage, over SQL | `crash`, `tls` |
//! | [`blob`] | immutable parts in an object store | `crash`, `budget` |
//! | [`store`] | the domain: copy, upload, download, delete, operations, background work | `namespace`, `blob`, `budget`, `access`, `secret`, `offload` |
//! | [`wire`] | generated messages, the service as the gateway calls it, error ↔ status | `offload` |
//! | [`grpc`] | the service | `store`, `wire`, `budget`, `offload`, `access` |
//! | [`rest`] | the gateway | `wire`, `budget`, `offload`, `access` |
//! | [`web`] | the embedded page | nobody |
//! | [`client`], [`cli`] | the Rust client and the command line | `tls`, `secret`, `wire` |
//! | [`server`] | configuration, wiring, shutdown, migration | all of these |
//!
//! A test keeps these rules (`tests/spec/tidy.rs`).
//!
//! # Invariants
//!
//! 1. **Content never changes.** A part is named by its digest; ids and object keys are never used
//!    twice.
//! 2. **Folders are copy-on-write.** Whoever writes below a folder that is referred to twice clones
//!    it first; whether it is shared is asked after its parent has become unshared.
//! 3. **One transaction makes a change visible.** Nothing is answered before its commit.
//! 4. **Durable before visible.** An object and its folder are synced before the row that names it is
//!    committed.
//! 5. **Release.** Whatever removes a reference queues the old target for garbage collection in the same
//!    transaction, through [`namespace::garbage::enqueue_garbage`].
//! 6. **No blocking call on the runtime.** SQL runs on database threads; hashing of parts and files, and
//!    what takes long with the bytes of a message ([`offload`]), on the blocking pool.
//!
//! # Life of an upload
//!
//! [`store::Store::upload`] looks at the path and waits for a turn. Bytes fill a part of at most
//! 8 MiB; a full part is hashed, put as an object unless it is stored already and can be read back,
//! and given its row and a pin, while the next one is filled. At the end one transaction makes the content and the entry and
//! drops the pins. The list of a file of many parts is built in steps before ([`namespace::assembly`]), as is
//! that of a session of many chunks. A file of up to [`limits::INLINE_BYTES_MAX`] is kept in the database, in that one
//! transaction; its path is looked at only there if its size is announced. Files of at most one part that wait for the
//! writer are put together ([`namespace::group`]).
//!
//! # Life of a copy
//!
//! [`store::Store::copy`] is one transaction where nothing is skipped and nothing verified: the
//! destination's entry comes to refer to the source's folder. Otherwise the source is pinned, a
//! filtered folder is built beside the tree in bounded steps ([`namespace::filter`]), its parts are
//! read and checked, and one last transaction makes it visible. Watchers follow the latest state.
//!
//! # Life of a backup
//!
//! [`store::Store::backup`] pins a clone of the root. Writers clone what they change below it, so
//! [`namespace::backup`] reads it in pages, each folder, content and part once, children first, and
//! numbers them; the caller takes the parts that it does not have. [`store::Store::restore`] builds
//! the same, unreachable and pinned ([`namespace::restore`]), and its last transaction fills the root.
//!
//! # Life of a migration
//!
//! [`server::migrate`] gives the backups of one store to another, which takes each of them in place of the one before.
//! A folder has a tag, which is its id and the number of its changes; the target keeps which of its folders has which tag
//! ([`namespace::migration`]), so the walk of a later backup descends only where tags differ. The target is marked as
//! unfinished until the last transaction of a pass.
//!
//! # Failure and recovery
//!
//! A caller that leaves before a job has begun takes it back; what has begun gives its verdict.
//! A connection to the database that is lost is made again; the calls that it breaks are refused as
//! busy, and safe to repeat.
//! The blob store has a time for each call ([`limits::BLOB_TIME`]). A part that cannot be read back is
//! put anew by the next upload of its bytes, which heals every file that shares it.
//! An object that no row came to name is marked for deletion by the guard that put it. The sweep deletes those
//! that a crash left; their keys name the run of the server that put them. A start
//! drops the pins of earlier runs and fails what they left running. [`store::Store::check`] looks for
//! what must never be, and a test kills the server again and again and sees that it finds nothing.
//!
//! # Glossary
//!
//! | word | means |
//! |---|---|
//! | part | at most 8 MiB of bytes, stored once under their BLAKE3 digest |
//! | content | the list of the parts of a file; immutable |
//! | object | a part in the object store; small parts are inline in the database and have none |
//! | folder | a set of entries; copied on write when it is shared |
//! | entry | a name in a folder, and the content or folder that it refers to |
//! | shared | referenced more than once |
//! | reach | how deep and how long the paths below a folder are |
//! | totals, sums | the files and bytes below a folder; those of the whole store |
//! | pin | a reference that running work holds, as a row of the database |
//! | garbage | the queue of targets that lost a reference, see [`namespace::garbage`] |
//! | grace | how long deleted content stays readable for downloads that have begun |
//! | sweep | the search for objects without a row, which a crash may leave |
//! | operation | a copy, upload or other work with an id, a row and an end |
//! | run | an operation that runs on this server, see [`store`] |
//! | session | an upload in chunks; a chunk is what a client sends, a part is what is stored |
//! | pass | one snapshot of a store that a migration copies into another one |
//! | tag | the id of a folder and the number of its changes: equal tags, equal folders |
//! | mark file | a file `_.dir`, by which other tools know that a folder is complete |
//! | package | a folder as a ZIP archive, see [`store::Package`] |
//! | link | an address that is signed, with which whoever has it downloads one file or package |
//! | claim | the lock of a PostgreSQL database by one server; of the disk: bytes that are being written |
//! | peer | the address of a client, the unit among which budgets are shared |
//! | budget, permit | a bound of bytes or calls, and what a caller holds of it, see [`budget`] |
//! | stall | a client that keeps the server waiting |
//!
//! How to add a call, a blob store or a migration, and how to run one test: `docs/CONTRIBUTING.md`.

// What unit tests and the test binaries share names the crate as the latter do.
#[cfg(test)]
extern crate self as imagestore;

pub mod access;
pub mod blob;
pub mod budget;
pub mod cli;
pub mod client;
pub mod crash;
pub mod error;
pub mod grpc;
pub mod limits;
pub mod model;
pub mod namespace;
pub mod offload;
pub mod rest;
pub mod secret;
pub mod server;
pub mod store;
pub mod tls;
pub mod web;
pub mod wire;
