//! The network between the replicas and the primary: connections that carry calls, with latency, partitions, cuts in the
//! middle of a message, requests that arrive late or twice, and servers that do not know yet that their peer is gone.

use crate::pipe::{Item, Pipe};
use crate::rng::{Rng, chance};
use crate::sched::{self, Group, sleep_ms, spawn_in};
use crate::world::world;
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Body as _;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::StdError;
use walcast::client::{Answering, Carrier};

/// As `client` sets it.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// After this much silence HTTP/2's pings have told both ends (`client`: 8 and 4 s).
const KEEPALIVE_MS: u64 = 12_000;

/// One TCP connection.
struct Connection {
    /// Pumps of the client's end.
    client: Group,
    /// Calls and pumps of the server's end.
    server: Group,
    alive: Cell<bool>,
    to_client: RefCell<Vec<Pipe>>,
    to_server: RefCell<Vec<Pipe>>,
}

/// The way between one replica and the primary.
struct Link {
    blocked: Cell<bool>,
    waiting: RefCell<Vec<std::task::Waker>>,
    connection: RefCell<Option<Rc<Connection>>>,
    latency_ms: Cell<(u64, u64)>,
    rng: RefCell<Rng>,
    taken: Cell<u64>,
}

/// All links.
pub struct Net {
    links: Vec<Link>,
    window: usize,
    duplicates: u64,
}

impl Net {
    /// As the seed has it.
    pub fn new(rng: &mut Rng, links: usize) -> Net {
        let slow = rng.between(1, 40);
        let links = (0..links).map(|_| Link {
            blocked: Cell::new(false),
            waiting: RefCell::default(),
            connection: RefCell::default(),
            latency_ms: Cell::new((0, slow)),
            rng: RefCell::new(Rng::new(rng.next())),
            taken: Cell::new(0),
        });
        Net {
            links: links.collect(),
            window: 1 << rng.between(12, 22),
            duplicates: [0, 0, 10, 40][rng.below(4) as usize],
        }
    }

    /// The time that the next piece takes.
    pub fn latency(&self, link: usize) -> Duration {
        let link = &self.links[link];
        let (low, high) = link.latency_ms.get();
        Duration::from_millis(link.rng.borrow_mut().between(low, high))
    }

    /// True while nothing arrives; the task is woken when that is over.
    pub fn is_blocked(&self, link: usize, context: &Context<'_>) -> bool {
        let link = &self.links[link];
        if link.blocked.get() {
            link.waiting.borrow_mut().push(context.waker().clone());
        }
        link.blocked.get()
    }

    /// A replica took bytes of an answer out of the network.
    pub fn took(&self, link: usize, bytes: usize) {
        let taken = &self.links[link].taken;
        taken.set(taken.get() + bytes as u64);
        world().check_queue(link, taken.get());
    }

    /// Nothing arrives any more, in both directions. What takes longer than the keepalive kills the connection.
    pub fn block(&self, index: usize) {
        let link = &self.links[index];
        link.blocked.set(true);
        let Some(connection) = link.connection.borrow().clone() else {
            return;
        };
        sched::spawn(sched::WORLD, async move {
            sleep_ms(KEEPALIVE_MS).await;
            let net = &world().net;
            if net.links[index].blocked.get() && connection.alive.get() {
                world().note(format_args!("link {index}: the keepalive gave up"));
                net.close(index, &connection, 1);
            }
        });
    }

    /// What was under way arrives now.
    pub fn heal(&self, link: usize) {
        let link = &self.links[link];
        link.blocked.set(false);
        for waker in link.waiting.take() {
            waker.wake();
        }
    }

    /// From now on.
    pub fn set_latency(&self, link: usize, high_ms: u64) {
        self.links[link].latency_ms.set((0, high_ms));
    }

    /// Cuts the connection; the server learns of it later.
    pub fn cut(&self, index: usize, server_learns_ms: u64) {
        let connection = self.links[index].connection.borrow().clone();
        if let Some(connection) = connection {
            self.close(index, &connection, server_learns_ms);
        }
    }

    /// All of them.
    pub fn cut_all(&self, server_learns_ms: u64) {
        for link in 0..self.links.len() {
            self.cut(link, server_learns_ms);
        }
    }

    /// The peer is gone without a word: this end learns of it later.
    pub fn cut_after(&self, index: usize, ms: u64) {
        let connection = self.links[index].connection.borrow().clone();
        if let Some(connection) = connection {
            sched::spawn(sched::WORLD, async move {
                sleep_ms(ms).await;
                world().net.close(index, &connection, 0);
            });
        }
    }

    fn close(&self, index: usize, connection: &Rc<Connection>, server_learns_ms: u64) {
        if !connection.alive.replace(false) {
            return;
        }
        let mut current = self.links[index].connection.borrow_mut();
        if current.as_ref().is_some_and(|c| Rc::ptr_eq(c, connection)) {
            *current = None;
        }
        drop(current);
        for pipe in connection.to_client.take() {
            pipe.sever();
        }
        sched::kill(connection.client);
        let connection = connection.clone();
        sched::spawn(sched::WORLD, async move {
            sleep_ms(server_learns_ms).await;
            for pipe in connection.to_server.take() {
                pipe.sever();
            }
            sched::kill(connection.server);
        });
    }

    async fn connect(&self, index: usize) -> io::Result<Rc<Connection>> {
        let link = &self.links[index];
        if let Some(connection) = link.connection.borrow().clone() {
            return Ok(connection);
        }
        let unblocked = poll_fn(|context| match self.is_blocked(index, context) {
            true => std::task::Poll::Pending,
            false => std::task::Poll::Ready(()),
        });
        let patience = Duration::from_millis(CONNECT_TIMEOUT_MS);
        if tokio::time::timeout(patience, unblocked).await.is_err() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        tokio::time::sleep(self.latency(index) * 2).await;
        if world().primary.server().is_none() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        // Another call may have connected meanwhile.
        let mut current = link.connection.borrow_mut();
        let connection = current.get_or_insert_with(|| {
            Rc::new(Connection {
                client: sched::group(),
                server: sched::group(),
                alive: Cell::new(true),
                to_client: RefCell::default(),
                to_server: RefCell::default(),
            })
        });
        Ok(connection.clone())
    }

    async fn carry(
        &self,
        index: usize,
        node: Group,
        request: Request<Body>,
    ) -> Result<Response<Body>, StdError> {
        let connection = self.connect(index).await?;
        let (parts, body) = request.into_parts();
        let is_stream = parts.uri.path().ends_with("/Stream");
        if is_stream {
            // What came before is applied by now.
            self.links[index].taken.set(0);
            world().replicas[index].given.set(0);
            let sender = world().primary.began_after.get();
            world().replicas[index].sender_began_after.set(sender);
        }
        let to_server = Pipe::new(index, self.window);
        let to_client = Pipe::new(index, self.window);
        connection.to_server.borrow_mut().push(to_server.clone());
        connection.to_client.borrow_mut().push(to_client.clone());
        let link = &self.links[index];
        let twice = is_stream && chance(&mut link.rng.borrow_mut(), self.duplicates);
        let copy = twice.then(|| Pipe::new(index, self.window));
        let sends = [Some(to_server.clone()), copy.clone()];
        spawn_in([node, connection.client], async move {
            for pipe in pump(body, sends).await.into_iter().flatten() {
                pipe.send(Item::End).await;
            }
        });
        let rebuilt = |parts: &http::request::Parts, pipe: Pipe| {
            let mut request = Request::new(Body::new(pipe.body(false)));
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = parts.uri.clone();
            *request.headers_mut() = parts.headers.clone();
            request
        };
        self.serve(
            &connection,
            rebuilt(&parts, to_server),
            to_client.clone(),
            0,
        );
        if let Some(copy) = copy {
            connection.to_server.borrow_mut().push(copy.clone());
            let late = link.rng.borrow_mut().between(1, 3_000);
            world().note(format_args!(
                "link {index}: the request comes again after {late} ms"
            ));
            // Nobody reads the answer.
            let unread = Pipe::new(index, self.window);
            self.serve(&connection, rebuilt(&parts, copy), unread, late);
        }
        match to_client.receive().await? {
            Item::Head(parts) => Ok(Response::from_parts(
                *parts,
                Body::new(to_client.body(is_stream)),
            )),
            _ => Err("an answer without a head".into()),
        }
    }

    fn serve(&self, connection: &Connection, request: Request<Body>, answer: Pipe, late_ms: u64) {
        let Some((server, primary)) = world().primary.server() else {
            return answer.sever();
        };
        spawn_in([primary, connection.server], async move {
            sleep_ms(late_ms).await;
            let (parts, body) = server.call(request).await.into_parts();
            if answer.send(Item::Head(Box::new(parts))).await {
                for pipe in pump(body, [Some(answer), None]).await.into_iter().flatten() {
                    pipe.send(Item::End).await;
                }
            }
        });
    }
}

/// Moves a body into pipes, each frame in two pieces, so that a cut can come in the middle.
async fn pump(mut body: Body, mut pipes: [Option<Pipe>; 2]) -> [Option<Pipe>; 2] {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        let Some(Ok(frame)) = frame else { return pipes };
        for slot in &mut pipes {
            let Some(pipe) = slot else { continue };
            let open = match frame.data_ref() {
                Some(data) => send_in_pieces(pipe, data.clone()).await,
                None => {
                    let trailers = frame.trailers_ref().cloned().unwrap_or_default();
                    pipe.send(Item::Trailers(trailers)).await
                }
            };
            if !open {
                *slot = None;
            }
        }
        if pipes.iter().all(Option::is_none) {
            return pipes;
        }
    }
}

async fn send_in_pieces(pipe: &Pipe, mut data: Bytes) -> bool {
    let first = data.split_to(data.len() / 2);
    pipe.send(Item::Data(first)).await && pipe.send(Item::Data(data)).await
}

/// A replica's way to the primary.
#[derive(Debug)]
pub struct Way {
    pub link: usize,
    pub node: Group,
}

impl Carrier for Way {
    fn call(&self, request: Request<Body>) -> Answering {
        let (link, node) = (self.link, self.node);
        let (answer, wait) = tokio::sync::oneshot::channel();
        // The world is of this thread, and what the client waits for may be of any.
        sched::spawn(node, async move {
            let _ = answer.send(world().net.carry(link, node, request).await);
        });
        Box::pin(async move {
            match wait.await {
                Ok(answer) => answer,
                Err(_) => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            }
        })
    }
}
