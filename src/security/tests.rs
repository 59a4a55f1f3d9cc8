//! Security without sockets.
