//! Which kept packets the loss of a key exposes.

use lintas_proto::{
    canonical::{self, fixed},
    envelope::core::Core,
    limits,
    schema::{Header, Opening, Submission, UnitRef},
};

use super::Desk;
use crate::{
    core::{
        archive::title,
        exposure::{Exposed, Exposure, Lost, Packet, advice, known_as, loss},
        listed,
        records::{Record, RecordError},
    },
    shell::{
        failure::{Code, Failure},
        store::StoreError,
    },
};

/// Most packets listed; more are counted.
const LISTED_MAX: usize = 50_000;

impl Desk {
    /// Looks at every kept packet since a time, all if none is named, and says which of them `lost` exposes.
    pub(super) fn exposure(
        &self,
        lost: &str,
        since_ms: Option<u64>,
        titles: bool,
    ) -> Result<Exposure, Failure> {
        let what = Lost::parse(lost).map_err(|wrong| Failure::new(Code::Usage, wrong))?;
        let listed = listed::keysets(&self.directory()).map_err(Failure::internal)?;
        let mut found = Exposure {
            lost: lost.trim().to_owned(),
            known_as: known_as(&what, &listed),
            since_ms,
            packets: Vec::new(),
            contents: 0,
            signatures: 0,
            looked_at: 0,
            unread: 0,
            not_listed: 0,
            advice: Vec::new(),
        };
        for (sequence, time_ms) in self.kept_since(since_ms.unwrap_or_default()) {
            found.looked_at += 1;
            let Ok(packet) = self.packet(sequence) else {
                found.unread += 1;
                continue;
            };
            let loss = loss(&what, &packet, &listed);
            if !loss.contents && !loss.signature {
                continue;
            }
            found.contents += usize::from(loss.contents);
            found.signatures += usize::from(loss.signature);
            if found.packets.len() >= LISTED_MAX {
                found.not_listed += 1;
                continue;
            }
            let title = titles.then(|| self.title_of(sequence, packet.sent));
            found.packets.push(Exposed::new(&packet, loss, time_ms, title));
        }
        found.advice = advice(&what, &found);
        Ok(found)
    }

    /// Sequences and times: received packets, then sent ones, each newest first.
    fn kept_since(&self, since_ms: u64) -> Vec<(u64, u64)> {
        let state = self.store.state();
        let received = state.incoming().map(|(sequence, packet)| (sequence, packet.received_ms));
        let sent = state.outgoing().map(|(sequence, packet)| (sequence, packet.created_ms));
        received.chain(sent).filter(|(_, time_ms)| *time_ms >= since_ms).collect()
    }

    fn packet(&self, sequence: u64) -> Result<Packet, StoreError> {
        let (header, openings, sent) = match self.store.read(sequence)? {
            Record::Incoming(stored) => (stored.header.clone(), stored.opening.into_iter().collect(), false),
            Record::Outgoing(stored) => {
                let submission: Submission = canonical::decode(&stored.submission, limits::FRAME_BYTES_MAX)
                    .map_err(RecordError::from)?;
                (submission.header, submission.openings, true)
            }
            Record::Receipt(_)
            | Record::Refusal(_)
            | Record::Evidence(_)
            | Record::Rejection(_)
            | Record::Inclusion(_)
            | Record::RootProof(_)
            | Record::Confirmation(_)
            | Record::Review(_)
            | Record::Finding(_)
            | Record::Purge(_)
            | Record::Doubted(_) => return Err(RecordError::Missing("the packet").into()),
        };
        let header: Header =
            canonical::decode(&header, limits::HEADER_BYTES_MAX).map_err(RecordError::from)?;
        let core = Core::parse(&header.core).map_err(RecordError::from)?;
        let sealed_to = |opening: &Opening| {
            let unit = UnitRef { agency: opening.agency.clone(), unit: opening.unit.clone() };
            Ok((unit, fixed("enc_key_id", &opening.enc_key_id).map_err(RecordError::from)?))
        };
        let openings: Vec<Opening> = openings;
        Ok(Packet {
            sent,
            core,
            sealed_to: openings.iter().map(sealed_to).collect::<Result<_, StoreError>>()?,
        })
    }

    fn title_of(&self, sequence: u64, sent: bool) -> String {
        let open = if sent { self.open_sent(sequence) } else { self.open_received(sequence) };
        open.map(|open| title(&open.body)).unwrap_or_default()
    }
}
