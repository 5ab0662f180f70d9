//! A member whose keys the test holds: it can send what no honest node would.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_config::{
    Directory,
    issue::{new_agency, seed},
    os_entropy,
    source::RegionSource,
};
use lintas_link::{Client, FrameReader, FrameWriter, LinkError, PeerDirectory, TransportKey, greet};
use lintas_proto::{
    canonical,
    envelope::{
        core::Core,
        seal::{Draft, Recipient, Sealed, seal},
    },
    frame::FrameType,
    id::PacketId,
    schema::{
        Alert, Body, HandlingCode, Hello, HelloAck, JoinRequest, Kind, Label, NodeSecrets, Offence, Onward,
        Purpose, Refusal, SignedReceipt, Text, Tlp, UnitRef,
    },
    sign::{KeyRole, SigningKey},
};
use tokio::{runtime::Runtime, time::timeout};

use crate::region::now_ms;

/// How long the end of a session may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A member of the region with keys in the test's hands.
#[derive(Debug)]
pub struct Member {
    /// Its unit.
    pub unit: UnitRef,
    /// Its secret keys.
    pub secrets: NodeSecrets,
    /// What it hands to the authority.
    pub request: JoinRequest,
    runtime: Runtime,
}

/// What the broker answered to a submission.
#[derive(Debug)]
pub enum Answer {
    /// Accepted.
    Receipt(SignedReceipt),
    /// Not accepted.
    Refusal(Refusal),
}

/// Connected to the broker, after hello.
#[derive(Debug)]
pub struct Session {
    _client: Client,
    writer: FrameWriter,
    reader: FrameReader,
}

impl Member {
    /// Makes the keys of a member that `source` describes; it speaks for its first unit.
    #[must_use]
    pub fn of(source: &RegionSource, agency: &str) -> Self {
        let described = source.members.iter().find(|member| member.agency == agency).unwrap();
        let unit = UnitRef { agency: agency.to_owned(), unit: described.units[0].unit.clone() };
        let member = described.member(Bytes::new());
        let (_, secrets, request) = new_agency(&source.region, member, now_ms(), &mut os_entropy()).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { unit, secrets, request, runtime }
    }

    /// Key that signs its packets.
    #[must_use]
    pub fn packet_key(&self) -> SigningKey {
        SigningKey::from_seed(KeyRole::Packet, &seed("packet", &self.secrets.packet_seed).unwrap()).unwrap()
    }

    /// A sound draft to `to`, which a test then spoils.
    #[must_use]
    pub fn draft(&self, directory: &Directory, to: &UnitRef) -> Draft {
        let now = now_ms();
        let label = Label {
            tlp: Tlp::Amber as i32,
            handling: vec![HandlingCode::H1 as i32],
            purposes: vec![Purpose::Investigation as i32],
            offences: vec![Offence::TraffickingInPersons as i32],
            ..Label::default()
        };
        let core = Core {
            packet_id: PacketId::new(now, &mut os_entropy()),
            originator: self.unit.clone(),
            sign_key_id: [0; 32],
            region: self.secrets.region.clone(),
            roster_version: directory.roster().version,
            keyset_version: 1,
            directory_hash: *directory.hash(),
            kind: Kind::Alert,
            label,
            onward: Onward::None,
            created_ms: now,
            not_before_ms: now,
            deliver_by_ms: now + 3_600_000,
            recipient_commit: Vec::new(),
            refers_to: None,
            attachments: Vec::new(),
            reviewed: false,
        };
        let title = Text { language: "en".to_owned(), text: "A test".to_owned(), machine_translated: false };
        let body = Body { format: 1, title: vec![title], alert: Some(Alert::default()), ..Body::default() };
        // An empty submessage is refused: the alert says what it suspects.
        let suspected = vec![Offence::TraffickingInPersons as i32];
        let body = Body { alert: Some(Alert { suspected, ..Alert::default() }), ..body };
        let key = directory.at(now).encryption_key(to).unwrap().clone();
        let recipients = vec![Recipient { unit: to.clone(), key, previous: [0; 32], named: true }];
        Draft { core, body, recipients, visible_audience: false }
    }

    /// Seals a draft with this member's key.
    #[must_use]
    pub fn seal(&self, draft: Draft) -> Sealed {
        seal(draft, &self.packet_key(), &mut os_entropy()).unwrap()
    }

    /// A hello that a broker accepts.
    #[must_use]
    pub fn hello(&self, directory: &Directory) -> Hello {
        Hello {
            protocol: 1,
            region: self.secrets.region.clone(),
            agency: self.unit.agency.clone(),
            roster_version: directory.roster().version,
            keyset_version: 1,
            directory_hash: Bytes::copy_from_slice(directory.hash()),
            slot_key: self.secrets.slot_key.clone(),
            time_ms: now_ms(),
            software: "lintas-tests".to_owned(),
            ..Hello::default()
        }
    }

    /// Connects and says `hello`.
    ///
    /// # Errors
    /// What the broker answered instead.
    pub fn connect(&self, broker: SocketAddr, hello: &Hello) -> Result<(Session, HelloAck), LinkError> {
        #[derive(Debug)]
        struct Anybody;
        impl PeerDirectory for Anybody {
            fn admits(&self, _: &[u8; 32]) -> bool {
                true
            }
        }
        let key = TransportKey::from_seed(&seed("transport", &self.secrets.transport_seed).unwrap())?;
        self.runtime.block_on(async {
            let client = Client::bind(SocketAddr::from(([127, 0, 0, 1], 0)), &key, Arc::new(Anybody))?;
            let connection = client.connect(broker).await?;
            let (ack, writer, reader) = greet(&connection, hello).await?;
            Ok((Session { _client: client, writer, reader }, ack))
        })
    }

    /// Submits many, up to `IN_FLIGHT` unanswered at once; the answers in their order.
    pub fn submit_all(&self, session: &mut Session, submissions: Vec<Bytes>) -> Vec<Answer> {
        const IN_FLIGHT: usize = 64;
        let (total, mut submissions) = (submissions.len(), submissions.into_iter());
        let mut answers = Vec::with_capacity(total);
        self.runtime.block_on(async {
            let first: Vec<_> = submissions.by_ref().take(IN_FLIGHT).collect();
            session
                .writer
                .send_many(first.into_iter().map(|one| (FrameType::Submission, one)))
                .await
                .unwrap();
            while answers.len() < total {
                answers.push(session.answer().await);
                if let Some(next) = submissions.next() {
                    session.writer.send(FrameType::Submission, next).await.unwrap();
                }
            }
        });
        answers
    }

    /// Counts the deliveries that have arrived for a member that has not read any, until nothing comes for a second.
    pub fn count_deliveries(&self, session: &mut Session) -> usize {
        self.runtime.block_on(async {
            let mut count = 0;
            while let Ok(frame) = timeout(Duration::from_secs(1), session.reader.next()).await {
                count += usize::from(frame.unwrap().unwrap().0 == FrameType::Delivery);
            }
            count
        })
    }

    /// Reads what comes and answers nothing, until the broker ends the session; says why it ended, or none if it does
    /// not end.
    pub fn wait_for_end(&self, session: &mut Session) -> Option<LinkError> {
        let reading = async {
            loop {
                match session.reader.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return LinkError::StreamEnded,
                    Err(error) => return error,
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, reading).await.ok() })
    }

    /// Submits bytes as they are and waits for the answer.
    pub fn submit(&self, session: &mut Session, submission: Bytes) -> Answer {
        self.runtime.block_on(async {
            session.writer.send(FrameType::Submission, submission).await.unwrap();
            session.answer().await
        })
    }
}

impl Session {
    /// The next receipt or refusal; what else comes is left unanswered.
    async fn answer(&mut self) -> Answer {
        loop {
            let (kind, payload) = self.reader.next().await.unwrap().unwrap();
            if kind == FrameType::Receipt {
                return Answer::Receipt(canonical::decode(&payload, kind.bytes_max()).unwrap());
            }
            if kind == FrameType::Refusal {
                return Answer::Refusal(canonical::decode(&payload, kind.bytes_max()).unwrap());
            }
        }
    }
}
