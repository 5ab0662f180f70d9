//! docs/FORMAT.md against the code: numbers, names and labels that would otherwise drift apart.

#![allow(clippy::unwrap_used, reason = "helpers of tests; a failure is a failed test")]

use std::path::Path;

use lintas_proto::{
    envelope::{chunk, segment, wrap},
    frame::FrameType,
    limits,
    sign::{KeyRole, Signed},
};

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md")).unwrap()
}

/// 1234567 as 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[test]
fn the_page_names_every_limit() {
    let page = page();
    let rows = [
        ("header, core, grant, GrantCore", format!("{} bytes each", grouped(limits::HEADER_BYTES_MAX))),
        (
            "body plaintext, padded",
            format!(
                "{} (least) to {} bytes",
                limits::BODY_PLAIN_BYTES_MIN,
                grouped(limits::BODY_PLAIN_BYTES_MAX)
            ),
        ),
        ("body ciphertext", format!("{} bytes", grouped(limits::BODY_BYTES_MAX))),
        ("attachment ciphertext", format!("{} GiB", limits::BLOB_BYTES_MAX >> 30)),
        ("attached file", format!("{} GiB", limits::ATTACHMENT_BYTES_MAX >> 30)),
        ("recipients of a packet or a grant", limits::RECIPIENTS_MAX.to_string()),
        ("attachments of a packet", limits::ATTACHMENTS_MAX.to_string()),
        (
            "evidence",
            format!(
                "{} bytes; with its proof {}",
                grouped(limits::EVIDENCE_BYTES_MAX),
                grouped(limits::SIGNED_EVIDENCE_BYTES_MAX)
            ),
        ),
        ("receipt with its proof", format!("{} bytes", grouped(limits::RECEIPT_BYTES_MAX))),
        ("audit event", format!("{} bytes", grouped(limits::EVENT_BYTES_MAX))),
        ("statements of a group", grouped(limits::GROUP_STATEMENTS_MAX)),
        (
            "items of a list, levels of messages",
            format!("{}; {}", grouped(limits::LIST_ITEMS_MAX), limits::NESTING_MAX),
        ),
        ("code, name", format!("{} bytes, {} bytes", limits::CODE_BYTES_MAX, limits::NAME_BYTES_MAX)),
        ("sentence in evidence", format!("{} bytes", limits::SENTENCE_BYTES_MAX)),
        ("root checkpoint", format!("{} bytes", grouped(limits::CHECKPOINT_BYTES_MAX))),
        (
            "policies of one agency, their cases",
            format!("{} bytes each; 1,000 policies", grouped(limits::POLICY_TEXT_BYTES_MAX)),
        ),
        ("signed policy bundle", format!("{} bytes", grouped(limits::POLICY_BUNDLE_BYTES_MAX))),
        ("baseline of a region", format!("{} bytes", grouped(limits::BASELINE_BYTES_MAX))),
        ("policies that an audit event names", limits::POLICY_IDS_MAX.to_string()),
        ("created_ms to deliver_by_ms", format!("{} days", limits::DELIVER_WITHIN_MS_MAX / 86_400_000)),
        (
            "roster, keyset, directory file",
            format!(
                "{} MiB, {} MiB, {} MiB",
                limits::ROSTER_BYTES_MAX >> 20,
                limits::KEYSET_BYTES_MAX >> 20,
                limits::DIRECTORY_BYTES_MAX >> 20
            ),
        ),
    ];
    for (what, most) in rows {
        let row = format!("\n| {what} | {most} |\n");
        assert!(page.contains(&row), "{row}");
    }
    let minutes = format!("differ by at most {} minutes", limits::CLOCK_SKEW_MS_MAX / 60_000);
    assert!(page.contains(&minutes), "{minutes}");
    let days = format!("Encryption keys last {} days", limits::EPOCH_MS / 86_400_000);
    assert!(page.contains(&days), "{days}");
}

#[test]
fn the_page_names_the_sizes_of_the_envelope() {
    let page = page();
    for (what, bytes) in [
        ("the first {} bytes", chunk::HEAD_BYTES + segment::SEGMENT_BYTES),
        ("every other the next {} bytes", segment::SEGMENT_BYTES),
        ("n × {}", chunk::SEALED_CHUNK_BYTES),
        ("16 to {}", chunk::SEALED_CHUNK_BYTES - 1),
        ("\n{} bytes for each recipient", wrap::WRAP_BYTES),
        ("encapsulation key ({})", wrap::PUBLIC_KEY_BYTES - 32),
    ] {
        let said = what.replace("{}", &grouped(bytes));
        assert!(page.contains(&said), "{said}");
    }
}

#[test]
fn the_page_names_every_pae_type_and_key_role() {
    let page = page();
    for signed in [
        Signed::Header,
        Signed::Grant,
        Signed::ReceiptGroup,
        Signed::EvidenceGroup,
        Signed::Roster,
        Signed::Delegation,
        Signed::Keyset,
        Signed::ErasureOrder,
        Signed::PolicyBundle,
    ] {
        assert!(page.contains(&format!("| `{}` |", signed.pae_type())), "{signed:?}");
    }
    for role in [
        KeyRole::Transport,
        KeyRole::Packet,
        KeyRole::Delegate,
        KeyRole::Policy,
        KeyRole::Witness,
        KeyRole::Receipt,
        KeyRole::Log,
        KeyRole::Identity,
        KeyRole::Authority,
        KeyRole::Encryption,
    ] {
        assert!(page.contains(&format!("\n| {role:?} | {} | ", role as u8)), "{role:?}");
    }
}

#[test]
fn the_page_names_every_frame_with_its_limit() {
    let page = page();
    let kinds: Vec<FrameType> = (0..=u8::MAX).filter_map(|byte| FrameType::try_from(byte).ok()).collect();
    assert_eq!(kinds.len(), 26);
    for kind in kinds {
        let start = format!("\n| {} | ", kind as u8);
        let frames = page.split("| most bytes |").nth(1).unwrap();
        let (_, row) = frames.split_once(&start).unwrap();
        let row = row.lines().next().unwrap();
        let most = match kind.bytes_max() {
            bytes if bytes % 1_024 == 0 => format!("{} KiB |", bytes / 1_024),
            bytes => format!("{} |", grouped(bytes)),
        };
        assert!(row.ends_with(&most), "{kind:?}: {row}");
    }
}

#[test]
fn every_label_of_a_hash_or_a_key_is_on_the_page() {
    let page = page();
    for label in [
        "\"lintas/v1/recipient\" 00",
        "\"lintas/v1/wrap\" 00",
        "\"lintas/v1/grant\" 00",
        "\"lintas/v1/body\" 00",
        "\"lintas/v1/blob\" 00",
        "\"lintas/v1/blob-id\" 00",
        "\"lintas/v1/event-id\" 00",
        "\"lintas/v1/slot\" 00",
        "\"lintas/audit-event/v1\" 00",
        "\"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\" 00",
    ] {
        assert!(page.contains(label), "{label}");
    }
    // And no other label is in the sources.
    let mut sources = String::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for folder in [src.clone(), src.join("envelope"), src.join("audit")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut found = 0;
    for literal in sources.split("b\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        if let Some(label) = literal.strip_suffix("\\0").filter(|label| !label.is_empty()) {
            assert!(page.contains(&format!("\"{label}\" 00")), "{label}");
            found += 1;
        }
    }
    assert!(found >= 9, "{found}");
}
