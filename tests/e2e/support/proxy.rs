//! A TCP proxy between replica and primary, in threads of the test: it cuts, refuses, stalls,
//! delays, damages and counts. It also keeps one address for a primary that restarts on another.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How soon a thread notices a changed knob.
const TICK: Duration = Duration::from_millis(5);

/// What happens once, when the count of bytes from the server reaches a value.
#[derive(Default)]
struct Faults {
    flip_at: Option<u64>,
    cut_at: Option<u64>,
    /// Each is armed by the cut before it, so that no byte passes between.
    next_cuts: VecDeque<u64>,
}

#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    faults: Mutex<Faults>,
    conns: Mutex<Vec<(TcpStream, TcpStream)>>,
    refuse: AtomicBool,
    stall: AtomicBool,
    ending: AtomicBool,
    delay_us: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    accepted: AtomicU64,
    flips: AtomicU64,
    cuts: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The proxy; dropping it ends it.
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port; without a target it accepts and closes.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the proxy");
        let addr = listener.local_addr().expect("address of the proxy");
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, &of_thread));
        Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where new connections go from now on.
    pub fn set_target(&self, target: SocketAddr) {
        *lock(&self.shared.target) = Some(target);
    }

    /// Closes all connections; new ones are taken unless `refuse` is on.
    pub fn cut(&self) {
        self.shared.cut();
    }

    pub fn refuse(&self, on: bool) {
        self.shared.refuse.store(on, Ordering::SeqCst);
    }

    /// Connections stay open, no byte moves: what a lost route looks like.
    pub fn stall(&self, on: bool) {
        self.shared.stall.store(on, Ordering::SeqCst);
    }

    /// Added before each piece that is passed on.
    pub fn delay(&self, by: Duration) {
        let us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.shared.delay_us.store(us, Ordering::SeqCst);
    }

    /// Inverts one bit pattern in the byte that is `n` bytes from now in the server's stream.
    pub fn flip_after(&self, n: u64) {
        let at = self.to_client() + n;
        lock(&self.shared.faults).flip_at = Some(at);
    }

    /// Passes `n` more bytes of the server's on and cuts there, once.
    pub fn cut_after(&self, n: u64) {
        let at = self.to_client() + n;
        lock(&self.shared.faults).cut_at = Some(at);
    }

    /// `cut_after` the first number of bytes, then each other number after the cut before.
    pub fn cut_after_each(&self, mut pieces: VecDeque<u64>) {
        let first = pieces.pop_front();
        let mut faults = lock(&self.shared.faults);
        faults.cut_at = first.map(|n| self.to_client() + n);
        faults.next_cuts = pieces;
    }

    pub fn to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::SeqCst)
    }

    pub fn to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::SeqCst)
    }

    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many armed flips have happened.
    pub fn flips(&self) -> u64 {
        self.shared.flips.load(Ordering::SeqCst)
    }

    /// How many armed cuts have happened.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        self.shared.cut();
        // Wakes the acceptor, which then sees `ending`.
        let _wake = TcpStream::connect(self.addr);
        if let Some(thread) = self.acceptor.take() {
            let _its_panic_was_printed = thread.join();
        }
    }
}

impl Shared {
    fn cut(&self) {
        for (one, other) in lock(&self.conns).drain(..) {
            for stream in [one, other] {
                let _closed_already = stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ending() {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.refuse.load(Ordering::SeqCst) {
            continue;
        }
        let target = *lock(&shared.target);
        let Some(Ok(server)) = target.map(TcpStream::connect) else {
            continue;
        };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = join(client, server, shared) {
            eprintln!("proxy: {error}");
        }
    }
}

fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
    }
    lock(&shared.conns).push((client.try_clone()?, server.try_clone()?));
    let pairs = [
        (client.try_clone()?, server.try_clone()?, false),
        (server, client, true),
    ];
    for (from, to, from_server) in pairs {
        let shared = Arc::clone(shared);
        // Ends with its connection, which `Drop` cuts.
        std::thread::spawn(move || {
            pump(from, to, from_server, &shared);
        });
    }
    Ok(())
}

fn pump(mut from: TcpStream, mut to: TcpStream, from_server: bool, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    while !shared.ending() {
        if shared.stall.load(Ordering::SeqCst) {
            std::thread::sleep(TICK);
            continue;
        }
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => break,
        };
        // A stall that began while we waited for these bytes holds them too.
        while shared.stall.load(Ordering::SeqCst) && !shared.ending() {
            std::thread::sleep(TICK);
        }
        let delay = shared.delay_us.load(Ordering::SeqCst);
        if delay > 0 {
            std::thread::sleep(Duration::from_micros(delay));
        }
        let goes_on = if from_server {
            pass_down(&mut to, &mut buffer[..n], shared)
        } else {
            shared.to_server.fetch_add(n as u64, Ordering::SeqCst);
            to.write_all(&buffer[..n]).is_ok()
        };
        if !goes_on {
            break;
        }
    }
    for stream in [&from, &to] {
        let _closed_already = stream.shutdown(Shutdown::Both);
    }
}

/// Passes the server's bytes on, with the armed faults; false when the connection is over.
fn pass_down(to: &mut TcpStream, bytes: &mut [u8], shared: &Shared) -> bool {
    // Under the lock, so that two connections do not both take one fault.
    let mut faults = lock(&shared.faults);
    let start = shared.to_client.load(Ordering::SeqCst);
    let end = start + bytes.len() as u64;
    let index = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(0);
    if let Some(at) = faults.flip_at.filter(|&at| at < end) {
        bytes[index(at)] ^= 0x55;
        faults.flip_at = None;
        shared.flips.fetch_add(1, Ordering::SeqCst);
    }
    let cut = faults.cut_at.filter(|&at| at < end);
    let kept = cut.map_or(bytes.len(), index);
    shared.to_client.fetch_add(kept as u64, Ordering::SeqCst);
    if let Some(at) = cut {
        faults.cut_at = faults.next_cuts.pop_front().map(|n| at + n);
    }
    drop(faults);
    let written = to.write_all(&bytes[..kept]).is_ok();
    if cut.is_some() {
        shared.cut();
        shared.cuts.fetch_add(1, Ordering::SeqCst);
        return false;
    }
    written
}
