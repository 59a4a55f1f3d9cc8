//! walcast: a primary and a replica, by gRPC on the loopback.

use crate::cluster::Cluster;
use crate::proxy::Proxy;
use crate::system::{Reader, System};
use std::ffi::OsString;
use std::path::Path;

const NO_PROXY: &str = "nothing counted";

pub struct Walcast {
    cluster: Cluster,
    proxy: Option<Proxy>,
    replica: OsString,
}

impl Walcast {
    pub fn start(root: &Path, db: &Path, counted: bool) -> anyhow::Result<Walcast> {
        let mut cluster = Cluster::start(root, db, 0)?;
        let proxy = counted.then(Proxy::start);
        if let Some(proxy) = &proxy {
            let address = cluster.upstream.trim_start_matches("http://");
            proxy.set_target(address.parse()?);
            cluster.upstream = format!("http://{}", proxy.addr());
        }
        // The primary reads the whole file once when it starts.
        cluster.tip()?;
        let replica = root.join("replica").join(crate::cluster::NAME).into();
        Ok(Walcast {
            cluster,
            proxy,
            replica,
        })
    }
}

impl System for Walcast {
    fn application(&self) -> OsString {
        self.cluster.primary.path.clone().into()
    }

    fn reader(&self) -> Reader {
        Reader::Own(self.replica.clone())
    }

    fn start_replica(&mut self) -> anyhow::Result<()> {
        self.cluster.add_replica("replica").map(drop)
    }

    fn stop_replica(&mut self) -> anyhow::Result<()> {
        self.cluster.stop_replica(0)
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let replicas = self.cluster.replicas.iter();
        let servers = std::iter::once(&self.cluster.primary).chain(replicas);
        Ok(servers.map(|server| server.process.id()).collect())
    }

    fn transferred(&self) -> Result<u64, &'static str> {
        let proxy = self.proxy.as_ref().ok_or(NO_PROXY)?;
        Ok(proxy.to_client() + proxy.to_server())
    }

    fn verify(&self) -> anyhow::Result<()> {
        self.cluster.verify()
    }
}
