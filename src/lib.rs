pub mod format;
pub mod wire;
