use lintas_proto::schema::{AttachmentRef, BlobGet, BlobPut, BlobStatus, Reason};

use super::*;
use crate::testing::{blob, unit};

/// What the broker says, and then again if it took bytes.
async fn upload(node: &Node, blob: &[u8], reference: &AttachmentRef) -> BlobStatus {
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    let put = BlobPut { blob: Some(reference.clone()) };
    writer.send_message(FrameType::BlobPut, &put).await.unwrap();
    let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    if status.reason != Reason::Accepted as i32 || status.length > 0 {
        return status;
    }
    writer.write_raw(Bytes::copy_from_slice(blob)).await.unwrap();
    soon(writer.finish()).await.unwrap();
    soon(reader.next_message(FrameType::BlobStatus)).await.unwrap()
}

async fn download(node: &Node, reference: &AttachmentRef, sealed: &Sealed) -> (BlobStatus, Vec<u8>) {
    download_from(0, node, reference, sealed).await
}

async fn download_from(
    offset: u64,
    node: &Node,
    reference: &AttachmentRef,
    sealed: &Sealed,
) -> (BlobStatus, Vec<u8>) {
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    let header_digest = Bytes::copy_from_slice(&sealed.digest);
    let get = BlobGet { blob_id: reference.blob_id.clone(), header_digest, offset };
    writer.send_message(FrameType::BlobGet, &get).await.unwrap();
    let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(more) = soon(reader.read_raw(1 << 20)).await.unwrap() {
        bytes.extend_from_slice(&more);
    }
    (status, bytes)
}

fn reason(status: &BlobStatus) -> Reason {
    Reason::try_from(status.reason).unwrap()
}

fn files(folder: &TempFolder, agency: &str) -> usize {
    std::fs::read_dir(folder.path().join("blobs").join(agency)).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_goes_up_and_down_and_then_away() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let mut kh = Node::connect(&world, &broker, "KH").await;
    let vn = Node::connect(&world, &broker, "VN").await;
    let (bytes, reference) = blob(&vec![3; 600_000]);
    let to = unit("KH", "A");
    let send = || {
        world.packet_with("TH", std::slice::from_ref(&to), |core| core.attachments.push(reference.clone()))
    };
    let sealed = send();
    th.submit(&sealed).await;
    let refusal = th.refusal().await;
    assert_eq!((refusal.reason, refusal.retry), (Reason::MissingAttachment as i32, true));
    // Another agency's upload does not count.
    assert_eq!(reason(&upload(&vn, &bytes, &reference).await), Reason::Accepted);
    th.submit(&sealed).await;
    assert_eq!(th.refusal().await.reason, Reason::MissingAttachment as i32);

    assert_eq!(upload(&th, &bytes, &reference).await.length, reference.length);
    assert_eq!(upload(&th, &bytes, &reference).await.length, reference.length, "there already");
    let (status, _) = download(&th, &reference, &sealed).await;
    assert_eq!(reason(&status), Reason::MissingAttachment, "no packet names it yet");
    th.receipt(&sealed).await;
    let second = send();
    th.receipt(&second).await;
    assert_eq!(kh.delivery().await.header, sealed.submission.header);
    for node in [&kh, &th] {
        let (status, down) = download(node, &reference, &sealed).await;
        assert_eq!((status.length, down.len()), (reference.length, bytes.len()));
        assert!(down == bytes);
        let (status, down) = download_from(500_001, node, &reference, &sealed).await;
        assert_eq!(status.length, reference.length);
        assert!(down == bytes[500_001..], "what was cut off is not given again");
        let (status, down) = download_from(reference.length, node, &reference, &sealed).await;
        assert_eq!((reason(&status), down.len()), (Reason::Accepted, 0));
        let (status, down) = download_from(reference.length + 1, node, &reference, &sealed).await;
        assert_eq!((reason(&status), down.len()), (Reason::Malformed, 0), "beyond the end");
    }
    let (status, down) = download(&vn, &reference, &sealed).await;
    assert_eq!((reason(&status), down.len()), (Reason::MissingAttachment, 0), "not a recipient");
    kh.acknowledge(&world, &sealed, &to, 1).await;
    let number = th.evidence().await.queue_sequence;
    th.take(number).await;
    let (_, down) = download(&kh, &reference, &second).await;
    assert!(down == bytes, "another packet still names it");
    kh.acknowledge(&world, &second, &to, 2).await;
    th.evidence().await;
    sleep(Duration::from_millis(1_300)).await;
    assert_eq!(files(&folder, "TH"), 0, "nobody needs it");
    assert_eq!(files(&folder, "VN"), 1, "waits for a packet");
    broker.stop().await.unwrap();
}

/// Begins an upload, and sends `some` of what the broker lacks; then the stream, and what the broker has.
async fn begin(
    node: &Node,
    blob: &[u8],
    reference: &AttachmentRef,
    some: usize,
) -> (FrameWriter, FrameReader, u64) {
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    let put = BlobPut { blob: Some(reference.clone()) };
    writer.send_message(FrameType::BlobPut, &put).await.unwrap();
    let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    assert_eq!(reason(&status), Reason::Accepted, "{}", status.text);
    let have = usize::try_from(status.length).unwrap();
    writer.write_raw(Bytes::copy_from_slice(&blob[have..][..some])).await.unwrap();
    (writer, reader, status.length)
}

/// Name and length of the one file of an agency.
fn only(folder: &TempFolder, agency: &str) -> (String, u64) {
    let entries = std::fs::read_dir(folder.path().join("blobs").join(agency)).unwrap();
    let all: Vec<_> = entries.map(Result::unwrap).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    (all[0].file_name().into_string().unwrap(), all[0].metadata().unwrap().len())
}

async fn arrived(folder: &TempFolder, agency: &str, bytes: u64) {
    for _ in 0..400 {
        if files(folder, agency) == 1 && only(folder, agency).1 >= bytes {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("{} bytes do not arrive", bytes);
}

/// Segment 0 and the others (docs/FORMAT.md, "Merkle trees").
const FIRST: u64 = 1_049_656;
const EVERY: u64 = 1_049_600;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_cut_also_after_a_restart() {
    let (world, folder) = scene();
    let mut broker = Broker::start(folder.path()).await;
    let (bytes, reference) = blob(&vec![3; 5_000_000]);
    let th = Node::connect(&world, &broker, "TH").await;
    let some = 2_500_000;
    let (writer, reader, have) = begin(&th, &bytes, &reference, some).await;
    assert_eq!(have, 0);
    arrived(&folder, "TH", some as u64).await;
    // The node is gone without a word; another takes over while the broker still holds the first stream.
    let th = Node::connect(&world, &broker, "TH").await;
    drop((writer, reader));
    let more = 1_200_000;
    let (_writer, _reader, have) = begin(&th, &bytes, &reference, more).await;
    assert_eq!(have, FIRST + EVERY, "a segment boundary below {some}");
    arrived(&folder, "TH", have + more as u64).await;
    broker.drop_dead().await;
    broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (name, here) = only(&folder, "TH");
    assert!(name.ends_with(".part") && here >= have + more as u64, "{name}");
    let rest = bytes.len() - usize::try_from(FIRST + 2 * EVERY).unwrap();
    let (writer, mut reader, have) = begin(&th, &bytes, &reference, rest).await;
    assert_eq!(have, FIRST + 2 * EVERY);
    soon(writer.finish()).await.unwrap();
    let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    assert_eq!((reason(&status), status.length), (Reason::Accepted, reference.length));
    assert_eq!(only(&folder, "TH"), (lintas_proto::id::hex(&reference.blob_id), reference.length));
    let mut th = th;
    let sealed = world.packet_with("TH", &[unit("KH", "A")], |core| core.attachments.push(reference.clone()));
    th.receipt(&sealed).await;
    let (_, down) = download(&th, &reference, &sealed).await;
    assert!(down == bytes);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_whose_last_check_was_cut_off_needs_no_more_bytes() {
    let (world, folder) = scene();
    let (bytes, reference) = blob(&[3; 40_000]);
    let name = format!("{}.{}.part", lintas_proto::id::hex(&reference.blob_id), reference.length);
    std::fs::create_dir_all(folder.path().join("blobs/TH")).unwrap();
    crate::testing::put(&folder.path().join("blobs/TH").join(name), &bytes);
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(upload(&th, &[], &reference).await.length, reference.length);
    assert_eq!(only(&folder, "TH").0, lintas_proto::id::hex(&reference.blob_id));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_upload_of_an_attachment_at_a_time() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (bytes, reference) = blob(&[3; 40_000]);
    let (_writer, _reader, _) = begin(&th, &bytes, &reference, 1_000).await;
    let second = upload(&th, &bytes, &reference).await;
    assert_eq!(reason(&second), Reason::Quota, "{}", second.text);
    assert!(second.text.contains("not over yet"), "{}", second.text);
    // Of another agency's it is no matter.
    let vn = Node::connect(&world, &broker, "VN").await;
    assert_eq!(upload(&vn, &bytes, &reference).await.length, reference.length);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agency_may_bring_and_what_the_disk_must_keep_is_said() {
    let (world, folder) = scene();
    set(folder.path(), "attachments_mib_max = 2\nfree_mib_min = 0");
    let mut broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (bytes, reference) = blob(&vec![3; 1_200_000]);
    // A part reserves its whole length, also in the next process.
    drop(begin(&th, &bytes, &reference, 1_000).await);
    broker.drop_dead().await;
    broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (second, other) = blob(&vec![4; 1_200_000]);
    let refused = upload(&th, &second, &other).await;
    assert_eq!(reason(&refused), Reason::Quota);
    for told in ["operator lets", "2 MiB", "attachments_mib_max", "wait until"] {
        assert!(refused.text.contains(told), "{}", refused.text);
    }
    let (third, large) = blob(&vec![4; 2_200_000]);
    assert_eq!(reason(&upload(&th, &third, &large).await), Reason::TooLarge);
    broker.stop().await.unwrap();
    // More than any disk has.
    let path = folder.path().join("broker.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("free_mib_min = 0", "free_mib_min = 16777216");
    crate::testing::put(&path, text.as_bytes());
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (small, reference) = blob(&[3; 100]);
    let refused = upload(&th, &small, &reference).await;
    assert_eq!(reason(&refused), Reason::DiskFull);
    assert!(refused.text.contains("16777216 MiB free (`free_mib_min`"), "{}", refused.text);
    assert_eq!(files(&folder, "TH"), 1, "only the part of before");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_false_upload_leaves_nothing_and_a_cut_one_its_part() {
    let (world, folder) = scene();
    let mut broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (mut bytes, reference) = blob(&[3; 40_000]);
    bytes[100] ^= 1;
    assert_eq!(reason(&upload(&th, &bytes, &reference).await), Reason::Malformed);
    assert_eq!(files(&folder, "TH"), 0, "thrown away");
    let cut = upload(&th, &bytes[..9_000], &reference).await;
    assert_eq!(reason(&cut), Reason::Malformed);
    assert!(cut.text.contains("what came is kept"), "{}", cut.text);
    let other = AttachmentRef { length: reference.length + 16, ..reference.clone() };
    assert_eq!(reason(&upload(&th, &bytes, &other).await), Reason::Malformed);
    assert_eq!(files(&folder, "TH"), 1);
    // Parts that are none are removed at the start; what was whole stays.
    bytes[100] ^= 1;
    assert_eq!(reason(&upload(&th, &bytes, &reference).await), Reason::Accepted);
    broker.drop_dead().await;
    let whole = lintas_proto::id::hex(&reference.blob_id);
    for name in ["7.part".to_owned(), format!("{whole}.99999999999.part"), format!("{whole}.500.part")] {
        std::fs::File::create(folder.path().join("blobs/TH").join(name)).unwrap();
    }
    std::fs::File::create(folder.path().join("blobs/stray")).unwrap();
    broker = Broker::start(folder.path()).await;
    assert_eq!(files(&folder, "TH"), 1);
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(upload(&th, &[], &reference).await.length, reference.length, "there already");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_does_not_go_on_for_a_day_is_removed() {
    let (world, folder) = scene();
    let blobs = folder.path().join("blobs/TH");
    std::fs::create_dir_all(&blobs).unwrap();
    let name = |of: &AttachmentRef| format!("{}.{}.part", lintas_proto::id::hex(&of.blob_id), of.length);
    let ((stale_bytes, stale), (_, fresh)) = (blob(&[3; 40_000]), blob(&[4; 40_000]));
    for of in [&stale, &fresh] {
        crate::testing::put(&blobs.join(name(of)), &stale_bytes[..9_000]);
    }
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(clock::shown_ms())
        - Duration::from_secs(25 * 60 * 60);
    let part = std::fs::File::options().write(true).open(blobs.join(name(&stale))).unwrap();
    part.set_modified(long_ago).unwrap();
    let broker = Broker::start(folder.path()).await;
    for _ in 0..400 {
        if files(&folder, "TH") == 1 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(only(&folder, "TH"), (name(&fresh), 9_000));
    // It may begin anew.
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(upload(&th, &stale_bytes, &stale).await.length, stale.length);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_moves_eight_attachments_at_once_and_more_wait() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut live = Vec::new();
    for number in 0..8 {
        let (bytes, reference) = blob(&[number; 40_000]);
        live.push(begin(&th, &bytes, &reference, 1_000).await);
    }
    let (_, reference) = blob(&[9; 40_000]);
    let (mut writer, mut reader) = th.connection.open_stream().await.unwrap();
    let put = BlobPut { blob: Some(reference.clone()) };
    writer.send_message(FrameType::BlobPut, &put).await.unwrap();
    let waits = timeout(Duration::from_millis(250), reader.next_message::<BlobStatus>(FrameType::BlobStatus));
    assert!(waits.await.is_err(), "a ninth");
    live.pop();
    let status: BlobStatus = soon(reader.next_message(FrameType::BlobStatus)).await.unwrap();
    assert_eq!((reason(&status), status.length), (Reason::Accepted, 0));
    // Other agencies have places of their own.
    let vn = Node::connect(&world, &broker, "VN").await;
    let (bytes, reference) = blob(&[9; 40_000]);
    assert_eq!(upload(&vn, &bytes, &reference).await.length, reference.length);
    broker.stop().await.unwrap();
}
