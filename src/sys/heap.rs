//! Memory that was freed and that the allocator keeps.

/// Gives it back to the system: after a flood it is many MiB, in pieces between what is still used. It takes up to some
/// milliseconds, so: when there is nothing to do. With another C library than glibc it does nothing.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call takes any number, is safe with threads, and touches nothing that is in use.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
