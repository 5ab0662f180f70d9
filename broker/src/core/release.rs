//! The release policy: may this packet go to this recipient?
//!
//! The place where policies decide. For now one stands here, the regional baseline, which no agency's own policy
//! will be able to loosen:
//!
//! | policy | denies |
//! |---|---|
//! | `baseline/member` | whoever is no active member of the region |
//! | `baseline/noforn` | NOFORN to another country than the originator's, or where one of the two is not known |
//! | `baseline/rel-to` | REL_TO to an agency outside its list |
//! | `baseline/tlp-red` | TLP:RED to a whole agency instead of a named unit |
//!
//! The originator's own units are not foreign to it, and need not be listed. A packet of which one recipient is
//! denied is refused whole: release to some of the recipients only comes with the agencies' own policies.

use lintas_proto::schema::{Caveat, Label, Member, Tlp, UnitRef};

/// What a policy decided about one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may go.
    Release,
    /// It may not.
    Deny(Denial),
}

/// Why a recipient gets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Which policy decided, e.g. `baseline/noforn`. Stable: stands in signed evidence.
    pub policy_id: &'static str,
    /// For the sender: who decided, about whom, why, what to do.
    pub text: String,
}

/// Decides about one recipient of a packet from `originator`. `member` is the recipient's agency, if it is an
/// active member; `None` for either side denies whatever depends on it.
#[must_use]
pub fn decide(
    label: &Label,
    originator: Option<&Member>,
    recipient: &UnitRef,
    member: Option<&Member>,
) -> Decision {
    let agency = &recipient.agency;
    let Some(member) = member.filter(|member| member.agency == *agency) else {
        return deny("baseline/member", recipient, "it is not an active member of the region", "take it out");
    };
    let Some(originator) = originator else {
        let why = "its originator is not an active member of the region";
        return deny("baseline/member", recipient, why, "ask the region authority");
    };
    let abroad = originator.agency != *agency;
    let known = !originator.country.is_empty() && !member.country.is_empty();
    if has(label, Caveat::Noforn) && abroad && !(known && originator.country == member.country) {
        let why = "the label says NOFORN, and that agency is not known to be of the originator's country";
        return deny("baseline/noforn", recipient, why, "take it out, or NOFORN off if you may");
    }
    if has(label, Caveat::RelTo) && abroad && !label.rel_to.contains(agency) {
        let why = "the label says REL_TO, and that agency is not in its list";
        return deny("baseline/rel-to", recipient, why, "take it out, or add it to the list if you may");
    }
    if label.tlp == Tlp::Red as i32 && recipient.unit.is_empty() {
        let why = "the label says TLP:RED, which is for named units only";
        return deny("baseline/tlp-red", recipient, why, "name the unit");
    }
    Decision::Release
}

fn has(label: &Label, caveat: Caveat) -> bool {
    label.caveats.contains(&(caveat as i32))
}

fn deny(policy_id: &'static str, recipient: &UnitRef, why: &str, advice: &str) -> Decision {
    let UnitRef { agency, unit } = recipient;
    let text = format!(
        "The regional baseline does not release the packet to {agency} / {unit}: {why}. Nothing was sent to \
         anybody; {advice}, and seal it again."
    );
    Decision::Deny(Denial { policy_id, text })
}

#[cfg(test)]
mod tests {
    use lintas_proto::limits;

    use super::*;

    fn member(agency: &str, country: &str) -> Member {
        Member { agency: agency.to_owned(), country: country.to_owned(), ..Member::default() }
    }

    fn to(agency: &str, unit: &str) -> UnitRef {
        UnitRef { agency: agency.to_owned(), unit: unit.to_owned() }
    }

    fn label(caveats: &[Caveat], rel_to: &[&str], tlp: Tlp) -> Label {
        let caveats = caveats.iter().map(|caveat| *caveat as i32).collect();
        let rel_to = rel_to.iter().map(|&agency| agency.to_owned()).collect();
        Label { caveats, rel_to, tlp: tlp as i32, ..Label::default() }
    }

    /// The policy that denies, or none.
    fn policy(label: &Label, from: &Member, to: &Member, unit: &str) -> Option<&'static str> {
        match decide(label, Some(from), &self::to(&to.agency, unit), Some(to)) {
            Decision::Release => None,
            Decision::Deny(denial) => Some(denial.policy_id),
        }
    }

    #[test]
    fn the_baseline_as_a_table() {
        let (rtp, dsi) = (member("TH-RTP", "TH"), member("TH-DSI", "TH"));
        let (kh, vn, body, other) =
            (member("KH", "KH"), member("VN", "VN"), member("RCO", ""), member("AUD", ""));
        let plain = label(&[], &[], Tlp::Amber);
        let noforn = label(&[Caveat::Noforn], &[], Tlp::Amber);
        let rel_to = label(&[Caveat::RelTo], &["KH"], Tlp::Amber);
        let both = label(&[Caveat::Noforn, Caveat::RelTo], &["KH", "TH-DSI"], Tlp::Amber);
        let red = label(&[], &[], Tlp::Red);
        let (foreign, unlisted) = (Some("baseline/noforn"), Some("baseline/rel-to"));
        let table = [
            (&plain, &rtp, &kh, None),
            (&plain, &body, &kh, None),
            (&noforn, &rtp, &rtp, None),
            (&noforn, &rtp, &dsi, None),
            (&noforn, &rtp, &kh, foreign),
            (&noforn, &rtp, &body, foreign),
            (&noforn, &body, &kh, foreign),
            (&noforn, &body, &other, foreign),
            (&noforn, &body, &body, None),
            (&rel_to, &rtp, &kh, None),
            (&rel_to, &rtp, &rtp, None),
            (&rel_to, &rtp, &vn, unlisted),
            (&rel_to, &rtp, &dsi, unlisted),
            (&both, &rtp, &dsi, None),
            (&both, &rtp, &kh, foreign),
            (&red, &rtp, &kh, None),
        ];
        for (label, from, to, want) in table {
            assert_eq!(policy(label, from, to, "A"), want, "{label:?} {} -> {}", from.agency, to.agency);
        }
        assert_eq!(policy(&red, &rtp, &kh, ""), Some("baseline/tlp-red"));
    }

    #[test]
    fn whoever_is_no_member_gets_nothing() {
        let (th, plain) = (member("TH", "TH"), label(&[], &[], Tlp::Clear));
        for (from, member) in [(Some(&th), None), (None, Some(&th)), (Some(&th), Some(&th))] {
            let to = to(if from.is_some() { "XX" } else { "TH" }, "A");
            let decision = decide(&plain, from, &to, member);
            assert!(matches!(decision, Decision::Deny(Denial { policy_id: "baseline/member", .. })));
        }
    }

    #[test]
    fn the_longest_sentence_fits_and_says_who_decided() {
        let code = "Z".repeat(32);
        let noforn = label(&[Caveat::Noforn], &[], Tlp::Amber);
        let (from, member) = (member("TH", "TH"), member(&code, "KH"));
        let Decision::Deny(denial) = decide(&noforn, Some(&from), &to(&code, &code), Some(&member)) else {
            panic!("released");
        };
        assert!(denial.text.len() <= limits::SENTENCE_BYTES_MAX, "{}", denial.text.len());
        assert!(denial.text.starts_with("The regional baseline does not release"), "{}", denial.text);
    }
}
