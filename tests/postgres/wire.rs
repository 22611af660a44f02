//! A TCP proxy to the database that can be silenced: it then accepts connections and reads bytes, but
//! forwards nothing until it is told to continue.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use imagestore::namespace::Database;

use crate::{
    database::{new_schema, parse},
    driver::url,
    reader::Reader,
};

pub(crate) struct Wire(Arc<State>);

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The COMMIT does not reach the database.
    Before,
    /// The response does not reach the client.
    After,
    /// The COMMIT reaches the database when another writer waits for the lock, and the response not the client.
    Late,
}

#[derive(Default)]
struct State {
    is_silent: Mutex<bool>,
    refuses: AtomicBool,
    /// What becomes of the connection that sends the next COMMIT.
    cut: Mutex<Option<Cut>>,
    /// The URL of the database itself.
    url: String,
    /// Texts that are replaced on their way, each by one of its length.
    edits: Vec<(String, String)>,
    changed: Condvar,
}

impl Wire {
    /// Creates a schema and starts a proxy. Returns the proxy, and the database with the proxy's address.
    pub(crate) fn new() -> (Self, Database) {
        Self::editing(&[])
    }

    /// Like [`Wire::new`]; each text is replaced by another one, which is filled up with spaces.
    pub(crate) fn editing(edits: &[(&str, &str)]) -> (Self, Database) {
        let padded = |(from, to): &(&str, &str)| {
            assert!(to.len() <= from.len(), "longer: {to}");
            ((*from).to_owned(), format!("{to:<width$}", width = from.len()))
        };
        let edits = edits.iter().map(padded).collect();
        let url = new_schema(&url());
        let (login, rest) = url.rsplit_once('@').expect("a login");
        let (host, rest) = rest.split_once('/').expect("a database");
        let state = Arc::new(State { url: url.clone(), edits, ..State::default() });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (host, shared) = (host.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a connection");
                if shared.refuses.load(SeqCst) {
                    continue;
                }
                let server = TcpStream::connect(&host).expect("connected");
                for stream in [&client, &server] {
                    stream.set_nodelay(true).expect("set");
                }
                let copy = |stream: &TcpStream| stream.try_clone().expect("another one");
                for (from, to) in [(copy(&client), copy(&server)), (server, client)] {
                    let state = Arc::clone(&shared);
                    thread::spawn(move || state.pump(from, to));
                }
            }
        });
        (Self(state), parse(&format!("{login}@127.0.0.1:{port}/{rest}")))
    }

    /// The URL of the database without the proxy.
    pub(crate) fn url(&self) -> &str {
        &self.0.url
    }

    /// The database without the proxy.
    pub(crate) fn around(&self) -> Database {
        parse(&self.0.url)
    }

    /// Cuts the connection that sends the next COMMIT.
    pub(crate) fn cut_at_commit(&self, cut: Cut) {
        *self.0.cut.lock().expect("no panic") = Some(cut);
    }

    /// Closes new connections at once, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.0.refuses.store(refuses, SeqCst);
    }

    pub(crate) fn fall_silent(&self) {
        *self.0.is_silent.lock().expect("no panic") = true;
    }

    pub(crate) fn speak(&self) {
        *self.0.is_silent.lock().expect("no panic") = false;
        self.0.changed.notify_all();
    }
}

/// Waits until a connection waits for the write lock of a database. Blocks.
pub(crate) fn until_a_writer_waits(database: &Database) {
    let reader = Reader::open(database);
    let sql = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND classid = 1229801299
                 AND CAST(objid AS BIGINT) = CAST(hashtext(current_schema()) AS BIGINT) & 4294967295";
    while reader.number(sql) == 0 {}
}

impl State {
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            let is_silent = self.is_silent.lock().expect("no panic");
            drop(self.changed.wait_while(is_silent, |is_silent| *is_silent).expect("no panic"));
            let bytes = buffer.get_mut(..read).expect("read");
            for (from, to) in &self.edits {
                // Requests are short, so none is cut.
                while let Some(at) =
                    bytes.windows(from.len()).position(|text| text == from.as_bytes())
                {
                    bytes
                        .get_mut(at..at + from.len())
                        .expect("found")
                        .copy_from_slice(to.as_bytes());
                }
            }
            let cut = if bytes.windows(7).any(|text| text == b"COMMIT\0") {
                self.cut.lock().expect("no panic").take()
            } else {
                None
            };
            if cut.is_some() {
                // First, so that no response passes.
                from.shutdown(Shutdown::Both).expect("shut down");
            }
            if cut == Some(Cut::Late) {
                until_a_writer_waits(&parse(&self.url));
            }
            if read == 0 || cut == Some(Cut::Before) || to.write_all(bytes).is_err() {
                // The connection may be closed already.
                to.shutdown(Shutdown::Write).ok();
                from.shutdown(Shutdown::Read).ok();
                return;
            }
        }
    }
}
