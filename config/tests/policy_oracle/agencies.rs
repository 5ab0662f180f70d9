//! The sample bundles, one function each, after the tables of docs/POLICY.md.

use lintas_proto::schema::{
    Caveat, DataCategory as Data, HandlingCode, Kind, Offence, Onward, Purpose, Tlp, UnitFunction as Does,
};

use crate::{
    oracle::{Effect, Rule, When},
    world::Facts,
};

use Effect::{Forbids, Permits};
use When::{Accepted, Released, Reviewed};

type Row = (&'static str, When, Effect, bool);

pub(crate) fn rules_of(agency: &str, f: &Facts<'_>) -> Vec<Rule> {
    let rows = match agency {
        "TH" => thailand(f),
        "KH" => cambodia(f),
        "VN" => viet_nam(f),
        "LA" => lao(f),
        "MM" => myanmar(f),
        "ID" => indonesia(f),
        "RCO" => coordinator(f),
        "AUD" => auditors(f),
        _ => Vec::new(),
    };
    rows.into_iter().map(|(id, when, effect, holds)| Rule::new(agency, id, when, effect, holds)).collect()
}

fn thailand(f: &Facts<'_>) -> Vec<Row> {
    let crimes = [
        Offence::TraffickingInPersons,
        Offence::MigrantSmuggling,
        Offence::ForcedLabour,
        Offence::ChildSexualExploitation,
    ];
    let crime = crimes.into_iter().any(|crime| f.about(crime));
    let alert = f.kind(&[Kind::Alert, Kind::Notice]);
    let question = f.kind(&[Kind::Request, Kind::Reply]);
    let too_red = f.tlp(Tlp::AmberStrict) || f.tlp(Tlp::Red);
    let source = f.caveat(Caveat::SourceProtect);
    let touchy = f.about(Offence::ChildSexualExploitation) || f.tlp(Tlp::Red);
    let from_asean = f.to_unit("TH/TH-SPOC") && f.of_group("ASEAN");
    vec![
        ("own-units", Released, Permits, f.to("TH")),
        ("alerts", Released, Permits, f.to_group("COMMIT") && alert && crime),
        ("requests", Released, Permits, f.to_group("ASEAN") && f.does(Does::Spoc) && question),
        ("coordinator", Released, Permits, f.to("RCO") && f.kind(&[Kind::Alert]) && !too_red),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("sources", Released, Forbids, source && !f.to("TH") && !f.to_unit("KH/KH-AHT")),
        ("second-look", Reviewed, Permits, touchy && !f.to("TH")),
        ("accept-own", Accepted, Permits, f.from("TH")),
        ("accept-commit", Accepted, Permits, f.of_group("COMMIT")),
        ("accept-coordinator", Accepted, Permits, f.from("RCO")),
        ("accept-asean", Accepted, Permits, from_asean && (question || f.kind(&[Kind::Recall]))),
        ("labour-no-suspects", Accepted, Forbids, f.to_unit("TH/TH-LAB") && f.data(Data::Suspect)),
    ]
}

fn cambodia(f: &Facts<'_>) -> Vec<Row> {
    let neighbour = f.to("LA") || f.to("TH") || f.to("VN");
    let police = f.does(Does::Spoc) || f.does(Does::Investigation);
    let work = f.kind(&[Kind::Alert, Kind::Request, Kind::Reply]);
    let helps = f.purpose(Purpose::VictimProtection) || f.purpose(Purpose::MissingPerson);
    let named_person = [Data::Victim, Data::Witness, Data::Minor].into_iter().any(|data| f.data(data));
    let trial = f.asked.named && f.purpose(Purpose::Prosecution);
    let border = f.kind(&[Kind::Alert, Kind::Notice, Kind::Recall])
        && (f.about(Offence::MigrantSmuggling) || f.about(Offence::DocumentFraud))
        && !f.data(Data::Victim);
    let protector = f.to_group("ASEAN") && f.does(Does::VictimProtection);
    let single = f.to_unit("KH/KH-AHT") && f.caveat(Caveat::EyesOnly);
    vec![
        ("own-units", Released, Permits, f.to("KH")),
        ("neighbours", Released, Permits, neighbour && police && work),
        ("victims", Released, Permits, protector && helps),
        ("coordinator", Released, Permits, f.to("RCO") && !named_person),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("witnesses", Released, Forbids, f.data(Data::Witness) && !f.to("KH") && !trial),
        ("strict", Released, Forbids, f.tlp(Tlp::AmberStrict) && !f.to("KH") && !f.does(Does::Spoc)),
        ("accept-contact", Accepted, Permits, f.to_unit("KH/KH-AHT")),
        ("accept-victims", Accepted, Permits, f.to_unit("KH/KH-VP") && helps),
        ("accept-border", Accepted, Permits, f.to_unit("KH/KH-BOR") && border),
        ("no-single-reader", Accepted, Forbids, single),
    ]
}

fn viet_nam(f: &Facts<'_>) -> Vec<Row> {
    let crimes = [
        Offence::TraffickingInPersons,
        Offence::MigrantSmuggling,
        Offence::ChildSexualExploitation,
        Offence::OrganisedCrime,
    ];
    let crime = crimes.into_iter().any(|crime| f.about(crime));
    let tells = f.kind(&[Kind::Alert, Kind::Notice, Kind::Reply]);
    let asks = f.kind(&[Kind::Request]) && f.asked.named && f.does(Does::Spoc);
    let money = f.purpose(Purpose::FinancialInvestigation);
    let may_leave = f.purpose(Purpose::Prosecution) || f.purpose(Purpose::MissingPerson);
    let unclassified = f.kind(&[Kind::Alert, Kind::Notice]) && f.rank == 0;
    let door = f.to_unit("VN/VN-C02") || f.to_unit("VN/VN-VP");
    let fiu = f.to_group("ASEAN") && f.does(Does::FinancialIntelligence);
    let from_id = f.to_unit("VN/VN-C02") && f.from("ID");
    vec![
        ("own-units", Released, Permits, f.to("VN")),
        ("commit", Released, Permits, f.to_group("COMMIT") && tells && crime),
        ("requests", Released, Permits, f.to_group("ASEAN") && asks),
        ("money", Released, Permits, fiu && money),
        ("coordinator", Released, Permits, f.to("RCO") && unclassified),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("secret-stays", Released, Forbids, f.rank >= 3 && !f.to("VN")),
        ("biometrics", Released, Forbids, f.data(Data::Biometric) && !f.to("VN") && !may_leave),
        ("no-free-passage", Released, Forbids, f.asked.onward == Onward::Any && !f.to("VN")),
        ("accept-own", Accepted, Permits, f.from("VN")),
        ("accept-commit", Accepted, Permits, door && (f.of_group("COMMIT") || f.from("RCO"))),
        ("accept-money", Accepted, Permits, f.to_unit("VN/VN-FIU") && f.of_group("ASEAN") && money),
        ("accept-indonesia", Accepted, Permits, from_id && !f.since("2027-07-01")),
        ("no-corruption", Accepted, Forbids, f.about(Offence::Corruption) && !f.from("VN")),
    ]
}

fn lao(f: &Facts<'_>) -> Vec<Row> {
    let neighbour = f.to("KH") || f.to("TH") || f.to("VN");
    let work = f.kind(&[Kind::Alert, Kind::Request, Kind::Reply]);
    let open = f.tlp(Tlp::Clear) || f.tlp(Tlp::Green);
    let minor = f.data(Data::Minor) && !f.does(Does::ChildProtection);
    let known = ["KH", "LA", "TH", "VN"].into_iter().any(|agency| f.from(agency));
    let desk = f.to_unit("LA/LA-ATD") && f.from("RCO");
    let hops = f.asked.relay.as_ref().map_or(0, |(_, hops, _)| *hops);
    vec![
        ("own-units", Released, Permits, f.to("LA")),
        ("neighbours", Released, Permits, neighbour && f.asked.named && work),
        ("notices", Released, Permits, f.to_group("ASEAN") && f.kind(&[Kind::Notice]) && open),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("minors", Released, Forbids, minor && !f.to("LA")),
        ("classified-review", Reviewed, Permits, f.rank > 0 && !f.to("LA")),
        ("accept-neighbours", Accepted, Permits, known),
        ("accept-coordinator", Accepted, Permits, desk && f.kind(&[Kind::Alert, Kind::Notice])),
        ("accept-notices", Accepted, Permits, f.kind(&[Kind::Notice, Kind::Recall])),
        ("one-hand", Accepted, Forbids, hops > 1),
    ]
}

fn myanmar(f: &Facts<'_>) -> Vec<Row> {
    let at_sea = f.does(Does::Border) || f.does(Does::Maritime);
    let low = f.tlp(Tlp::Clear) || f.tlp(Tlp::Green) || f.tlp(Tlp::Amber);
    let arranged = f.since("2026-07-01") && !f.since("2027-07-01");
    let nobody = f.kind(&[Kind::Alert]) && f.without_data();
    let from_id = f.to_unit("MM/MM-ATIPD") && f.from("ID");
    let smuggled = f.to_unit("ID/ID-SPOC") && f.about(Offence::MigrantSmuggling);
    vec![
        ("own-units", Released, Permits, f.to("MM")),
        ("at-sea", Released, Permits, f.to_group("ASEAN") && at_sea && nobody),
        ("contacts", Released, Permits, f.to_group("COMMIT") && f.does(Does::Spoc) && low),
        ("indonesia", Released, Permits, smuggled && arranged),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("accept-own", Accepted, Permits, f.from("MM")),
        ("accept-commit", Accepted, Permits, f.of_group("COMMIT") || f.from("RCO")),
        ("accept-indonesia", Accepted, Permits, from_id && !f.since("2027-07-01")),
        ("no-h1", Accepted, Forbids, f.handling(HandlingCode::H1) && !f.from("MM")),
    ]
}

fn indonesia(f: &Facts<'_>) -> Vec<Row> {
    let asean = f.to_group("ASEAN");
    let talk = f.kind(&[Kind::Notice, Kind::Request, Kind::Reply]) && f.rank == 0;
    let victim = f.purpose(Purpose::VictimProtection);
    let shared = f.about(Offence::MigrantSmuggling) || f.about(Offence::MoneyLaundering);
    let over = f.since("2027-07-01");
    let taken = f.kind(&[Kind::Notice, Kind::Request, Kind::Reply, Kind::Recall]);
    let money = f.purpose(Purpose::FinancialInvestigation);
    let partner = f.from("MM") || f.from("VN");
    vec![
        ("own-units", Released, Permits, f.to("ID")),
        ("contacts", Released, Permits, asean && f.does(Does::Spoc) && talk),
        ("victims", Released, Permits, asean && f.does(Does::VictimProtection) && victim),
        ("coordinator", Released, Permits, f.to("RCO") && f.kind(&[Kind::Alert, Kind::Notice])),
        ("viet-nam", Released, Permits, f.to("VN") && !over && f.rank <= 2 && shared),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("sources", Released, Forbids, f.caveat(Caveat::SourceProtect) && !f.to("ID")),
        ("accept-own", Accepted, Permits, f.from("ID")),
        ("accept-region", Accepted, Permits, taken),
        ("accept-victims", Accepted, Permits, f.to_unit("ID/ID-PPA") && victim),
        ("accept-partners", Accepted, Permits, partner && !over),
        ("money-only", Accepted, Forbids, f.to_unit("ID/ID-FIU") && !money),
    ]
}

fn coordinator(f: &Facts<'_>) -> Vec<Row> {
    let told = f.kind(&[Kind::Alert, Kind::Notice, Kind::Request]);
    let question = f.kind(&[Kind::Request, Kind::Reply]);
    let shared = f.tlp(Tlp::Red) || f.caveat(Caveat::EyesOnly);
    vec![
        ("own-desk", Released, Permits, f.to("RCO")),
        ("contacts", Released, Permits, f.does(Does::Spoc) && told && !f.tlp(Tlp::Red)),
        ("statistics", Released, Permits, f.purpose(Purpose::Statistics)),
        ("recalls", Released, Permits, f.kind(&[Kind::Recall])),
        ("accept-alerts", Accepted, Permits, f.kind(&[Kind::Alert, Kind::Notice, Kind::Recall])),
        ("accept-statistics", Accepted, Permits, f.purpose(Purpose::Statistics)),
        ("accept-to-pass-on", Accepted, Permits, question && f.asked.onward != Onward::None),
        ("shared-desk", Accepted, Forbids, shared),
        ("directly", Accepted, Forbids, f.asked.relay.is_some()),
    ]
}

fn auditors(f: &Facts<'_>) -> Vec<Row> {
    let open = f.tlp(Tlp::Clear) || f.tlp(Tlp::Green);
    vec![
        ("statistics", Accepted, Permits, f.kind(&[Kind::Notice]) && f.purpose(Purpose::Statistics)),
        ("nothing-secret", Accepted, Forbids, !open),
    ]
}
