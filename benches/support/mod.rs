//! What the benchmarks share: a clock, helper processes, the application and its readers, a cluster, and how figures are
//! written.

#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod clock;
pub mod cluster;
pub mod helper;
pub mod lags;
pub mod load;
pub mod machine;
pub mod number;
pub mod observe;
pub mod prober;
pub mod table;
