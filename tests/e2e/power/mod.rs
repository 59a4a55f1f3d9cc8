//! Power loss: what processes do to the disk is recorded, disks are made as they may be after a power cut at any point of
//! it, and everything is started again on them.

pub mod app;
mod disk;
mod disk_tests;
mod faults;
mod image;
mod images;
mod known;
mod recording;
mod workload;
