//! What an officer writes stands readable nowhere: on no disk, in no log, on no wire.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{cell::RefCell, path::Path};

use lintas_tests::{
    case::file,
    demo::CANARY,
    process::wait,
    region::Region,
    search::{files, holding, holds},
    wire::Tap,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");

#[test]
fn no_plaintext_on_any_disk_in_any_log_or_on_the_wire() {
    let root = tempfile::tempdir().unwrap();
    let tap = RefCell::new(None);
    let mut region = Region::found_with(Path::new(PROGRAM), root.path(), &["KH", "TH"], &[], |broker| {
        let started = Tap::to(broker);
        let address = started.address();
        tap.replace(Some(started));
        address
    });
    region.start_broker();
    region.start_node("TH");
    region.start_node("KH");
    let (alert, list) = (file("alert.json"), file("crew-list.pdf"));
    let arguments = ["send", alert.to_str().unwrap(), "--attach", list.to_str().unwrap(), "--wait", "30"];
    let _ = region.lintas("TH", &arguments).ok();
    let shown = wait(|| {
        let inbox = region.lintas("KH", &["--json", "inbox"]).ok().json();
        inbox["packets"].as_array().is_some_and(|packets| packets.len() == 1)
    });
    assert!(shown);
    let inbox = region.lintas("KH", &["--json", "inbox"]).ok().json();
    let packet = inbox["packets"][0]["packet_id"].as_str().unwrap().to_owned();
    let shown = region.lintas("KH", &["show", &packet]).ok();
    assert!(shown.out.contains(CANARY), "the phrase is really in the alert");

    let captured = tap.borrow().as_ref().unwrap().captured();
    assert!(captured.len() > 4_000, "the tap saw the exchange: {} bytes", captured.len());
    // A phrase of the text, the maker that the PDF names, and a name in Khmer.
    let logs = ["broker", "TH", "KH"].map(|name| region.log(name));
    let stored = ["broker", "TH", "KH"].iter().flat_map(|name| files(&region.folder(name)));
    let everything: Vec<_> = stored.chain(logs).collect();
    for phrase in [CANARY, "ReportLab", "សុខ"] {
        assert!(!holds(&captured, phrase), "`{phrase}` on the wire");
        assert_eq!(holding(&everything, phrase), Vec::<std::path::PathBuf>::new(), "`{phrase}` on a disk");
    }
}
