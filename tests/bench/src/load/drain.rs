//! Recipients and senders that take what waits for them: each delivery is acknowledged with evidence that is signed as
//! a node signs it, each piece of evidence is taken.
//!
//! Bodies are not opened: that is the node's work, not the broker's.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use bytes::Bytes;
use lintas_config::issue::seed;
use lintas_proto::{
    canonical::{self, fixed},
    evidence::{Evidence, sign_evidence},
    frame::FrameType,
    id::{Digest, sha256},
    limits,
    receipt::Receipt,
    schema::{
        Acknowledgement, Delivery, EvidenceDelivery, NodeSecrets, Outcome, Reason, SignedReceipt, Stage,
        UnitRef,
    },
    sign::{KeyRole, SigningKey},
};
use lintas_tests::region::now_ms;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};

use super::lintas::{self, Hearer, Sender};
use crate::bench::Bench;

/// First argument of the process.
pub(super) const ROLE: &str = "__drain";
/// Most acknowledgements signed as one group.
const GROUP_MAX: usize = 64;

/// Who takes how much.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) broker: SocketAddr,
    /// directory_hash of the region.
    pub(crate) directory: Digest,
    pub(crate) takers: Vec<Taker>,
}

/// One agency.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Taker {
    /// Its secret keys ([`crate::world::secrets_file`]).
    pub(crate) secrets: PathBuf,
    /// Deliveries and pieces of evidence after which it ends.
    pub(crate) count: usize,
}

/// Runs the process until everybody has taken everything.
pub(crate) fn run(bench: &Bench, folder: &Path, plan: &Plan) {
    let file = folder.join("drain.json");
    fs::write(&file, serde_json::to_vec(plan).unwrap()).unwrap();
    let output = Command::new(&bench.program).arg(ROLE).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Plays the process.
pub(super) fn role(arguments: &[OsString]) -> Option<ExitCode> {
    let plan: Plan = serde_json::from_slice(&fs::read(arguments.get(2)?).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut running = JoinSet::new();
        for taker in plan.takers {
            let (sender, hearer) = lintas::connect(plan.broker, &taker.secrets).await;
            running.spawn(take(taker, plan.directory, sender, hearer));
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    });
    Some(ExitCode::SUCCESS)
}

/// One agency takes what waits for it, as many at once as are there.
async fn take(taker: Taker, directory: Digest, mut sender: Sender, hearer: Hearer) {
    let bytes = Bytes::from(fs::read(&taker.secrets).unwrap());
    let secrets: NodeSecrets = canonical::decode(&bytes, limits::FRAME_BYTES_MAX).unwrap();
    let key = SigningKey::from_seed(KeyRole::Packet, &seed("packet", &secrets.packet_seed).unwrap()).unwrap();
    let Hearer { mut reader, .. } = hearer;
    let (forward, mut frames) = mpsc::channel(GROUP_MAX);
    let hearing = tokio::spawn(async move {
        while let Some(frame) = reader.next().await.unwrap() {
            if forward.send(frame).await.is_err() {
                break;
            }
        }
        reader
    });
    let mut left = taker.count;
    while left > 0 {
        let (mut group, mut acknowledgements) = (Vec::new(), Vec::new());
        let mut next = Some(frames.recv().await.expect("the broker ended the session"));
        while let Some((kind, payload)) = next {
            if kind == FrameType::Delivery {
                let delivery: Delivery = canonical::decode(&payload, kind.bytes_max()).unwrap();
                group.push((delivery.queue_sequence, received(&delivery, &secrets.region, directory)));
            } else if kind == FrameType::Evidence {
                let delivery: EvidenceDelivery = canonical::decode(&payload, kind.bytes_max()).unwrap();
                let queue_sequence = delivery.queue_sequence;
                acknowledgements.push(Acknowledgement { queue_sequence, ..Acknowledgement::default() });
            }
            next =
                if group.len() + acknowledgements.len() < GROUP_MAX { frames.try_recv().ok() } else { None };
        }
        let (numbers, evidence): (Vec<u64>, Vec<Evidence>) = group.into_iter().unzip();
        if !evidence.is_empty() {
            let signed = sign_evidence(&evidence, &key).unwrap();
            acknowledgements.extend(numbers.iter().zip(&signed).map(|(queue_sequence, signed)| {
                Acknowledgement { queue_sequence: *queue_sequence, evidence: canonical::encode(signed) }
            }));
        }
        left = left.saturating_sub(acknowledgements.len());
        let frame = |one: Acknowledgement| (FrameType::Acknowledgement, canonical::encode(&one));
        let sent: Vec<(FrameType, Bytes)> = acknowledgements.into_iter().map(frame).collect();
        sender.writer.send_many(sent).await.unwrap();
    }
    // The broker takes what was sent before the end.
    sender.writer.finish().await.unwrap();
    drop(frames);
    let _ = hearing.await;
}

/// What a node says of a delivery that it has opened and kept.
fn received(delivery: &Delivery, region: &str, directory: Digest) -> Evidence {
    let opening = delivery.opening.as_ref().unwrap();
    let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
    let signed: SignedReceipt = canonical::decode(&delivery.receipt, limits::FRAME_BYTES_MAX).unwrap();
    let (receipt, _) = Receipt::parse(&signed.receipt).unwrap();
    Evidence {
        region: region.to_owned(),
        stage: Stage::Delivery,
        outcome: Outcome::Acceptance,
        reason: Reason::Accepted,
        text: String::new(),
        packet_id: receipt.packet_id,
        header_digest: sha256(&[&delivery.header]),
        actor: unit.clone(),
        recipient: Some(unit),
        time_ms: now_ms(),
        leaf: Some(fixed("leaf", &receipt.events[0].leaf).unwrap()),
        policy_id: String::new(),
        directory_hash: directory,
    }
}
