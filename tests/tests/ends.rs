//! A node ends when it is told to, whatever it is doing with the log.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use lintas_tests::{case::titled, process::wait, region::Region};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
/// Far less than the 30 seconds after which keys that somebody holds are left behind.
const AT_MOST: Duration = Duration::from_secs(15);

#[test]
fn nodes_that_watch_the_log_and_write_to_each_other_end_at_once() {
    let root = tempfile::tempdir().unwrap();
    let nodes = ["KH", "TH", "VN"];
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &nodes);
    region.start_broker();
    for round in 0..3 {
        nodes.iter().for_each(|node| region.start_node(node));
        let draft = titled(root.path(), &format!("round {round}"));
        for _ in 0..4 {
            // Each carries a checkpoint that the recipient may or may not know yet.
            let _ = region.lintas("TH", &["send", &draft]).ok();
            std::thread::sleep(Duration::from_millis(400));
        }
        assert!(wait(|| region.lintas("KH", &["inbox"]).ok().out.contains(&format!("round {round}"))));
        for node in nodes {
            let begun = Instant::now();
            assert!(region.stop_node(node), "{node}");
            assert!(begun.elapsed() < AT_MOST, "{node} took {:?}", begun.elapsed());
        }
    }
}
