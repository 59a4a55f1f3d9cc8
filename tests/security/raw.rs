//! HTTP/2 by hand, for peers that no library would make.

use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const RST_STREAM: u8 = 3;
pub const GOAWAY: u8 = 7;
pub const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// A frame that came.
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Plaintext or TLS.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

pub struct Raw {
    socket: Box<dyn Socket>,
}

impl Raw {
    /// Connects and greets.
    pub async fn connect(address: SocketAddr) -> Raw {
        let socket = TcpStream::connect(address).await.expect("a connection");
        Raw::over(Box::new(socket)).await
    }

    /// Greets on a connection that is there.
    pub async fn over(mut socket: Box<dyn Socket>) -> Raw {
        socket
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("a preface");
        let mut raw = Raw { socket };
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// Sends a frame; a peer that has closed is no error here.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = Vec::with_capacity(9 + payload.len());
        let length = u32::try_from(payload.len())
            .expect("a length")
            .to_be_bytes();
        frame.extend_from_slice(&length[1..]);
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        let _ = self.socket.write_all(&frame).await;
    }

    /// The next frame; `None`: the peer has closed.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame {
            kind: head[3],
            stream,
            payload,
        })
    }

    /// Waits until the peer closes; the last frame of that kind before it.
    pub async fn until_closed(&mut self, kind: u8) -> Option<Frame> {
        let mut last = None;
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                last = Some(frame);
            }
        }
        last
    }
}

/// The headers of a call: indexed and literal fields of HPACK, without Huffman and without the dynamic table.
pub fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // :method POST, :scheme http.
    let mut block = vec![0x83, 0x86];
    // :path and :authority by the static table's names.
    literal(&mut block, 4, None, path);
    literal(&mut block, 1, None, "localhost");
    literal(&mut block, 0, Some("content-type"), "application/grpc");
    literal(&mut block, 0, Some("te"), "trailers");
    for (name, value) in more {
        literal(&mut block, 0, Some(name), value);
    }
    block
}

fn literal(block: &mut Vec<u8>, index: u8, name: Option<&str>, value: &str) {
    block.push(index);
    for text in name.iter().chain([&value]) {
        length(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// HPACK's integer with a prefix of 7 bits.
fn length(block: &mut Vec<u8>, value: usize) {
    if value < 127 {
        block.push(value as u8);
        return;
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}
