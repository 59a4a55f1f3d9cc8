//! The configuration file: what it may say, what is said of its mistakes, and the commands that check and show it.

mod mistakes;
mod support;
mod whole;
