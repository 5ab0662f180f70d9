//! Rules of the clear label, and of lists of codes in general: sorted, no value twice, none unknown.

use thiserror::Error;

use crate::{
    id::check_code,
    schema::{Caveat, Classification, DataCategory, HandlingCode, Label, Offence, Purpose, Tlp},
};

/// Why a label was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LabelError {
    /// A code that must be there is not, or is unknown.
    #[error("label needs a valid {0}")]
    Needs(&'static str),
    /// Not ascending, or a value twice.
    #[error("{0} must be sorted and hold no value twice")]
    Unsorted(&'static str),
    /// `rel_to` without the caveat REL_TO or the other way round.
    #[error("caveat REL_TO and the list of agencies go together")]
    RelTo,
    /// A text that is not a code.
    #[error("`{0}` is not a code")]
    Code(String),
}

/// Checks a label.
///
/// # Errors
/// [`LabelError`].
pub fn check(label: &Label) -> Result<(), LabelError> {
    Tlp::try_from(label.tlp).ok().filter(|tlp| *tlp != Tlp::Unspecified).ok_or(LabelError::Needs("tlp"))?;
    codes::<HandlingCode>("handling", &label.handling)?;
    codes::<Caveat>("caveats", &label.caveats)?;
    codes::<Purpose>("purposes", &label.purposes)?;
    codes::<Offence>("offences", &label.offences)?;
    codes::<DataCategory>("data", &label.data)?;
    for (name, list) in [("handling", &label.handling), ("purposes", &label.purposes)] {
        if list.is_empty() {
            return Err(LabelError::Needs(name));
        }
    }
    if label.caveats.contains(&(Caveat::RelTo as i32)) == label.rel_to.is_empty() {
        return Err(LabelError::RelTo);
    }
    ascending("rel_to", &label.rel_to)?;
    label.rel_to.iter().try_for_each(|agency| code(agency))?;
    label.classification.as_ref().map_or(Ok(()), classification)
}

fn classification(marking: &Classification) -> Result<(), LabelError> {
    code(&marking.scheme)?;
    code(&marking.value)
}

fn code(text: &str) -> Result<(), LabelError> {
    check_code(text).map_err(|_| LabelError::Code(text.chars().take(40).collect()))
}

fn codes<E: TryFrom<i32>>(name: &'static str, list: &[i32]) -> Result<(), LabelError> {
    ascending(name, list)?;
    let known = list.iter().all(|value| *value != 0 && E::try_from(*value).is_ok());
    if known { Ok(()) } else { Err(LabelError::Needs(name)) }
}

fn ascending<T: Ord>(name: &'static str, list: &[T]) -> Result<(), LabelError> {
    let sorted = list.iter().zip(list.iter().skip(1)).all(|(a, b)| a < b);
    if sorted { Ok(()) } else { Err(LabelError::Unsorted(name)) }
}
