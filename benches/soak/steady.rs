//! A primary and a replica that are never restarted, under load, with readers and bad networks: there everything that
//! walcast holds must be flat.

use crate::shared::{Shared, lock};
use crate::site::{Setup, Site, Watched};
use crate::support::child::Spec;
use crate::support::rng::Rng;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const NAME: &str = "steady";

/// All that an application does, and VACUUM and mass deletions each some ten seconds.
const MIX: &str = "one:600,hundred:60,blob:30,ddl:20,grow:4,shrink:4,massdel:1,savepoint:20,rollback:4,vacuum:1,ckpt:12,\
                   reopen:6,hold:10";

/// A fault of the network.
#[derive(Clone, Copy, Debug)]
pub enum Network {
    Cut,
    Refuse,
    Stall,
    Damage,
    Slow,
}

pub const NETWORK: [Network; 5] = [
    Network::Cut,
    Network::Refuse,
    Network::Stall,
    Network::Damage,
    Network::Slow,
];

impl Network {
    pub fn name(self) -> &'static str {
        match self {
            Network::Cut => "network: cut after some bytes",
            Network::Refuse => "network: cut, and refused for a while",
            Network::Stall => "network: stalled for a while",
            Network::Damage => "network: a byte damaged",
            Network::Slow => "network: slow for a while",
        }
    }

    /// From its begin to its end.
    pub fn strike(self, site: &Site, rng: &mut Rng) {
        let proxy = &site.cluster.proxy;
        let a_while = Duration::from_millis(rng.between(100, 5000));
        let moment = |count: &dyn Fn() -> u64, before: u64| {
            // Of a cluster that streams; if it does not, the fault waits for the next bytes.
            let _not_yet = site.wait("fault", Duration::from_secs(5), || {
                if count() > before {
                    Ok(())
                } else {
                    Err(String::new())
                }
            });
        };
        match self {
            Network::Cut => {
                let before = proxy.cuts();
                proxy.cut_after(rng.below(200_000));
                moment(&|| proxy.cuts(), before);
            }
            Network::Refuse => {
                proxy.refuse(true);
                proxy.cut();
                site.shared.pause(a_while);
                proxy.refuse(false);
            }
            Network::Stall => {
                proxy.stall(true);
                site.shared.pause(a_while);
                proxy.stall(false);
            }
            Network::Damage => {
                let before = proxy.flips();
                proxy.flip_after(rng.below(200_000));
                moment(&|| proxy.flips(), before);
            }
            Network::Slow => {
                proxy.delay(Duration::from_millis(rng.between(5, 100)));
                site.shared.pause(a_while);
                proxy.delay(Duration::ZERO);
            }
        }
    }
}

/// How much and how often.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Commits a second of the application.
    pub rate: u64,
    /// From rest to rest.
    pub epoch: Duration,
    /// What the shadow WAL keeps.
    pub retain: Duration,
}

/// Readers that look some times a second, and one that holds what it sees for up to `hold`, then leaves the log alone for
/// up to half of that: were one there all the time, the copy's log could never begin anew.
pub fn readers(hold: Duration) -> Vec<(&'static str, Spec)> {
    ["short", "long", "reconnect", "readonly"]
        .map(|mode| {
            let pause = if mode == "long" {
                hold / 4
            } else {
                Duration::from_millis(150)
            };
            let options = Spec::default()
                .with("pause_us", pause.as_micros())
                .with("busy_timeout", 20_000)
                .with("hold_ms", hold.as_millis());
            (mode, options)
        })
        .to_vec()
}

fn setup(seed: u64, pace: Pace) -> Setup {
    Setup {
        name: NAME,
        primary_args: vec![
            "--retain-age".to_owned(),
            format!("{}s", pace.retain.as_secs()),
        ],
        replica_args: Vec::new(),
        primary_env: Vec::new(),
        replica_env: Vec::new(),
        load: Spec::default()
            .with("seed", seed)
            .with("rate", pace.rate)
            .with("blob_kb", 64)
            .with("max_mb", 4)
            .with("mix", MIX),
        readers: readers(Duration::from_secs(20)),
        local_reader: true,
        prepare: |_| {},
    }
}

/// Until the run is over.
///
/// # Errors
/// What made it end early.
pub fn run(
    shared: &Arc<Shared>,
    dir: &Path,
    seed: u64,
    pace: Pace,
    watched: &Arc<Mutex<Watched>>,
) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut site = Site::start(shared, dir, setup(seed, pace), watched);
    let pids = servers(watched);
    let mut rest_at = shared.clock.awake() + pace.epoch;
    loop {
        shared.pause(Duration::from_millis(rng.between(3000, 15_000)));
        if shared.is_over() || shared.clock.awake() >= rest_at {
            site.rest()?;
            if servers(watched) != pids {
                return Err("a server was started again".to_owned());
            }
            if shared.is_over() {
                return Ok(());
            }
            site.go_on()?;
            rest_at = shared.clock.awake() + pace.epoch;
            continue;
        }
        let fault = NETWORK[rng.below(NETWORK.len() as u64) as usize];
        site.calm(false);
        fault.strike(&site, &mut rng);
        let time = site.wait_healed(&|_| false)?;
        shared.healed(&format!("{NAME}, {}", fault.name()), time);
        site.calm(true);
    }
}

fn servers(watched: &Mutex<Watched>) -> Vec<(String, u32)> {
    let pids = &lock(watched).pids;
    let is_server = |(part, _): &&(String, u32)| part == "primary" || part == "replica";
    pids.iter().filter(is_server).cloned().collect()
}
