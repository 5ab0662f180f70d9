//! A checkpoint that the broker wants cosigned: what this node answers, before it has kept anything.

use std::sync::Arc;

use lintas_config::{Directory, directory::Broker};
use lintas_proto::{
    audit::note::SignedCheckpoint,
    canonical::fixed,
    id::Digest,
    schema::{Reason, WitnessRequest},
    sign::VerifyingKey,
};

use super::{
    findings::{Finding, Kind},
    standing::{Compared, Pair, Standing, Verdict, is_sound},
};

/// What is to be done about a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// To keep it, and only then to cosign.
    Keep(Arc<SignedCheckpoint>),
    /// To cosign again what is kept already.
    Again(Arc<SignedCheckpoint>),
    /// Not to cosign.
    Refuse(Refused),
}

/// Why a checkpoint is not cosigned.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Code for the broker.
    pub(crate) reason: Reason,
    /// Size that this node knows; 0 for none.
    pub(crate) size: u64,
    /// In plain words.
    pub(crate) why: String,
    /// What it shows about the broker.
    pub(crate) finding: Option<Finding>,
    /// A signed checkpoint that hashes must still decide about.
    pub(crate) open: Option<Arc<SignedCheckpoint>>,
}

impl Refused {
    /// With nothing to find.
    pub(crate) fn new(reason: Reason, size: u64, why: impl Into<String>) -> Self {
        Self { reason, size, why: why.into(), finding: None, open: None }
    }
}

/// The checkpoint that a request asks about, signed by the present root log of a broker of the region.
pub(crate) fn signed(
    request: &WitnessRequest,
    directory: &Directory,
) -> Result<Arc<SignedCheckpoint>, Box<Refused>> {
    let refuse = |reason, why: &str| Box::new(Refused::new(reason, 0, why));
    let signed = SignedCheckpoint::parse(&request.checkpoint)
        .map_err(|error| refuse(Reason::Malformed, &error.to_string()))?;
    let (origin, key) = log_of(directory, &signed).ok_or_else(|| {
        refuse(Reason::StaleDirectory, "it is of a log that the directory here does not name")
    })?;
    signed.verify(&origin, key).map_err(|error| refuse(Reason::BadSignature, &error.to_string()))?;
    if is_sound(signed.claim()) {
        Ok(Arc::new(signed))
    } else {
        Err(refuse(Reason::Malformed, "the empty log has another root"))
    }
}

/// The present root log of the broker that a checkpoint claims to be of: its origin, and the key that signs for it.
pub(crate) fn log_of<'a>(
    directory: &'a Directory,
    signed: &SignedCheckpoint,
) -> Option<(String, &'a VerifyingKey)> {
    let of = |broker: &&Broker| broker.root_origin() == signed.claim().origin;
    directory.brokers().iter().find(of).map(|broker| (broker.root_origin(), &broker.log_key))
}

/// Decides about a checkpoint that [`signed`] has given. `standing` is what this node knows of that log.
pub(crate) fn decide(
    request: &WitnessRequest,
    signed: Arc<SignedCheckpoint>,
    standing: Option<&Standing>,
) -> Decision {
    let proof: Option<Vec<Digest>> = request.proof.iter().map(|hash| fixed("hash", hash).ok()).collect();
    let size = standing.map_or(0, |standing| standing.known().claim().size);
    let Some(proof) = proof else {
        return Decision::Refuse(Refused::new(
            Reason::Malformed,
            size,
            "a hash of its proof has not 32 bytes",
        ));
    };
    let Some(standing) = standing else {
        return first(request, signed, &proof);
    };
    let compared = standing.compare(&signed);
    let same_size = size == signed.claim().size;
    match compared {
        Compared::Same if same_size => Decision::Again(signed),
        Compared::Same => Decision::Refuse(smaller(size)),
        Compared::Fork(finding) => Decision::Refuse(Refused {
            finding: Some(finding),
            ..Refused::new(Reason::Policy, size, "it is another log than the one that this node knows")
        }),
        Compared::Apart(_) if signed.claim().size < size => {
            Decision::Refuse(Refused { open: Some(signed), ..smaller(size) })
        }
        Compared::Apart(_) if request.old_size != size => Decision::Refuse(Refused::new(
            Reason::Replay,
            size,
            format!("the broker takes it that this node knows {} entries; it knows {size}", request.old_size),
        )),
        Compared::Apart(pair) => continued(&pair, &proof, signed, size),
    }
}

/// The first checkpoint of a log is believed as it is; from then on only what continues it.
fn first(request: &WitnessRequest, signed: Arc<SignedCheckpoint>, proof: &[Digest]) -> Decision {
    if request.old_size != 0 {
        return Decision::Refuse(Refused::new(Reason::Replay, 0, "this node knows nothing of that log yet"));
    }
    if !proof.is_empty() {
        let why = "a proof from the empty log has no hashes";
        return Decision::Refuse(Refused::new(Reason::Malformed, 0, why));
    }
    Decision::Keep(signed)
}

fn smaller(size: u64) -> Refused {
    Refused::new(Reason::Replay, size, format!("this node knows {size} entries already"))
}

fn continued(pair: &Pair, proof: &[Digest], signed: Arc<SignedCheckpoint>, size: u64) -> Decision {
    let refused =
        Refused::new(Reason::Policy, size, "its proof does not lead from what this node knows to it");
    match pair.judge_proof(proof) {
        Verdict::Consistent => Decision::Keep(signed),
        Verdict::Fork(finding) => Decision::Refuse(Refused { finding: Some(finding), ..refused }),
        // It may be a fork, or a wrong proof of a sound log: the tiles will show it.
        Verdict::Unproven => {
            let text = format!(
                "the broker asked this node to cosign its log `{}` with {} entries, and did not prove that it continues \
                 the one with {size}",
                pair.large().origin,
                pair.large().size
            );
            let finding = Finding::accusation(Kind::Fork, text, pair.notes());
            Decision::Refuse(Refused { finding: Some(finding), open: Some(signed), ..refused })
        }
    }
}
