//! What a test needs of the machine, and what it says where that is not there.

use std::io::Write as _;

/// Says that a test is skipped for want of something; with `LINTAS_NO_SKIP=1` that is a failure.
pub fn missing(what: &str) {
    assert!(std::env::var_os("LINTAS_NO_SKIP").is_none_or(|value| value != "1"), "{what}");
    // Not `eprintln!`, which the test harness keeps to itself when a test passes.
    std::io::stderr().write_all(format!("\nSKIPPED: {what}\n").as_bytes()).unwrap();
}
