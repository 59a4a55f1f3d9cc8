//! Certificate authorities of a test, and what they sign.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::path::{Path, PathBuf};

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate is good.
#[derive(Clone, Copy)]
pub enum Valid {
    Now,
    Past,
    Future,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Authority {
            issuer: CertifiedIssuer::self_signed(params, key).expect("an authority"),
        }
    }

    /// Its certificate as a file.
    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        replace(&path, &self.issuer.pem());
        path
    }

    /// Signs a certificate. `names`: its subjectAltName; `common`: its common name.
    pub fn sign(
        &self,
        at: &Pair,
        names: &[&str],
        common: &str,
        usage: ExtendedKeyUsagePurpose,
        valid: Valid,
    ) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = match valid {
            Valid::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2120, 1, 1)),
            Valid::Past => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Valid::Future => (date_time_ymd(2119, 1, 1), date_time_ymd(2120, 1, 1)),
        };
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a signature");
        replace(&at.key, &key.serialize_pem());
        replace(&at.cert, &cert.pem());
    }

    pub fn server(&self, dir: &Path, name: &str, names: &[&str], valid: Valid) -> Pair {
        let pair = Pair::at(dir, name);
        self.sign(
            &pair,
            names,
            "server",
            ExtendedKeyUsagePurpose::ServerAuth,
            valid,
        );
        pair
    }

    pub fn client(&self, dir: &Path, name: &str, names: &[&str], common: &str) -> Pair {
        let pair = Pair::at(dir, name);
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.sign(&pair, names, common, usage, Valid::Now);
        pair
    }
}

impl Pair {
    pub fn at(dir: &Path, name: &str) -> Pair {
        Pair {
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        }
    }
}

/// As careful administrators do it: the name never leads to half a file.
pub fn replace(path: &Path, text: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).expect("a file");
    std::fs::rename(&partial, path).expect("a name");
}
