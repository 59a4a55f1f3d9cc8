//! The proxy against a server that sends back what it gets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::support::proxy::Proxy;
use crate::support::wait_for;

/// An echo server on a free port; its threads end with their connections.
fn echo_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut other = stream.try_clone().expect("clone");
                std::io::copy(&mut stream, &mut other).ok();
            });
        }
    });
    addr
}

fn proxied() -> Proxy {
    let proxy = Proxy::start();
    proxy.set_target(echo_server());
    proxy
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).expect("connect");
    let limit = Some(Duration::from_secs(10));
    stream.set_read_timeout(limit).expect("timeout");
    stream
}

/// Sends and reads the same number of bytes back.
fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

#[test]
fn bytes_pass_and_are_counted() {
    let proxy = proxied();
    let mut stream = connect(&proxy);
    assert_eq!(round_trip(&mut stream, b"hello").expect("pass"), b"hello");
    assert_eq!(
        (proxy.to_server(), proxy.to_client(), proxy.accepted()),
        (5, 5, 1)
    );
}

#[test]
fn a_cut_ends_connections_and_new_ones_pass() {
    let proxy = proxied();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, b"x").expect("pass");
    proxy.cut();
    assert!(round_trip(&mut stream, b"x").is_err());
    round_trip(&mut connect(&proxy), b"x").expect("a new one passes");
    proxy.refuse(true);
    assert!(round_trip(&mut connect(&proxy), b"x").is_err(), "refused");
    proxy.refuse(false);
    round_trip(&mut connect(&proxy), b"x").expect("taken again");
}

#[test]
fn a_stall_holds_bytes_and_loses_none() {
    let proxy = proxied();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, b"x").expect("pass");
    proxy.stall(true);
    stream.write_all(b"later").expect("send");
    let soon = Some(Duration::from_millis(100));
    stream.set_read_timeout(soon).expect("timeout");
    let mut back = [0; 5];
    assert!(stream.read(&mut back).is_err(), "nothing moves");
    proxy.stall(false);
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("timeout");
    stream.read_exact(&mut back).expect("it comes");
    assert_eq!(&back, b"later");
}

#[test]
fn one_byte_is_flipped_where_it_was_asked() {
    let proxy = proxied();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, b"start").expect("pass");
    proxy.flip_after(3);
    let back = round_trip(&mut stream, &[0; 10]).expect("pass");
    assert_eq!(back, [0, 0, 0, 0x55, 0, 0, 0, 0, 0, 0]);
    assert_eq!(proxy.flips(), 1);
    assert_eq!(
        round_trip(&mut stream, &[0; 10]).expect("pass"),
        [0; 10],
        "once"
    );
}

#[test]
fn a_cut_comes_after_its_bytes() {
    let proxy = proxied();
    let mut stream = connect(&proxy);
    round_trip(&mut stream, b"start").expect("pass");
    proxy.cut_after(7);
    stream.write_all(&[1; 100]).expect("send");
    let mut back = Vec::new();
    // How the end is told (EOF or reset) is the system's choice; how much came is not.
    let _end = stream.read_to_end(&mut back);
    assert_eq!(back, [1; 7]);
    wait_for("the cut to be counted", || {
        if proxy.cuts() == 1 {
            Ok(())
        } else {
            Err(String::new())
        }
    });
    round_trip(&mut connect(&proxy), &[1; 100]).expect("once");
    proxy.cut_after_each([5, 3].into());
    for n in [5, 3] {
        let mut stream = connect(&proxy);
        stream.write_all(&[2; 100]).expect("send");
        back.clear();
        let _end = stream.read_to_end(&mut back);
        assert_eq!(back, vec![2; n]);
    }
    round_trip(&mut connect(&proxy), &[1; 100]).expect("no third");
}

#[test]
fn a_proxy_without_a_target_closes() {
    let proxy = Proxy::start();
    assert!(round_trip(&mut connect(&proxy), b"x").is_err());
    proxy.set_target(echo_server());
    round_trip(&mut connect(&proxy), b"x").expect("passes now");
    proxy.delay(Duration::from_millis(1));
    round_trip(&mut connect(&proxy), b"x").expect("passes late");
}
