//! A minimal HTTP/1.1 client on one keep-alive connection: sequential requests and responses with a
//! `Content-Length`.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::Result;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Http {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), buffer: vec![0; 256 << 10] })
    }

    /// Copies a folder by the REST call of upstream.
    pub(crate) async fn copy(&mut self, source: &str, destination: &str) -> Result<()> {
        let body = format!(
            r#"{{"RemoteSource":"{source}","RemoteDestination":"{destination}","SkipFiles":[],"CheckMarkFile":false}}"#
        );
        let target = "/ImageStore/$/Copy?api-version=6.0";
        self.request("POST", target, body.as_bytes()).await.map(drop)
    }

    /// Uploads a file by the REST call of upstream.
    pub(crate) async fn upload(&mut self, path: &str, body: &[u8]) -> Result<()> {
        let target = format!("/ImageStore/{path}?api-version=6.0");
        self.request("PUT", &target, body).await.map(drop)
    }

    /// Downloads a file and returns its length; the bytes are dropped.
    pub(crate) async fn download(&mut self, path: &str) -> Result<u64> {
        self.request("GET", &format!("/ImageStore/{path}/$/Content"), &[]).await
    }

    /// Sends a request, discards the body of the response, and returns the length of that body.
    async fn request(&mut self, method: &str, target: &str, body: &[u8]) -> Result<u64> {
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut first = head.into_bytes();
        // A small body goes in one packet with the head, as common clients send it.
        let (near, far) = body.split_at(length.min(64 << 10));
        first.extend_from_slice(near);
        self.stream.get_mut().write_all(&first).await?;
        self.stream.get_mut().write_all(far).await?;
        let (status, length) = self.head().await?;
        let mut left = length;
        while left > 0 {
            let most = self.buffer.len().min(usize::try_from(left)?);
            let room = self.buffer.get_mut(..most).ok_or("no room")?;
            let read = self.stream.read(room).await?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            left -= read as u64;
        }
        if !status.contains(" 20") {
            return Err(format!("{method} {target}: {status}").into());
        }
        Ok(length)
    }

    /// Reads the head of a response: its status line, and the length of its body.
    async fn head(&mut self) -> Result<(String, u64)> {
        let mut status = String::new();
        self.stream.read_line(&mut status).await?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err("the server closed the connection".into());
            }
            if line == "\r\n" {
                return Ok((status.trim().to_owned(), length));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
    }
}
