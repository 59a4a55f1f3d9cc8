//! The configuration file: what it may say, what is said of its mistakes, and the commands that check and show it.

mod commands;
mod documents;
mod mistakes;
mod roundtrip;
mod support;
mod whole;
