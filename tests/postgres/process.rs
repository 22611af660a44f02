//! The real program on PostgreSQL: a server that is expelled from its store starts over under the same port.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use crate::{
    database::{administer, new_schema},
    driver::url,
};

/// A running server, which is killed at the end of the test.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Process {
    fn start(data: &Path, url: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imagestore"))
            .args(["serve", "--listen", "127.0.0.1:0", "--reserve", "0", "--drain-time", "0s"])
            .args(["--database", url, "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let log = BufReader::new(child.stderr.take().expect("its log"));
        let mut process = Self { child, log, address: String::new() };
        let line = process.line_with("listening on http://");
        process.address = line.rsplit('/').next().expect("an address").trim().to_owned();
        process
    }

    /// The next line of the log with this text. Waits for it.
    fn line_with(&mut self, text: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.log.read_line(&mut line).expect("a line") > 0, "the server has ended");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The status of a request.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        let length = body.len();
        let request = format!(
            "{method} /ImageStore/{path}?api-version=6.0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer.split(' ').nth(1).expect("a status").to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn an_expelled_server_starts_over_under_the_same_port() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = new_schema(&url());
    let mut server = Process::start(folder.path(), &url);
    assert_eq!(server.ask("PUT", "a/f", "first"), "200");
    for expelled in ["UPDATE server SET state = 3", "UPDATE server SET batch = batch - 1"] {
        administer(&url, expelled);
        assert_eq!(server.ask("PUT", "a/g", "late"), "503");
        server.line_with("started over");
        assert_eq!(server.ask("PUT", "a/g", "again"), "200");
        assert_eq!(server.ask("GET", "a/f", ""), "200");
    }
}
