//! What the parts cost that every commit passes through. All run over the same realistic rows.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use walcast::format::dbsum::page_hash;
use walcast::format::lz4;
use walcast::format::wal::{
    Cksum, FRAME_HEADER_SIZE, FrameScanner, ScanEnd, WalHeader, checksum, seal_frame,
};
use walcast::sums::Sums;

const PAGE: usize = 4096;
/// A batch of a busy application: 16 pages and their headers.
const BATCH: usize = 16;
/// As large as chunks get.
const CHUNK: usize = 254;

/// A page of JSON and text rows, as a shop's.
fn page(seed: u64) -> Vec<u8> {
    let mut text = String::new();
    let mut state = seed;
    while text.len() < PAGE {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        text.push_str(&format!(
            "{{\"order\":{},\"customer\":\"customer-{:04}\",\"sku\":\"{:06x}\",\"qty\":{},\"note\":\"leave at the door\"}}",
            mixed >> 40,
            mixed % 9973,
            mixed & 0xff_ffff,
            mixed % 9
        ));
    }
    text.truncate(PAGE);
    text.into_bytes()
}

/// A log of that many frames, the last one a commit.
fn log(header: &WalHeader, frames: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut sum = header.cksum;
    for i in 0..frames {
        let mut frame = vec![0; FRAME_HEADER_SIZE];
        frame.extend(page(i as u64));
        let (pgno, commit) = (
            i as u32 + 1,
            if i + 1 == frames { frames as u32 } else { 0 },
        );
        sum = seal_frame(
            &mut frame,
            header.big_endian,
            pgno,
            commit,
            header.salt,
            sum,
        );
        bytes.extend(frame);
    }
    bytes
}

fn wal(c: &mut Criterion) {
    let header = WalHeader::new(PAGE as u32, 1, [1, 2]);
    let mut group = c.benchmark_group("wal");
    let bytes = page(1);
    group.throughput(Throughput::Bytes(PAGE as u64));
    for (name, big_endian) in [
        ("checksum_little_endian", false),
        ("checksum_big_endian", true),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| checksum(big_endian, black_box(&bytes), Cksum(1, 2)))
        });
    }
    for frames in [2, CHUNK] {
        let bytes = log(&header, frames);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("scan_{frames}_frames"), |b| {
            b.iter(|| {
                let mut scanner = FrameScanner::new(&header, header.cksum, black_box(&bytes));
                assert_eq!(scanner.finish(), ScanEnd::End);
                scanner.cksum()
            })
        });
    }
    let sealed = log(&header, 1);
    group.throughput(Throughput::Bytes(sealed.len() as u64));
    group.bench_function("seal_frame", |b| {
        let mut frame = sealed.clone();
        b.iter(|| {
            seal_frame(
                black_box(&mut frame),
                header.big_endian,
                7,
                0,
                header.salt,
                Cksum(1, 2),
            )
        })
    });
    group.finish();
}

fn database_checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("database_checksum");
    let bytes = page(1);
    group.throughput(Throughput::Bytes(PAGE as u64));
    group.bench_function("page_hash", |b| b.iter(|| page_hash(7, black_box(&bytes))));
    let zeros = vec![0; PAGE];
    group.bench_function("page_hash_of_zeros", |b| {
        b.iter(|| page_hash(7, black_box(&zeros)))
    });
    group.finish();

    // What a commit of 3 pages, and one of 1,000, adds.
    let here = tempfile::tempdir().expect("a directory");
    let mut sums = Sums::create(here.path(), PAGE as u32).expect("a table");
    for pages in [3u32, 1000] {
        let mut hash = 1;
        c.bench_function(&format!("database_checksum/commit_of_{pages}_pages"), |b| {
            b.iter(|| {
                hash += 1;
                for pgno in 1..=pages {
                    sums.set(pgno * 17, black_box(hash)).expect("room");
                }
                sums.resize(20_000);
                sums.commit();
                sums.sum()
            })
        });
    }
}

fn compression(c: &mut Criterion) {
    let header = WalHeader::new(PAGE as u32, 1, [1, 2]);
    let mut group = c.benchmark_group("lz4");
    for (name, frames) in [
        ("commit_of_2_pages", 2),
        ("64_KiB", BATCH),
        ("1_MiB", CHUNK),
    ] {
        let bytes = log(&header, frames);
        let mut packed = Vec::new();
        lz4::compress(&bytes, &mut packed).expect("it fits");
        println!("lz4/{name}: {} to {} bytes", bytes.len(), packed.len());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("compress_{name}"), |b| {
            let mut out = Vec::with_capacity(packed.len());
            b.iter(|| {
                out.clear();
                lz4::compress(black_box(&bytes), &mut out).expect("it fits");
            })
        });
        group.bench_function(format!("decompress_{name}"), |b| {
            b.iter_batched_ref(
                || Vec::with_capacity(bytes.len()),
                |out| lz4::decompress(black_box(&packed), bytes.len(), out).expect("our own"),
                BatchSize::LargeInput,
            )
        });
    }
    group.finish();
}

/// What a replica computes for a chunk, from the wire to frames of its own log; its disk and shared memory are measured
/// end to end.
fn applying(c: &mut Criterion) {
    let header = WalHeader::new(PAGE as u32, 1, [1, 2]);
    let own = WalHeader::new(PAGE as u32, 9, [7, 8]);
    let mut group = c.benchmark_group("apply_without_disk");
    for (name, frames) in [("commit_of_2_pages", 2), ("1_MiB", CHUNK)] {
        let bytes = log(&header, frames);
        let mut packed = Vec::new();
        lz4::compress(&bytes, &mut packed).expect("it fits");
        let (mut chunk, mut frame) = (Vec::new(), vec![0; FRAME_HEADER_SIZE + PAGE]);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                chunk.clear();
                lz4::decompress(black_box(&packed), bytes.len(), &mut chunk).expect("our own");
                let mut scanner = FrameScanner::new(&header, header.cksum, &chunk);
                let (mut sum, mut hashes) = (own.cksum, 0);
                for found in scanner.by_ref() {
                    let (pgno, commit) = (found.header.pgno, found.header.commit_size);
                    hashes ^= page_hash(pgno, found.data);
                    frame[FRAME_HEADER_SIZE..].copy_from_slice(found.data);
                    sum = seal_frame(&mut frame, own.big_endian, pgno, commit, own.salt, sum);
                }
                assert_eq!(scanner.end(), Some(ScanEnd::End));
                (sum, hashes)
            })
        });
    }
    group.finish();
}

criterion_group!(parts, wal, database_checksum, compression, applying);
criterion_main!(parts);
