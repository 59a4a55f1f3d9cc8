//! Archives, made here from real databases as the writer makes them, and what comes back from them.

mod damage;
mod kit;
mod maker;
mod positions;
