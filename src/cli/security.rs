//! Options of TLS, tokens and grants: one group for servers, one for the commands, one for what a replica follows.

use super::exit::{Exit, Failure};
use crate::config::{
    Grant, Permission, ServerOptions, ServerTls, TokenSource, UpstreamEntry, UpstreamTls,
};
use clap::Args;
use std::path::PathBuf;

/// A token, where no file has it.
const TOKEN: &str = "WALCAST_TOKEN";

/// How a server protects its ports.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Security")]
pub struct ServerSecurityArgs {
    /// TLS on all ports: the server's certificate and those that signed it, PEM; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Calls need a client certificate that one of these authorities signed, PEM. Beside --access-token-file it is the token that
    /// calls need, and a certificate that is shown must be good
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// Calls need the token in the first line of this file, which is read again when it changes. Who may do what in
    /// detail: walcast run --config
    #[arg(long, value_name = "FILE")]
    access_token_file: Option<PathBuf>,
    /// Listen beyond loopback without TLS, and send tokens without it: the network itself is private
    #[arg(long)]
    insecure: bool,
    /// Serve no gRPC reflection
    #[arg(long)]
    no_reflection: bool,
}

impl ServerSecurityArgs {
    /// Plaintext beyond loopback is meant.
    pub fn insecure(&self) -> bool {
        self.insecure
    }

    /// Puts them where the configuration has them.
    pub fn apply(&self, options: &mut ServerOptions) {
        options.insecure = self.insecure;
        options.reflection = !self.no_reflection;
        options.tls = self
            .tls_cert
            .clone()
            .zip(self.tls_key.clone())
            .map(|(cert, key)| ServerTls {
                cert,
                key,
                client_ca: self.tls_client_ca.clone(),
            });
        options.access = self
            .access_token_file
            .iter()
            .map(|path| Grant {
                name: "token".to_owned(),
                token: Some(TokenSource::File(path.clone())),
                client_name: None,
                databases: Vec::new(),
                allow: Permission::ALL.to_vec(),
            })
            .collect();
    }
}

/// How a command speaks to a server.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Security")]
pub struct ClientSecurityArgs {
    /// The authority that signed the server's certificate, PEM; default: those that the system believes
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate, for a server that asks for one, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The name that the server's certificate has, where it is not the URL's host
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// A file with our token in its first line; default: the token in the environment's WALCAST_TOKEN, if it is there
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Send the token without TLS beyond loopback: the network itself is private
    #[arg(long)]
    insecure: bool,
}

impl ClientSecurityArgs {
    /// The server at `url`, as the client takes it.
    pub fn entry(&self, url: &str) -> Result<UpstreamEntry, Failure> {
        Ok(UpstreamEntry {
            url: url.to_owned(),
            tls: UpstreamTls {
                ca: self.tls_ca.clone(),
                cert: self.tls_cert.clone(),
                key: self.tls_key.clone(),
                server_name: self.tls_server_name.clone(),
            },
            token: token(self.token_file.as_ref())?,
        })
    }

    /// A token may cross a network in plaintext.
    pub fn insecure(&self) -> bool {
        self.insecure
    }
}

/// How a replica speaks to its upstream; `--tls-*` are of its own ports.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Security of the upstream")]
pub struct UpstreamSecurityArgs {
    /// The authority that signed the upstream's certificate, PEM; default: those that the system believes
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_ca: Option<PathBuf>,
    /// Our certificate for the upstream, PEM; read again for each connection
    #[arg(long, value_name = "FILE", requires_all = ["upstream_key", "upstream"])]
    upstream_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "upstream_cert")]
    upstream_key: Option<PathBuf>,
    /// The name that the upstream's certificate has, where it is not the URL's host
    #[arg(long, value_name = "NAME", requires = "upstream")]
    upstream_server_name: Option<String>,
    /// A file with our token for the upstream in its first line, read again for each call; default: the token in the
    /// environment's WALCAST_TOKEN, if it is there
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_token_file: Option<PathBuf>,
}

impl UpstreamSecurityArgs {
    /// The upstream at `url`, as the client takes it.
    pub fn entry(&self, url: &str) -> Result<UpstreamEntry, Failure> {
        Ok(UpstreamEntry {
            url: url.to_owned(),
            tls: UpstreamTls {
                ca: self.upstream_ca.clone(),
                cert: self.upstream_cert.clone(),
                key: self.upstream_key.clone(),
                server_name: self.upstream_server_name.clone(),
            },
            token: token(self.upstream_token_file.as_ref())?,
        })
    }
}

fn token(file: Option<&PathBuf>) -> Result<Option<TokenSource>, Failure> {
    if let Some(path) = file {
        return Ok(Some(TokenSource::File(path.clone())));
    }
    match std::env::var(TOKEN) {
        Ok(token) if token.is_empty() => Ok(None),
        Ok(token) => Ok(Some(TokenSource::Value(token))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(Failure::new(
            Exit::Usage,
            format!("the token in {TOKEN} is no text"),
        )),
    }
}
