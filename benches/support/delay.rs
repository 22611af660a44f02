//! A TCP proxy that delays all bytes in both directions, as a longer way to the database would.
//!
//! It uses threads, since a timer of the runtime is a millisecond late.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use super::Result;

/// The bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// The URL of a database behind a proxy that delays its messages; the same URL without a delay.
pub(crate) fn behind(url: &str, delay: Duration) -> Result<String> {
    if delay.is_zero() {
        return Ok(url.to_owned());
    }
    let (user, rest) = url.split_once('@').ok_or("the URL has no user")?;
    let (host, database) = rest.split_once('/').ok_or("the URL has no database")?;
    let target = host.to_socket_addrs()?.next().ok_or("the database has no address")?;
    Ok(format!("{user}@{}/{database}", start(target, delay)?))
}

/// Starts a proxy to `target`, until the program ends. Returns its address.
fn start(target: SocketAddr, delay: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    spawn(move || {
        for client in listener.incoming() {
            let linked =
                client.and_then(|client| link(&client, &TcpStream::connect(target)?, delay));
            if linked.is_err() {
                return;
            }
        }
    });
    Ok(address)
}

/// Passes the bytes of two connections on to each other.
fn link(one: &TcpStream, other: &TcpStream, delay: Duration) -> std::io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        to.set_nodelay(true)?;
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (sender, chunks) = channel();
        spawn(move || receive(from, &sender, delay));
        spawn(move || send(&chunks, to));
    }
    Ok(())
}

/// Reads to the end of a connection, and gives each chunk the time at which it is due.
fn receive(mut from: TcpStream, chunks: &Sender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.iter().take(length).copied().collect();
        if chunks.send((Instant::now() + delay, bytes)).is_err() {
            return;
        }
    }
}

/// Sends each chunk when it is due.
fn send(chunks: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (due, bytes) in chunks {
        sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            break;
        }
    }
    // The other side may have closed the connection already.
    to.shutdown(Shutdown::Both).ok();
}
