//! What changes in the units of a member, in words.

use lintas_proto::schema::{Member, RosterUnit};

use super::{
    names::{function_list, purpose_list},
    review::{Change, change, loosening},
};

/// Units that come, go, or may do something else than before.
pub(super) fn changed(old: &Member, new: &Member) -> Vec<Change> {
    let mut found = Vec::new();
    for unit in &new.units {
        match old.units.iter().find(|known| known.unit == unit.unit) {
            Some(known) => differs(&new.agency, known, unit, &mut found),
            None => found.push(change("unit_comes", &new.agency, comes(unit))),
        }
    }
    for gone in old.units.iter().filter(|old| !new.units.iter().any(|new| new.unit == old.unit)) {
        let text = format!("unit {} goes: \"{}\"", gone.unit, gone.name);
        found.push(change("unit_goes", &new.agency, text));
    }
    found
}

fn differs(agency: &str, old: &RosterUnit, new: &RosterUnit, found: &mut Vec<Change>) {
    let code = &new.unit;
    if old.name != new.name {
        let text = format!("unit {code}: name \"{}\" (before: \"{}\")", new.name, old.name);
        found.push(change("unit_name", agency, text));
    }
    if old.functions != new.functions {
        let (now, before) = (function_names(&new.functions), function_names(&old.functions));
        let text = format!("unit {code}: functions {now} (before: {before})");
        found.push(change("unit_functions", agency, text));
    }
    if old.purposes != new.purposes {
        let (now, before) = (purpose_names(&new.purposes), purpose_names(&old.purposes));
        let text = format!("unit {code}: purposes {now} (before: {before})");
        let more = new.purposes.iter().any(|purpose| !old.purposes.contains(purpose));
        found.push(loosening_if(more, "unit_purposes", agency, text));
    }
    if old.clearance != new.clearance {
        let text = format!("unit {code}: clearance {} (before: {})", new.clearance, old.clearance);
        found.push(loosening_if(new.clearance > old.clearance, "unit_clearance", agency, text));
    }
}

/// A change that is a loosening under a condition.
pub(super) fn loosening_if(loosens: bool, kind: &'static str, whose: &str, text: String) -> Change {
    if loosens { loosening(kind, whose, &text) } else { change(kind, whose, text) }
}

fn comes(unit: &RosterUnit) -> String {
    let (functions, purposes) = (function_names(&unit.functions), purpose_names(&unit.purposes));
    format!(
        "unit {} comes: \"{}\", functions {functions}, purposes {purposes}, clearance {}",
        unit.unit, unit.name, unit.clearance
    )
}

fn function_names(values: &[i32]) -> String {
    function_list(values).join("+")
}

fn purpose_names(values: &[i32]) -> String {
    if values.is_empty() { "none".to_owned() } else { purpose_list(values).join("+") }
}
