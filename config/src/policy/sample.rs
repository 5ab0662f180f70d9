//! The policies of the sample region, `config/mekong/policy`, as they were when this was compiled. docs/POLICY.md explains
//! each of them.

macro_rules! bundle {
    ($folder:literal) => {
        (
            include_str!(concat!("../../mekong/policy/", $folder, "/policy.cedar")),
            include_str!(concat!("../../mekong/policy/", $folder, "/cases.toml")),
        )
    };
}

/// Policies and cases of each member, in the order of codes.
const BUNDLES: [(&str, (&str, &str)); 9] = [
    ("AUD", bundle!("aud")),
    ("ID", bundle!("id")),
    ("KH", bundle!("kh")),
    ("LA", bundle!("la")),
    ("MM", bundle!("mm")),
    ("OMB", bundle!("omb")),
    ("RCO", bundle!("rco")),
    ("TH", bundle!("th")),
    ("VN", bundle!("vn")),
];

/// The text of an agency's policies, and that of their cases.
#[must_use]
pub fn texts(agency: &str) -> Option<(&'static str, &'static str)> {
    BUNDLES.iter().find(|(code, _)| *code == agency).map(|(_, texts)| *texts)
}

/// The text of the region's baseline, and that of its cases.
#[must_use]
pub fn baseline() -> (&'static str, &'static str) {
    bundle!("baseline")
}

/// Whose policies there are: the codes of all members, in their order.
pub fn agencies() -> impl Iterator<Item = &'static str> {
    BUNDLES.iter().map(|(code, _)| *code)
}
