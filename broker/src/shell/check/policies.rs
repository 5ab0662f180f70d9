//! The policies on the disk: of each agency one chain, up to what `policies.mark` vouches for, and with what the log was told
//! last. That is cheap: no policy is read. Signatures were verified when they were brought.

use lintas_proto::id::{Digest, hex};

use super::{Finding, Folder, Folding, Report};

/// Looks at them; `fold` if the journal could be read.
pub(super) fn look(folder: &Folder, fold: Option<&Folding>, report: &mut Report) {
    let found = match folder.look_at_policies() {
        Ok(found) => found,
        Err(error) => return report.findings.push(Finding::of("policies.mark", error.to_string())),
    };
    let (mut agencies, mut versions) = (0, 0);
    let mut known: Vec<(String, Vec<Digest>)> = Vec::new();
    let mut broken: Vec<String> = Vec::new();
    for (agency, looked) in found {
        match looked {
            Ok(hashes) => {
                agencies += u64::from(!hashes.is_empty());
                versions += hashes.len() as u64;
                known.push((agency, hashes));
            }
            Err(error) => {
                report.findings.push(Finding::of(format!("policies/{agency}"), error.to_string()));
                broken.push(agency);
            }
        }
    }
    report.policies = (agencies, versions);
    let Some(audit) = fold.map(|fold| fold.ledger.audit()) else { return };
    for agency in audit.members().filter(|agency| !broken.iter().any(|known| known == agency)) {
        let Some(told) = audit.policy(agency).filter(|told| **told != [0; 32]) else { continue };
        if !known.iter().any(|(owner, hashes)| owner == agency && hashes.contains(told)) {
            let what = format!(
                "the log was told of the policies with SHA-256 {}, and they are not there; restore policies/ and policies.mark \
                 as they were when the broker ran last",
                hex(told)
            );
            report.findings.push(Finding::of(format!("policies/{agency}"), what));
        }
    }
}
