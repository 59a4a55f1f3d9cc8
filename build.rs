//! Compiles the protos in Rust (protox), so that a fresh machine needs no protoc.
use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "walcast/v1/replication.proto",
        "walcast/v1/position.proto",
        "walcast/v1/admin.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Served by reflection, so that grpcurl can describe every message.
    fs::write(
        out.join("walcast_descriptor.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        // `Bytes` shares received buffers instead of copying each chunk once more.
        .bytes(".walcast.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
