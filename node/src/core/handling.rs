//! What handling codes and caveats oblige a reader to, in plain words.

use lintas_proto::schema::{Body, Caveat, HandlingCode, Label};

/// Each restriction of a packet as one sentence; the sender's own words, which only H3 has, come first.
pub(crate) fn restrictions(label: &Label, body: &Body) -> Vec<String> {
    let own =
        body.handling_restriction.iter().map(|text| format!("H3, in the sender's words: {}", text.text));
    let handling = label.handling.iter().filter_map(|code| HandlingCode::try_from(*code).ok());
    let caveats = label.caveats.iter().filter_map(|code| Caveat::try_from(*code).ok());
    let handling = handling.filter_map(of_handling).map(str::to_owned);
    let caveats = caveats.filter_map(|caveat| of_caveat(caveat, &label.rel_to));
    own.chain(handling).chain(caveats).collect()
}

/// Whether what it holds may not simply be written into files.
pub(crate) fn is_restricted(label: &Label) -> bool {
    label.handling.contains(&(HandlingCode::H3 as i32))
        || label.caveats.contains(&(Caveat::DisplayOnly as i32))
}

fn of_handling(code: HandlingCode) -> Option<&'static str> {
    Some(match code {
        HandlingCode::Unspecified => return None,
        HandlingCode::H0 => "H0: use it only to prevent and combat crime",
        HandlingCode::H1 => "H1: do not use it in court or show it there before the sender has agreed",
        HandlingCode::H2 => "H2: do not pass it on to anybody before the sender has agreed",
        HandlingCode::H3 => "H3: the sender has set restrictions of its own: read them, and keep to them",
    })
}

fn of_caveat(caveat: Caveat, rel_to: &[String]) -> Option<String> {
    Some(match caveat {
        Caveat::Unspecified => return None,
        Caveat::Orcon => "ORCON: ask the sender before each further step that passes it on".to_owned(),
        Caveat::Noforn => "NOFORN: it must not leave the sender's country".to_owned(),
        Caveat::RelTo => format!("REL_TO: it is for these agencies only: {}", rel_to.join(", ")),
        Caveat::DisplayOnly => {
            "DISPLAY_ONLY: look at it here; do not copy, print or keep it elsewhere".to_owned()
        }
        Caveat::EyesOnly => "EYES_ONLY: for the reader whom it was addressed to, and nobody else".to_owned(),
        Caveat::SourceProtect => {
            "SOURCE_PROTECT: a source would be at risk: never say or hint where it comes from".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use lintas_proto::schema::Text;

    use super::*;

    #[test]
    fn every_restriction_is_said_and_the_senders_own_words_first() {
        let label = Label {
            handling: vec![HandlingCode::H1 as i32, HandlingCode::H3 as i32],
            caveats: vec![Caveat::RelTo as i32, Caveat::DisplayOnly as i32],
            rel_to: vec!["KH".to_owned(), "LA".to_owned()],
            ..Label::default()
        };
        let own = Text { text: "Only Major Dara may see it".to_owned(), ..Text::default() };
        let said = restrictions(&label, &Body { handling_restriction: vec![own], ..Body::default() });
        assert_eq!(said.len(), 5);
        assert!(said[0].contains("Only Major Dara") && said[1].starts_with("H1: do not use it in court"));
        assert!(said[3].ends_with("KH, LA") && said[4].starts_with("DISPLAY_ONLY"));
        assert!(is_restricted(&label));
        let free = Label { handling: vec![HandlingCode::H0 as i32], ..Label::default() };
        assert!(!is_restricted(&free) && restrictions(&free, &Body::default()).len() == 1);
    }
}
