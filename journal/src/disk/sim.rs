//! A disk in memory that fails as real ones do, the same way each time for the same seed.
//!
//! Each file has the bytes that a read sees (the cache) and the bytes that survive a power cut. A sector that
//! was written is dirty until a sync; a power cut keeps any subset of the dirty ones. After a failed sync the
//! sectors that did not make it are clean but not durable, as on Linux: the next sync succeeds without
//! writing them, reads still see them, and a power cut takes them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Disk;

/// What survives when the machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The process was killed: the cache survives.
    Nothing,
    /// Power cut: of what was not synced, nothing survives.
    Everything,
    /// Power cut: of the sectors and names that were not synced, those survive that this seed chooses.
    Random(u64),
    /// Power cut inside the last write, if that was not synced: its first bytes survive, up to this count, and all that came
    /// before.
    TornLastWrite(usize),
}

/// A simulated disk. Clones share it, until [`SimDisk::crash`] leaves them with a machine that is off.
#[derive(Debug, Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

/// The lock of a simulated disk.
#[derive(Debug)]
pub struct SimLock {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug, Clone)]
struct Machine {
    files: BTreeMap<u64, SimFile>,
    /// Removed, but the removal is not durable yet.
    removed: BTreeMap<u64, SimFile>,
    sector_bytes: usize,
    capacity_bytes: u64,
    dice: Dice,
    last_write: Option<LastWrite>,
    locked: bool,
    off: bool,
    operations: u64,
    syncs: u64,
    reads: u64,
    /// The operation, sync or read with this number (from 1) fails.
    power_off_at: Option<u64>,
    fail_sync_at: Option<u64>,
    fail_read_at: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct SimFile {
    cache: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Clean to the next sync, but not durable: a sync of them failed.
    lost: BTreeSet<usize>,
    named: bool,
}

#[derive(Debug, Clone)]
struct LastWrite {
    file: u64,
    offset: usize,
    before: Vec<u8>,
}

/// A small deterministic generator (splitmix64).
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

impl SimDisk {
    /// An empty disk whose power cuts keep or lose whole sectors of this many bytes.
    #[must_use]
    pub fn new(seed: u64, sector_bytes: usize) -> Self {
        Self::start(Machine {
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            sector_bytes: sector_bytes.max(1),
            capacity_bytes: u64::MAX,
            dice: Dice(seed),
            last_write: None,
            locked: false,
            off: false,
            operations: 0,
            syncs: 0,
            reads: 0,
            power_off_at: None,
            fail_sync_at: None,
            fail_read_at: None,
        })
    }

    /// Stops the machine and starts it again with what survives. Every older handle is off for good.
    #[must_use]
    pub fn crash(&self, loss: Loss) -> Self {
        let mut old = self.machine();
        let mut next = old.clone();
        old.off = true;
        next.lose(loss);
        Self::start(Machine {
            removed: BTreeMap::new(),
            last_write: None,
            locked: false,
            off: false,
            power_off_at: None,
            fail_sync_at: None,
            fail_read_at: None,
            ..next
        })
    }

    /// A copy of the disk as it is, for trying several crashes from one state.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::start(Machine { locked: false, ..self.machine().clone() })
    }

    /// Power goes at the `count`-th operation from now that would change something (1 is the next one).
    pub fn power_off_in(&self, count: u64) {
        let mut machine = self.machine();
        machine.power_off_at = machine.operations.checked_add(count);
    }

    /// The `count`-th sync from now fails with EIO (1 is the next one).
    pub fn fail_sync_in(&self, count: u64) {
        let mut machine = self.machine();
        machine.fail_sync_at = machine.syncs.checked_add(count);
    }

    /// The `count`-th read from now fails with EIO (1 is the next one).
    pub fn fail_read_in(&self, count: u64) {
        let mut machine = self.machine();
        machine.fail_read_at = machine.reads.checked_add(count);
    }

    /// Creating a file beyond this sum of lengths fails with ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        self.machine().capacity_bytes = bytes;
    }

    /// Operations so far that changed something.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.machine().operations
    }

    /// Syncs so far, of files and of the directory.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.machine().syncs
    }

    /// Sum of the lengths of all files, in bytes.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.machine().used_bytes()
    }

    /// The bytes of a file as a read sees them; empty if there is no such file.
    #[must_use]
    pub fn content(&self, file: u64) -> Vec<u8> {
        self.machine().files.get(&file).map(|file| file.cache.clone()).unwrap_or_default()
    }

    /// Flips bits of one byte, in the cache and on the medium. Without effect beyond the end.
    pub fn flip(&self, file: u64, offset: usize, mask: u8) {
        let mut machine = self.machine();
        let Some(file) = machine.files.get_mut(&file) else { return };
        for bytes in [&mut file.cache, &mut file.durable] {
            if let Some(byte) = bytes.get_mut(offset) {
                *byte ^= mask;
            }
        }
    }

    /// Replaces bytes of a file, in the cache and on the medium. Without effect beyond the end.
    pub fn plant(&self, file: u64, offset: usize, with: &[u8]) {
        let mut machine = self.machine();
        let Some(file) = machine.files.get_mut(&file) else { return };
        for bytes in [&mut file.cache, &mut file.durable] {
            let to = bytes.get_mut(offset..).unwrap_or_default();
            to.iter_mut().zip(with).for_each(|(to, from)| *to = *from);
        }
    }

    /// Takes a file away, as if the directory had lost it.
    pub fn steal(&self, file: u64) {
        self.machine().files.remove(&file);
    }

    fn start(machine: Machine) -> Self {
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| file.cache.len() as u64).sum()
    }

    fn check_on(&self) -> io::Result<()> {
        if self.off { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }

    fn operate(&mut self) -> io::Result<()> {
        self.check_on()?;
        self.operations = self.operations.saturating_add(1);
        if self.power_off_at == Some(self.operations) {
            self.off = true;
        }
        self.check_on()
    }

    /// Counts a sync; `true` if it is the one that fails.
    fn sync_fails(&mut self) -> bool {
        self.syncs = self.syncs.saturating_add(1);
        self.fail_sync_at == Some(self.syncs)
    }

    fn file(&mut self, file: u64) -> io::Result<&mut SimFile> {
        self.files.get_mut(&file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn lose(&mut self, loss: Loss) {
        let mut dice = match loss {
            Loss::Random(seed) => Dice(seed),
            Loss::Nothing | Loss::Everything | Loss::TornLastWrite(_) => Dice(0),
        };
        let survives = |dice: &mut Dice| match loss {
            Loss::Nothing | Loss::TornLastWrite(_) => true,
            Loss::Everything => false,
            Loss::Random(_) => dice.coin(),
        };
        if let (Loss::TornLastWrite(bytes), Some(last)) = (loss, self.last_write.take()) {
            self.tear(&last, bytes);
        }
        for (number, file) in std::mem::take(&mut self.removed) {
            if !survives(&mut dice) {
                self.files.insert(number, file);
            }
        }
        self.files.retain(|_, file| file.named || survives(&mut dice));
        if loss == Loss::Nothing {
            return;
        }
        for file in self.files.values_mut() {
            file.named = true;
            let lost = std::mem::take(&mut file.lost);
            for sector in std::mem::take(&mut file.dirty) {
                if survives(&mut dice) {
                    file.persist(sector, self.sector_bytes);
                }
            }
            drop(lost);
            file.cache = file.durable.clone();
        }
    }

    fn tear(&mut self, last: &LastWrite, bytes: usize) {
        let Some(file) = self.files.get_mut(&last.file) else { return };
        let to = file.cache.get_mut(last.offset..).unwrap_or_default();
        to.iter_mut().zip(&last.before).skip(bytes).for_each(|(to, from)| *to = *from);
    }
}

impl SimFile {
    fn persist(&mut self, sector: usize, sector_bytes: usize) {
        let start = sector.saturating_mul(sector_bytes);
        let from = self.cache.get(start..).unwrap_or_default();
        let to = self.durable.get_mut(start..).unwrap_or_default();
        to.iter_mut().zip(from).take(sector_bytes).for_each(|(to, from)| *to = *from);
    }
}

impl Disk for SimDisk {
    type Lock = SimLock;

    fn lock(&self) -> io::Result<Option<SimLock>> {
        let mut machine = self.machine();
        machine.check_on()?;
        if std::mem::replace(&mut machine.locked, true) {
            return Ok(None);
        }
        Ok(Some(SimLock { machine: Arc::clone(&self.machine) }))
    }

    fn list(&self) -> io::Result<Vec<u64>> {
        let machine = self.machine();
        machine.check_on()?;
        Ok(machine.files.keys().copied().collect())
    }

    fn length(&self, file: u64) -> io::Result<u64> {
        let mut machine = self.machine();
        machine.check_on()?;
        Ok(machine.file(file)?.cache.len() as u64)
    }

    fn create(&self, file: u64, bytes: u64) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        if machine.used_bytes().saturating_add(bytes) > machine.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if machine.files.contains_key(&file) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let zeros = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        machine.files.insert(file, SimFile { cache: zeros.clone(), durable: zeros, ..SimFile::default() });
        if machine.sync_fails() {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn remove(&self, file: u64) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        let gone = machine.files.remove(&file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if gone.named {
            machine.removed.insert(file, gone);
        }
        Ok(())
    }

    fn read(&self, file: u64, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut machine = self.machine();
        machine.check_on()?;
        machine.reads = machine.reads.saturating_add(1);
        if machine.fail_read_at == Some(machine.reads) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let from = machine.file(file)?.cache.get(at..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(from.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write(&self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        let end = at.checked_add(bytes.len()).ok_or_else(|| io::Error::other("offset"))?;
        let sector_bytes = machine.sector_bytes;
        let sim = machine.file(file)?;
        let to = sim.cache.get_mut(at..end).ok_or_else(|| io::Error::other("write beyond the allocation"))?;
        let before = to.to_vec();
        to.copy_from_slice(bytes);
        for sector in at / sector_bytes..end.div_ceil(sector_bytes) {
            sim.lost.remove(&sector);
            sim.dirty.insert(sector);
        }
        machine.last_write = Some(LastWrite { file, offset: at, before });
        Ok(())
    }

    fn sync(&self, file: u64) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        let fails = machine.sync_fails();
        let sector_bytes = machine.sector_bytes;
        let mut dice = machine.dice.clone();
        let sim = machine.file(file)?;
        for sector in std::mem::take(&mut sim.dirty) {
            if fails && dice.coin() {
                sim.lost.insert(sector);
            } else {
                sim.persist(sector, sector_bytes);
            }
        }
        machine.dice = dice;
        // What is durable cannot be torn any more.
        machine.last_write = machine.last_write.take().filter(|last| fails || last.file != file);
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut machine = self.machine();
        machine.operate()?;
        if machine.sync_fails() {
            return Err(io::Error::from_raw_os_error(5));
        }
        machine.removed.clear();
        machine.files.values_mut().for_each(|file| file.named = true);
        Ok(())
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}
