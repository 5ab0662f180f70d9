//! The sample case of `case/`, as an officer would have it on a desk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// A file of the case.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("case").join(name)
}

/// The alert as a draft of that name in `root`, changed by `change`; its path.
pub fn draft(root: &Path, name: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut draft: Value = serde_json::from_slice(&fs::read(file("alert.json")).unwrap()).unwrap();
    change(&mut draft);
    let path = root.join(name);
    fs::write(&path, draft.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The alert from TH to KH alone; its title, in letters, digits and spaces, tells it apart.
#[must_use]
pub fn titled(root: &Path, title: &str) -> String {
    draft(root, &format!("{}.json", title.replace(' ', "-")), |alert| {
        alert["to"] = json!(["KH/KH-AHT"]);
        alert["body"]["title"] = json!([{ "language": "en", "text": title }]);
    })
}
