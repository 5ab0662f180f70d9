//! docs/FORMAT.md against the limits of the directory, so that they do not drift apart.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use lintas_config::directory::{
    AUTHORITIES_MAX, BROKERS_MAX, CLEARANCE_MAX, GROUPS_MAX, ROSTER_FORMAT, ROSTER_VALID_MS_MAX,
    SIGNING_KEYS_MAX, TITLE_BYTES_MAX, UNITS_MAX, chain::STEPS_MAX,
};

#[test]
fn the_page_names_the_limits_of_the_directory() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    let page = std::fs::read_to_string(page).unwrap();
    let days = ROSTER_VALID_MS_MAX / 86_400_000;
    let (units, steps) = (UNITS_MAX / 1_000, STEPS_MAX - 4_000);
    for said in [
        format!("| 1 | format | uint32 | {ROSTER_FORMAT} |"),
        format!("| authorities, brokers of a region | {AUTHORITIES_MAX}, {BROKERS_MAX} |"),
        format!("| units, groups, native names of a member | {units},000, {GROUPS_MAX}, 8 |"),
        format!("| transport keys, packet keys of a keyset | {SIGNING_KEYS_MAX} each |"),
        format!("| validity of a roster | {days} days |"),
        format!("| title | {TITLE_BYTES_MAX} bytes |"),
        format!("at most {} signatures", 2 * AUTHORITIES_MAX),
        format!("4: clearance: 0 to {CLEARANCE_MAX}"),
        format!("are given, at most 4,{steps:03}, and each"),
    ] {
        assert!(page.contains(&said), "{said}");
    }
}
