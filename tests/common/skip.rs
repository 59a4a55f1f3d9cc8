//! Tests that need what a machine may not have.

/// Says loudly that a test could not run; a failure where nothing may be skipped.
///
/// # Panics
/// When `WALCAST_REQUIRE_ALL=1`.
pub fn skip(why: &str) {
    let require_all = std::env::var("WALCAST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    skip_if_allowed(why, require_all);
}

pub fn skip_if_allowed(why: &str, require_all: bool) {
    assert!(
        !require_all,
        "SKIP is a failure here (WALCAST_REQUIRE_ALL=1): {why}"
    );
    eprintln!("\n##### SKIPPED: {why} #####\n");
}
