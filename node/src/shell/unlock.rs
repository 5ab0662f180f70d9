//! Where the passphrase or the key file comes from.

use std::{
    env,
    io::{IsTerminal as _, Write as _, stdin},
    path::{Path, PathBuf},
};

use lintas_proto::id::{hex, unhex};
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    failure::{Code, Failure, why},
    files,
};
use crate::core::vault::{PASSPHRASE_CHARS_MIN, Unlocker};

const SECRET_BYTES_MAX: u64 = 4 * 1024;
const PASSPHRASE_FILE: &str = "LINTAS_PASSPHRASE_FILE";
const IDENTITY_PASSPHRASE_FILE: &str = "LINTAS_IDENTITY_PASSPHRASE_FILE";

/// Whose secret it is.
#[derive(Debug, Clone, Copy)]
struct Whose {
    /// What to ask.
    prompt: &'static str,
    /// Environment variable that names a file with a passphrase.
    file: &'static str,
    /// Option that names a key file.
    option: &'static str,
}

const NODE: Whose = Whose { prompt: "assphrase", file: PASSPHRASE_FILE, option: "--key-file" };
const IDENTITY: Whose = Whose {
    prompt: "assphrase of the identity key",
    file: IDENTITY_PASSPHRASE_FILE,
    option: "--identity-key-file",
};

/// What opens the keys: the key file if one is given, else the file named by `LINTAS_PASSPHRASE_FILE`, else
/// what is typed.
pub(crate) fn unlocker(key_file: Option<&Path>) -> Result<Unlocker, Failure> {
    known(key_file, NODE)
}

/// What opens the identity key, likewise from `LINTAS_IDENTITY_PASSPHRASE_FILE`.
pub(crate) fn identity_unlocker(key_file: Option<&Path>) -> Result<Unlocker, Failure> {
    known(key_file, IDENTITY)
}

fn known(key_file: Option<&Path>, whose: Whose) -> Result<Unlocker, Failure> {
    if let Some(path) = key_file {
        return read_key_file(path);
    }
    match env::var_os(whose.file) {
        Some(path) => passphrase_file(&PathBuf::from(path)),
        None => Ok(Unlocker::Passphrase(ask(&format!("P{}: ", whose.prompt), whose)?)),
    }
}

/// What shall open new keys. A key file that is not there yet is made; a typed passphrase is asked for twice.
pub(crate) fn new_unlocker(
    key_file: Option<&Path>,
    entropy: &mut dyn CryptoRng,
) -> Result<Unlocker, Failure> {
    new(key_file, NODE, entropy)
}

/// What shall open a new identity key: a secret of its own, for whoever opens the node must not have the identity too.
pub(crate) fn new_identity_unlocker(
    key_file: Option<&Path>,
    node: &Unlocker,
    entropy: &mut dyn CryptoRng,
) -> Result<Unlocker, Failure> {
    let identity = new(key_file, IDENTITY, entropy)?;
    let same = match (node, &identity) {
        (Unlocker::Passphrase(a), Unlocker::Passphrase(b)) => a == b,
        (Unlocker::KeyFile(a), Unlocker::KeyFile(b)) => a == b,
        (Unlocker::Passphrase(_), Unlocker::KeyFile(_)) | (Unlocker::KeyFile(_), Unlocker::Passphrase(_)) => {
            false
        }
    };
    if same {
        let message = "the identity key needs a passphrase or key file of its own, not the node's: whoever breaks into the \
                       node must not get the agency's identity";
        return Err(Failure::new(Code::Locked, message));
    }
    Ok(identity)
}

fn new(key_file: Option<&Path>, whose: Whose, entropy: &mut dyn CryptoRng) -> Result<Unlocker, Failure> {
    if let Some(path) = key_file {
        if !path.exists() {
            let mut key = Zeroizing::new([0; 32]);
            entropy.fill_bytes(key.as_mut());
            let text = Zeroizing::new(format!("{}\n", hex(key.as_ref())));
            files::write_new(path, text.as_bytes()).map_err(|error| Failure::file("make", path, &error))?;
        }
        return read_key_file(path);
    }
    let words = match env::var_os(whose.file) {
        Some(path) => passphrase_file(&PathBuf::from(path))?,
        None => {
            let first = ask(&format!("New p{}: ", whose.prompt), whose)?;
            let second = ask("The same again: ", whose)?;
            if first != second {
                return Err(Failure::new(Code::Locked, "the two passphrases differ; begin again"));
            }
            Unlocker::Passphrase(first)
        }
    };
    if let Unlocker::Passphrase(words) = &words
        && words.chars().count() < PASSPHRASE_CHARS_MIN
    {
        let message = format!(
            "the passphrase needs at least {PASSPHRASE_CHARS_MIN} characters: a few words that nobody else would put together"
        );
        return Err(Failure::new(Code::Locked, message));
    }
    Ok(words)
}

fn read_key_file(path: &Path) -> Result<Unlocker, Failure> {
    let bad = |why: &str| {
        let message = format!("the key file `{}` {why}", path.display());
        Failure::new(Code::Locked, message)
    };
    let text = secret_text(path).map_err(|error| bad(&format!("cannot be read: {}", why(&error))))?;
    let mut bytes = unhex(text.trim()).map_err(|_| bad("must hold 64 hex digits"))?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| bad("must hold 64 hex digits"));
    bytes.zeroize();
    Ok(Unlocker::KeyFile(Zeroizing::new(key?)))
}

fn passphrase_file(path: &Path) -> Result<Unlocker, Failure> {
    let text = secret_text(path).map_err(|error| {
        let message = format!("the passphrase file `{}` cannot be read: {}", path.display(), why(&error));
        Failure::new(Code::Locked, message)
    })?;
    let words = text.trim_end_matches(['\r', '\n']);
    if words.is_empty() {
        let message = format!("the passphrase file `{}` is empty", path.display());
        return Err(Failure::new(Code::Locked, message));
    }
    Ok(Unlocker::Passphrase(Zeroizing::new(words.to_owned())))
}

fn secret_text(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(files::read(path, SECRET_BYTES_MAX)?);
    if files::others_may_read(path) {
        let path = path.display();
        let warning = format!("lintas: WARNING: others may read `{path}`; make it yours alone: chmod 600");
        // Whoever reads may have gone away.
        let _ = writeln!(std::io::stderr(), "{warning}");
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| std::io::Error::other("not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn ask(prompt: &str, whose: Whose) -> Result<Zeroizing<String>, Failure> {
    if !stdin().is_terminal() {
        let message = format!(
            "there is no terminal to ask for the p{} on; set {}, or give {}",
            whose.prompt, whose.file, whose.option
        );
        return Err(Failure::new(Code::Locked, message));
    }
    let typed = rpassword::prompt_password(prompt);
    let typed = typed.map_err(|error| Failure::new(Code::Locked, format_args!("no passphrase: {error}")))?;
    Ok(Zeroizing::new(typed))
}
