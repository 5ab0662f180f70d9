//! The sample region, compiled in.

use super::{FileError, RegionSource};

/// The files of the sample region, config/mekong, as they were when this was compiled.
#[must_use]
pub fn mekong_files() -> [(&'static str, &'static str); 12] {
    [
        ("region.toml", include_str!("../../mekong/region.toml")),
        ("th.toml", include_str!("../../mekong/th.toml")),
        ("vn.toml", include_str!("../../mekong/vn.toml")),
        ("kh.toml", include_str!("../../mekong/kh.toml")),
        ("la.toml", include_str!("../../mekong/la.toml")),
        ("mm.toml", include_str!("../../mekong/mm.toml")),
        ("id.toml", include_str!("../../mekong/id.toml")),
        ("rco.toml", include_str!("../../mekong/rco.toml")),
        ("aud.toml", include_str!("../../mekong/aud.toml")),
        ("omb.toml", include_str!("../../mekong/omb.toml")),
        ("policy/baseline/policy.cedar", include_str!("../../mekong/policy/baseline/policy.cedar")),
        ("policy/baseline/cases.toml", include_str!("../../mekong/policy/baseline/cases.toml")),
    ]
}

/// The sample region.
///
/// # Errors
/// [`FileError`]; a test holds that there is none.
pub fn mekong() -> Result<RegionSource, FileError> {
    RegionSource::parse(&mekong_files())
}
