//! The decisions of a replica, and the proof that follows them, under any order of what a primary once said: an input is a
//! script that repeats, skips, exchanges and damages the messages of a recorded life, and cuts its connections. Whatever
//! becomes visible is a state that the primary had at that position.

use prost::Message as _;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;
use std::sync::OnceLock;
use walcast::format::base64;
use walcast::format::dbsum::page_hash;
use walcast::model::Message;
use walcast::replica::parts::{Action, MAX_UNPACKED, Machine, Pages};
use walcast::wire::pb;

/// What a primary of protocol 1 answered, one list for each connection, with an outage and another generation in it.
static RECORD: &str = include_str!("../skew/version-1.txt");

fn calls() -> &'static [Vec<Vec<u8>>] {
    static CALLS: OnceLock<Vec<Vec<Vec<u8>>>> = OnceLock::new();
    CALLS.get_or_init(|| {
        let mut calls = Vec::new();
        for line in RECORD.lines() {
            match line.split_once(' ') {
                Some(("request", _)) => calls.push(Vec::new()),
                Some(("answer", packed)) => {
                    let packed = base64::decode(packed).expect("base64");
                    let mut bytes = Vec::new();
                    let mut frame = lz4_flex::frame::FrameDecoder::new(packed.as_slice());
                    frame.read_to_end(&mut bytes).expect("an LZ4 frame");
                    calls.last_mut().expect("a request before").push(bytes);
                }
                _ => {}
            }
        }
        calls
    })
}

/// A copy as the machine makes it: a hash for each page.
#[derive(Default)]
struct Copy {
    machine: Option<Machine>,
    visible: BTreeMap<u32, u64>,
    hidden: BTreeMap<u32, u64>,
    /// A snapshot is being laid down: what was visible is given up with its end.
    seeding: bool,
    page_size: usize,
    /// No message was damaged.
    honest: bool,
    /// What is right is not known yet.
    learning: bool,
}

impl Copy {
    fn machine(&mut self) -> &mut Machine {
        self.machine
            .get_or_insert_with(|| Machine::new(None, false))
    }

    fn connected(&mut self) {
        self.machine().connected();
        self.hidden.clear();
        self.seeding = false;
    }

    /// Feeds one message. After an error a stream is over.
    fn feed(&mut self, bytes: &[u8]) {
        let Ok(response) = pb::StreamResponse::decode(bytes) else {
            return self.connected();
        };
        let Ok(message) = Message::try_from(response) else {
            return self.connected();
        };
        match self.machine().step(message) {
            Ok(actions) => actions.into_iter().for_each(|action| self.act(action)),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                self.connected();
            }
        }
    }

    fn take(&mut self, pages: &Pages) {
        assert!(pages.bytes.len() <= MAX_UNPACKED);
        for page in &pages.list {
            assert!(page.pgno > 0);
            let bytes = &pages.bytes[page.at..page.at + self.page_size];
            self.hidden.insert(page.pgno, page_hash(page.pgno, bytes));
        }
    }

    fn act(&mut self, action: Action) {
        self.page_size = self.machine().page_size() as usize;
        let mark = match action {
            Action::BeginSnapshot { page_size, .. } => {
                assert_eq!(page_size as usize, self.page_size);
                self.hidden.clear();
                self.seeding = true;
                return;
            }
            Action::Append(pages) => return self.take(&pages),
            Action::Publish(pages, mark) => {
                assert!(!self.seeding, "a commit within a snapshot");
                self.take(&pages);
                mark
            }
            Action::EndSnapshot(mark) => {
                assert!(self.seeding, "no snapshot began");
                mark
            }
            Action::Greeted { .. } | Action::Seen { .. } => return,
        };
        // As a replica does: what is not proven does not become visible, and the stream ends.
        let mut pages = match self.seeding {
            true => BTreeMap::new(),
            false => self.visible.clone(),
        };
        pages.append(&mut self.hidden);
        pages.retain(|pgno, _| *pgno <= mark.point.page_count);
        if pages.values().fold(0, |sum, hash| sum ^ hash) != mark.point.dbsum.0 {
            self.machine().forget_local();
            return self.connected();
        }
        self.visible = pages;
        self.seeding = false;
        self.machine().published(mark);
        if self.learning {
            return;
        }
        // A damaged message may name another position for a state, which is proven all the same.
        let position = mark.point.position.to_string();
        match states().get(&position) {
            Some(known) => assert_eq!(*known, hash(&self.visible), "{position}"),
            None => assert!(!self.honest, "{position} never was"),
        }
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What the primary had, by position: what comes of everything in its order.
fn states() -> &'static BTreeMap<String, u64> {
    static STATES: OnceLock<BTreeMap<String, u64>> = OnceLock::new();
    STATES.get_or_init(|| {
        let (mut copy, mut states) = (Copy::default(), BTreeMap::new());
        copy.learning = true;
        for call in calls() {
            copy.connected();
            for message in call {
                copy.feed(message);
                if let Some(mark) = copy.machine().local() {
                    states.insert(mark.point.position.to_string(), hash(&copy.visible));
                }
            }
        }
        assert!(
            states.len() > 10,
            "the record holds {} states",
            states.len()
        );
        states
    })
}

/// Two bytes for each step: what, and which.
pub fn step(script: &[u8]) {
    let calls = calls();
    let mut copy = Copy {
        honest: true,
        ..Copy::default()
    };
    let (mut call, mut next) = (0, 0);
    copy.connected();
    // Longer ones show nothing new, and take long.
    for (what, which) in script
        .as_chunks::<2>()
        .0
        .iter()
        .take(200)
        .map(|[a, b]| (a, usize::from(*b)))
    {
        match what % 8 {
            // On, for some messages.
            0..=2 => {
                for _ in 0..which % 4 {
                    if let Some(message) = calls[call].get(next) {
                        copy.feed(message);
                        next += 1;
                    }
                }
            }
            // One is lost.
            3 => next += 1,
            // One comes again, or too early, or out of another connection.
            4 => {
                let all: Vec<_> = calls.iter().flatten().collect();
                copy.feed(all[which % all.len()]);
            }
            // Back, or forth.
            5 => next = which % (calls[call].len() + 1),
            // Another connection, from its beginning.
            6 => {
                copy.connected();
                (call, next) = (which % calls.len(), 0);
            }
            // A bit is another.
            _ => {
                if let Some(message) = calls[call].get(next) {
                    let mut message = message.clone();
                    let at = (which * 257) % message.len();
                    message[at] ^= 1 << (what / 8 % 8);
                    copy.honest = false;
                    copy.feed(&message);
                    next += 1;
                }
            }
        }
    }
}
