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
    let (mut writer, mut reader) = node.connection.open_stream().await.unwrap();
    let header_digest = Bytes::copy_from_slice(&sealed.digest);
    let get = BlobGet { blob_id: reference.blob_id.clone(), header_digest, offset: 0 };
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

#[tokio::test(flavor = "multi_thread")]
async fn a_false_or_cut_upload_leaves_nothing() {
    let (world, folder) = scene();
    let mut broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (mut bytes, reference) = blob(&[3; 40_000]);
    bytes[100] ^= 1;
    assert_eq!(reason(&upload(&th, &bytes, &reference).await), Reason::Malformed);
    assert_eq!(reason(&upload(&th, &bytes[..9_000], &reference).await), Reason::Malformed);
    let other = AttachmentRef { length: reference.length + 16, ..reference.clone() };
    assert_eq!(reason(&upload(&th, &bytes, &other).await), Reason::Malformed);
    assert_eq!(files(&folder, "TH"), 0);
    // What a crash leaves is removed at the start; what was whole stays.
    bytes[100] ^= 1;
    assert_eq!(reason(&upload(&th, &bytes, &reference).await), Reason::Accepted);
    broker.drop_dead().await;
    std::fs::File::create(folder.path().join("blobs/TH/7.part")).unwrap();
    std::fs::File::create(folder.path().join("blobs/stray")).unwrap();
    broker = Broker::start(folder.path()).await;
    assert_eq!(files(&folder, "TH"), 1);
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(upload(&th, &[], &reference).await.length, reference.length, "there already");
    broker.stop().await.unwrap();
}
