//! A disk that loses power on demand: what was not synced is then there, or not, or in part, or as rubbish. For tests and
//! for the simulator.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what ends a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
};

use lintas_proto::id::sha256;

use super::disk::Disk;

type Tree = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct State {
    now: Tree,
    durable: Tree,
    /// Calls that change something.
    calls: u64,
    /// The call that fails, and every one after it.
    fails_at: Option<u64>,
}

/// Cheap to clone; all clones are one disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

impl Memory {
    #[cfg(test)]
    pub(super) fn files(&self) -> Tree {
        self.0.lock().unwrap().now.clone()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    pub(crate) fn fail_at(&self, call: u64) {
        self.0.lock().unwrap().fails_at = Some(call);
    }

    #[cfg(test)]
    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        change(state.now.get_mut(path).unwrap());
        state.durable = state.now.clone();
    }

    #[cfg(test)]
    pub(super) fn lose(&self, path: &str) {
        let mut state = self.0.lock().unwrap();
        state.now.remove(path).unwrap();
        state.durable = state.now.clone();
    }

    /// The disk after a power cut.
    pub(crate) fn after_power_cut(&self, seed: u64) -> Self {
        let state = self.0.lock().unwrap();
        let mut draws = (0u64..).map(|at| sha256(&[&seed.to_be_bytes(), &at.to_be_bytes()]));
        let mut draw = || usize::from(u16::from_be_bytes(draws.next().unwrap()[..2].try_into().unwrap()));
        let mut left = Tree::new();
        for path in state.now.keys().chain(state.durable.keys()).collect::<BTreeSet<_>>() {
            let (now, before) = (state.now.get(path), state.durable.get(path));
            let kept = match (draw() % 5, now, before) {
                _ if now == before => now.cloned(),
                (0, _, before) => before.cloned(),
                (1, now, _) => now.cloned(),
                // A name that went, and may be back.
                (_, None, before) => before.cloned(),
                (way, Some(now), before) => {
                    let before = before.map(Vec::as_slice).unwrap_or_default();
                    let same = now.iter().zip(before).take_while(|(a, b)| a == b).count();
                    let mut torn = now[..same + draw() % (now.len() - same + 1)].to_vec();
                    if way > 2 {
                        torn[same..].iter_mut().for_each(|byte| *byte = 0);
                    }
                    if torn.len() < before.len().min(now.len()) {
                        torn = before.to_vec();
                    }
                    Some(torn)
                }
            };
            left.extend(kept.map(|bytes| (path.clone(), bytes)));
        }
        Self(Arc::new(Mutex::new(State { now: left.clone(), durable: left, calls: 0, fails_at: None })))
    }

    /// The disk after the process was killed: what it wrote is there, and not durable yet.
    #[cfg(feature = "sim")]
    pub(crate) fn after_kill(&self) -> Self {
        let state = self.0.lock().unwrap();
        let (now, durable) = (state.now.clone(), state.durable.clone());
        Self(Arc::new(Mutex::new(State { now, durable, calls: 0, fails_at: None })))
    }

    fn call<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        if state.fails_at.is_some_and(|at| at <= state.calls) {
            return Err(io::Error::other("the power is gone"));
        }
        state.calls += 1;
        work(&mut state)
    }
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "shorter than what was published")
}

impl Disk for Memory {
    fn read(&self, path: &str, from: u64) -> io::Result<Vec<u8>> {
        let state = self.0.lock().unwrap();
        let file = state.now.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.get(usize::try_from(from).unwrap()..).unwrap_or_default().to_vec())
    }

    fn write(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.call(|state| {
            state.now.insert(path.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    fn append(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(|state| {
            let (file, at) = (state.now.entry(path.to_owned()).or_default(), usize::try_from(at).unwrap());
            if file.len() < at {
                return Err(shorter());
            }
            file.truncate(at);
            file.extend_from_slice(bytes);
            Ok(())
        })
    }

    fn cut(&mut self, path: &str, length: u64) -> io::Result<()> {
        self.call(|state| match (state.now.get_mut(path), usize::try_from(length).unwrap()) {
            (None, 0) => Ok(()),
            (Some(file), length) if file.len() >= length => {
                file.truncate(length);
                Ok(())
            }
            _ => Err(shorter()),
        })
    }

    fn overwrite(&mut self, path: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(|state| {
            let at = usize::try_from(at).unwrap();
            let file = state.now.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
            file.get_mut(at..at + bytes.len()).ok_or_else(shorter)?.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn settle(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.call(|state| {
            state.durable = state.now.clone();
            Ok(())
        })
    }

    fn replace(&mut self, files: &[(String, Vec<u8>)]) -> io::Result<()> {
        self.call(|state| {
            for (path, bytes) in files {
                state.now.insert(path.clone(), bytes.clone());
                // Syncs the files, then the names.
                state.durable = state.now.clone();
            }
            Ok(())
        })
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.call(|state| {
            state.now.remove(path);
            Ok(())
        })
    }

    fn remove_folder(&mut self, path: &str) -> io::Result<()> {
        self.call(|state| {
            let below = format!("{path}/");
            state.now.retain(|path, _| !path.starts_with(&below));
            Ok(())
        })
    }
}
