//! The floor under every lag: the same bytes through a TCP connection and back, and nothing else.

use crate::clock::{now_ns, precise_sleeps, sleep_until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// Bytes of the log for a commit of one row: about two frames.
const BYTES: usize = 2 * 4120;

/// Round trips, in rising order, ns.
pub fn round_trips(rate: u64, seconds: u64) -> anyhow::Result<Vec<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; BYTES];
        while server
            .read_exact(&mut buffer)
            .and_then(|()| server.write_all(&buffer))
            .is_ok()
        {}
    });
    let client_thread = std::thread::spawn(move || -> std::io::Result<Vec<u64>> {
        precise_sleeps();
        let mut buffer = [7; BYTES];
        let begin = now_ns();
        let mut took = Vec::new();
        for i in 0..rate * seconds {
            sleep_until(begin + i * 1_000_000_000 / rate);
            let before = now_ns();
            client.write_all(&buffer)?;
            client.read_exact(&mut buffer)?;
            took.push(now_ns() - before);
        }
        Ok(took)
    });
    let mut took = client_thread.join().expect("it returns errors")?;
    echo.join().expect("it returns errors");
    took.sort_unstable();
    Ok(took)
}
