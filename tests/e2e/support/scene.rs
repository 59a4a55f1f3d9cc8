//! A cluster at work: a writer on the primary, a replica that is level, readers on it.

use super::Scratch;
use super::checker::Required;
use super::child::Spec;
use super::cluster::Cluster;
use super::load::Load;
use super::rng::Rng;

pub struct Scene {
    pub cluster: Cluster,
    pub load: Load,
    pub rng: Rng,
    // Dropped last: the others have their files in it.
    _scratch: Scratch,
}

impl Scene {
    /// 400 commits/s with blobs of up to `blob_kb` KiB, and a reader in each of `modes`. `prepare` comes before anything
    /// is started.
    pub fn start(
        name: &str,
        seed: u64,
        blob_kb: u64,
        modes: &[&str],
        prepare: impl FnOnce(&mut Cluster),
    ) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        prepare(&mut cluster);
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", blob_kb)
            .with("max_mb", 8)
            .with("rate", 400);
        let mut load = Load::replicated(scratch.path(), &mut cluster, options, 10);
        let replica = cluster.replica_db().to_owned();
        for mode in modes {
            load.add_reader(&replica, mode, Spec::default());
        }
        Self {
            cluster,
            load,
            rng: Rng::new(seed),
            _scratch: scratch,
        }
    }

    /// The replica has what was committed before now.
    pub fn catch_up(&mut self) {
        self.cluster.wait_version(self.load.version());
    }

    /// The verdict, over at least `commits` commits; gives how many snapshots were sent.
    pub fn finish(mut self, commits: u64) -> usize {
        self.load.wait_reads(5);
        let report = self.load.stop_writer();
        self.cluster.assert_equal(report.or("version", 0));
        self.load.stop_readers();
        self.load.assert_right(&Required::new(commits, 5, 2));
        self.cluster.snapshots()
    }
}
