//! Attachments at the desk: names of strangers, room, interruption, and when sealed files go.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    envelope::seal::{SealError, seal},
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    id::PacketId,
    schema::{EvidenceDelivery, Outcome, Reason, Stage, Submission, UnitRef},
};

use super::*;
use crate::{
    core::{
        draft::{Draft, Sender, compose},
        health::Mark,
    },
    shell::{blobs, control, door::Door, progress::nobody},
    testing::{AMBER, REGION, Region, core, digest, draft},
};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn attach(region: &Region, bytes: usize) -> PathBuf {
    let path = region.root.path().join(format!("{bytes}.bin"));
    fs::write(&path, vec![7; bytes]).unwrap();
    path
}

/// A packet from Thailand whose attachments bear names and media types that no honest node would give them.
fn hostile(desk: &Desk, region: &Region, called: &[(&str, &str)]) -> Result<Submission, SealError> {
    let (directory, entropy, now_ms) = (desk.directory(), &mut os_entropy(), clock::now_ms());
    let draft = Draft::parse(&draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), &[], None).unwrap();
    let originator = draft.originator(&directory, "TH").unwrap();
    let cleared =
        desk.clear(&draft, &originator, &directory, super::send::Clearing::again(false)).unwrap().recipients;
    let packet_id = PacketId::new(now_ms, entropy);
    let paths: Vec<PathBuf> = called.iter().map(|_| attach(region, 1_000)).collect();
    let (mut attachments, files) =
        blobs::seal_all(&desk.folder, desk.room(), packet_id, &paths, entropy, &nobody).unwrap();
    for ((_, key), (name, media_type)) in attachments.iter_mut().zip(called) {
        (key.file_name, key.media_type) = ((*name).to_owned(), (*media_type).to_owned());
    }
    let sender = Sender { originator, packet_id, reviewed: false };
    let draft = compose(draft, sender, cleared, attachments, &directory, &desk.store.state());
    let sealed = seal(draft, &desk.keys().packet, entropy)?;
    files.keep(&desk.folder).unwrap();
    Ok(sealed.submission)
}

fn deliver(region: &Region, desk: &Desk, packet: &Submission) -> Vec<Step> {
    let payload = canonical::encode(&region.delivery(packet, 0, 1));
    desk.judge(vec![Heard { kind: FrameType::Delivery, payload }])
}

#[test]
fn names_and_media_types_of_strangers_are_text_and_nothing_else() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let long = "x".repeat(255);
    let called = [
        ("../../../etc/passwd", "text/plain"),
        ("/etc/passwd", "../../bin/sh"),
        ("a\0b.pdf", "a\0b"),
        ("photo\u{202e}gpj.exe", "image/\u{202e}gpj"),
        ("a\u{1b}[2J\r\n  to KH/ALL", "\u{1b}]0;title\u{7}"),
        ("CON", "application/x-sh"),
        ("-rf", "-rf"),
        ("crew.pdf", ""),
        ("crew.pdf", "junk junk junk"),
        ("сrew.pdf", "text/html"),
        (long.as_str(), "text/plain"),
    ];
    let packet = hostile(&thailand, &region, &called).unwrap();
    let steps = deliver(&region, &cambodia, &packet);
    assert!(matches!(&steps[..], [Step::Fetch { attachments, .. }] if attachments.len() == called.len()));
    for name in names(&region.path("TH").join("blobs/out")) {
        let blobs = |agency: &str, folder: &str| region.path(agency).join("blobs").join(folder).join(&name);
        fs::copy(blobs("TH", "out"), blobs("KH", "in")).unwrap();
    }
    let steps = deliver(&region, &cambodia, &packet);
    assert_eq!(cambodia.settle(steps).unwrap().acknowledgements.len(), 1);
    let id = core(&packet.header).packet_id.to_string();
    let to = region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    let exported = cambodia.export(&id, &to).unwrap();
    let mut ours: Vec<String> = (1..=called.len()).map(|number| format!("{number}.bin")).collect();
    ours.sort();
    assert_eq!(names(&to), ours, "names of our own, nothing beside the folder");
    for (file, (name, _)) in exported.iter().zip(&called) {
        assert_eq!(file.attachment.claimed_name, *name, "shown as what the sender claims");
        assert_eq!(Path::new(&file.file).parent(), Some(to.as_path()));
        let shown = crate::core::text::one_line(&file.attachment.claimed_name);
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
    }
    // What a program is told says no media type at all, and nothing that a terminal acts on.
    let view = cambodia.show(&id).unwrap();
    let json = crate::core::text::safe_json(&serde_json::to_string(&view).unwrap());
    assert!(!json.contains("x-sh") && !json.contains("media"), "{json}");
    assert!(!json.chars().any(|c| c.is_control() || c == '\u{202e}'));
}

#[test]
fn names_that_no_file_can_have_are_no_packet() {
    let region = Region::new();
    let thailand = region.desk("TH");
    for name in ["", &"x".repeat(10_240)] {
        assert!(
            matches!(hostile(&thailand, &region, &[(name, "")]), Err(SealError::Body(_))),
            "{}",
            name.len()
        );
    }
    assert!(matches!(hostile(&thailand, &region, &[("a", &"x".repeat(128))]), Err(SealError::Body(_))));
    assert_eq!(names(&region.path("TH").join("blobs/out")), [""; 0], "nothing is left of them");
}

#[test]
fn sealing_that_is_stopped_leaves_nothing() {
    let region = Region::new();
    let desk = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let files = vec![attach(&region, 300_000), attach(&region, 900_000)];
    let request = || Request::Send {
        draft: text.clone(),
        attach: files.clone(),
        to: vec![],
        from: None,
        how: How::default(),
    };
    let last = Cell::new((0, 0));
    // In the middle of the second file.
    let failure = desk.answer_telling(request(), &|done, total| {
        last.set((done, total));
        done < 600_000
    });
    assert!(failure.unwrap_err().message.contains("stopped; nothing was sealed"));
    assert!(last.get().0 >= 600_000 && last.get().1 == 1_200_000, "{:?}", last.get());
    assert_eq!(names(&region.path("TH").join("blobs/out")), [""; 0]);
    assert_eq!(desk.status().sent, 0);
    desk.answer(request()).unwrap();
    assert_eq!(names(&region.path("TH").join("blobs/out")).len(), 2);
}

#[test]
fn without_room_nothing_is_sealed_and_the_officer_is_told_who_set_the_limit() {
    let region = Region::new();
    drop(region.desk("TH"));
    let path = region.path("TH").join("node.toml");
    let settings = fs::read_to_string(&path).unwrap();
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    for (line, told) in
        [("attachments_mib_max = 1", "lets them take 1 MiB"), ("free_mib_min = 16777216", "keeps")]
    {
        fs::write(&path, format!("{settings}{line}\n")).unwrap();
        let desk = region.desk("TH");
        let failure = desk
            .send(&text, &[attach(&region, 2_000_000)], &[], None, &How::default(), &mut os_entropy())
            .unwrap_err();
        assert_eq!(failure.code, Code::Storage, "{failure}");
        let key = line.split(' ').next().unwrap();
        assert!(failure.message.contains(told) && failure.message.contains(key), "{failure}");
        assert_eq!(names(&region.path("TH").join("blobs/out")), [""; 0]);
        // What has no attachments needs none.
        desk.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    }
}

#[test]
fn a_sealed_file_goes_when_everything_about_its_packet_is_known() {
    let region = Region::new();
    let desk = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    let kept =
        desk.send(&text, &[attach(&region, 1_000)], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let next = desk.next_submission().unwrap().unwrap();
    let packet: Submission = canonical::decode(&next.bytes, lintas_proto::limits::FRAME_BYTES_MAX).unwrap();
    let sealed = || names(&region.path("TH").join("blobs/out")).len();
    let hear = |kind, payload| desk.settle(desk.judge(vec![Heard { kind, payload }])).unwrap();
    desk.tidy();
    assert_eq!(sealed(), 1, "not sent yet");
    hear(FrameType::Receipt, region.submitted("TH", &packet));
    desk.tidy();
    assert_eq!(sealed(), 1, "on its way");
    let unit = UnitRef { agency: "KH".to_owned(), unit: "KH-AHT".to_owned() };
    let evidence = Evidence {
        region: REGION.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Acceptance,
        reason: Reason::Accepted,
        text: String::new(),
        packet_id: core(&packet.header).packet_id,
        header_digest: digest(&packet),
        actor: unit.clone(),
        recipient: Some(unit),
        time_ms: clock::now_ms(),
        leaf: None,
        policy_id: String::new(),
        directory_hash: *region.directory().hash(),
    };
    let signed = sign_evidence(&[evidence], &region.packet_key("KH")).unwrap();
    let delivery = EvidenceDelivery { queue_sequence: 1, evidence: canonical::encode(&signed[0]) };
    hear(FrameType::Evidence, canonical::encode(&delivery));
    desk.tidy();
    assert_eq!(sealed(), 1, "the broker's log may end, and it is sent again then");
    let proofs = crate::testing::inclusion_of(&packet);
    desk.keep_proofs(proofs).unwrap();
    assert_eq!(sealed(), 0);
    let to = region.root.path().join("export");
    fs::create_dir(&to).unwrap();
    let failure = desk.export(&kept.packet_id, &to).unwrap_err();
    assert!(failure.code == Code::NotFound && failure.message.contains("SHA-256"), "{failure}");
    // Neither the next start nor the doctor misses it.
    drop(desk);
    let desk = region.desk("TH");
    assert_eq!(desk.status().warnings, [""; 0]);
    let checks = desk.doctor();
    let attachments = checks.iter().find(|check| check.check == "attachments").unwrap();
    assert_eq!(attachments.mark, Mark::Ok, "{attachments:?}");
}

#[tokio::test]
async fn a_sealed_file_that_the_broker_could_not_use_is_checked_before_it_goes_up_again() {
    let region = Region::new();
    let desk = region.desk("TH");
    let text = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    desk.send(&text, &[attach(&region, 2_000_000)], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let next = || {
        let Ok(Work::Upload(upload)) = desk.next_work() else { panic!("nothing to upload") };
        upload
    };
    let upload = next();
    assert!(!upload.doubted);
    desk.pipeline().put_off(upload.digest, Reason::Malformed, String::new(), 0);
    let upload = next();
    assert!(upload.doubted);
    let blob = &upload.attachments[0];
    crate::shell::transfer::check(desk.folder(), blob).await.unwrap();
    let path = desk.folder().blob_out(&lintas_proto::id::hex(&blob.blob_id));
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = crate::shell::transfer::check(desk.folder(), blob).await.unwrap_err().to_string();
    assert!(error.contains("damaged") && error.contains("send what is in the packet again"), "{error}");
}

#[test]
fn what_arrives_is_left_to_go_on_and_swept_when_it_never_does() {
    let region = Region::new();
    drop(region.desk("KH"));
    let folder = region.path("KH").join("blobs/in");
    let (part, whole) = (folder.join(format!("{}.part", "ab".repeat(32))), folder.join("cd".repeat(32)));
    for path in [&part, &whole] {
        fs::write(path, "half").unwrap();
    }
    let desk = region.desk("KH");
    assert!(part.exists() && whole.exists());
    assert_eq!(desk.status().warnings, [""; 0]);
    drop(desk);
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    for path in [&part, &whole] {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let desk = region.desk("KH");
    assert!(!part.exists() && whole.exists());
    assert!(desk.status().warnings[0].contains("1 attachments"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_tells_how_far_sealing_is_and_stops_when_nobody_waits() {
    use std::io::Write as _;
    let region = Region::new();
    let desk = Arc::new(region.desk("TH"));
    let folder = desk.folder().clone();
    let listener = control::listen(&folder).unwrap();
    let (door, _orders) = Door::new(Some(Arc::clone(&desk)));
    let serving = tokio::spawn(control::serve(listener, door));
    let out = region.path("TH").join("blobs/out");
    let (text, file) = (draft(&["KH/KH-AHT"], "t", AMBER, "NONE"), attach(&region, 20_000_000));
    let request =
        Request::Send { draft: text, attach: vec![file], to: vec![], from: None, how: How::default() };
    let line = format!("{}\n", serde_json::to_string(&request).unwrap());
    let done = tokio::task::spawn_blocking(move || {
        let mut told = Vec::new();
        let answer = control::ask_watching(&folder, &request, &mut |done, total| told.push((done, total)));
        assert!(matches!(answer, Some(Ok(Reply::Kept(_)))));
        assert!(!told.is_empty() && told.iter().all(|(done, total)| done <= total && *total == 20_000_000));
        // The second officer presses Ctrl-C at once.
        let mut stream = std::os::unix::net::UnixStream::connect(folder.socket()).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let begun = || names(&out).iter().any(|name| name.ends_with(".part"));
        let wait = |done: &dyn Fn() -> bool| {
            (0..1_000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                done()
            })
        };
        assert!(wait(&begun), "sealing does not begin");
        drop(stream);
        assert!(wait(&|| !begun()), "sealing goes on");
        names(&out).len()
    });
    assert_eq!(done.await.unwrap(), 1, "the first packet's");
    assert_eq!(desk.status().sent, 1);
    serving.abort();
}
