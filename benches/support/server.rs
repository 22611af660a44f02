//! A server process, with its memory and its CPU time.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::Result;

/// Clock ticks per second in `/proc/PID/stat` (`USER_HZ`), on the usual architectures.
const TICKS: u64 = 100;

/// A running server process. Dropping the value kills the process.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server on a data folder and waits until it listens.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        Self::start_with(data, &[])
    }

    /// As [`Server::start`], with more flags.
    pub(crate) fn start_with(data: &Path, flags: &[String]) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imagestore"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data"])
            .arg(data)
            .args(flags)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().ok_or("no stderr")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on http");
        let address = address.and_then(|rest| rest.split_once("://")?.1.parse().ok());
        // The later lines of the server are forwarded to stderr; the thread ends with the server.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::stderr()));
        let Some(address) = address else {
            child.kill()?;
            child.wait()?;
            return Err(format!("the server said {line:?}").into());
        };
        Ok(Self { child, address })
    }

    /// Stops the server in good order, and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        let done = Command::new("kill").arg(self.id().to_string()).status()?;
        if done.success() && self.child.wait()?.success() {
            Ok(())
        } else {
            Err("no good end".into())
        }
    }

    /// The address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The peak of resident memory since the start, or since the last [`Server::forget_peak`], in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    /// The current resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// Resets the peak of resident memory.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// The CPU time of all threads of the server so far, user and system.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program is in parentheses and may contain any character, so the fields begin after
        // the last `)`.
        let (_, fields) = stat.rsplit_once(')').ok_or("no fields")?;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<std::result::Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }

    fn status_bytes(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no field")?;
        let kib = value.split_whitespace().next().ok_or("no value")?;
        Ok(kib.parse::<u64>()? << 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have ended already, which is no error here.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
