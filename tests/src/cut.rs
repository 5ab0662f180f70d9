//! A power cut: an ext4 file system in a file, whose journal and caches the kernel throws away on demand
//! (`EXT4_IOC_SHUTDOWN`). Each image is the disk of one machine.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use tempfile::TempDir;

use crate::{process::wait, tools};

/// How the folders of these tests begin; the number of their process follows.
const PREFIX: &str = "lintas-cut-";
/// The call that shuts an ext4 file system down; Rust's standard library has no ioctl, Python's has.
const SHUTDOWN: &str = "import fcntl,os,struct,sys\n\
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', int(sys.argv[2])))";

/// How often a mount is tried, and how long between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What a cut leaves of what was written and never synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Loss {
    /// Nothing is lost: everything is written first.
    None = 0,
    /// The file system's own journal is written first; data in the caches is lost.
    Data = 1,
    /// All of it is lost.
    Everything = 2,
}

/// A mounted image.
#[derive(Debug)]
pub struct Image {
    file: PathBuf,
    mount: PathBuf,
    is_mounted: bool,
}

/// All room of a disk.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        // Gone already with its disk, if a test fails.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether this machine can: root, mkfs.ext4, mount, loop devices and python3. Says loudly if not. Removes what earlier
/// processes of this kind have left.
#[must_use]
pub fn is_possible() -> bool {
    sweep();
    let root = folder();
    let image = root.path().join("probe.img");
    let mount = root.path().join("probe");
    let works = make(&image, 16) && fs::create_dir(&mount).is_ok() && mounted(&image, &mount) && {
        let cut = shut(&mount, Loss::Everything);
        unmounted(&mount) && cut
    };
    if !works {
        tools::missing(
            "no power can be cut here: that takes root, loop devices, mkfs.ext4, mount and python3; Debian: apt install \
             e2fsprogs mount python3",
        );
    }
    works
}

/// A folder for images and what is mounted in it, which the next process of this kind finds if this one is killed.
#[must_use]
pub fn folder() -> TempDir {
    tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir().unwrap()
}

impl Image {
    /// Makes an image of `mib` MiB, none of it reserved, and mounts it at `mount`.
    #[must_use]
    pub fn new(file: &Path, mount: &Path, mib: u64) -> Self {
        assert!(make(file, mib), "mkfs.ext4 fails");
        Self::of(file, mount)
    }

    /// Mounts an image that was made before.
    #[must_use]
    pub fn of(file: &Path, mount: &Path) -> Self {
        let mut image = Self { file: file.to_owned(), mount: mount.to_owned(), is_mounted: false };
        image.mount();
        image
    }

    /// Cuts its power. From here on every call on it fails.
    pub fn cut(&self, loss: Loss) {
        assert!(shut(&self.mount, loss), "the shutdown fails");
    }

    /// Takes all of its room, to the last block, until what this gives is dropped.
    #[must_use]
    pub fn fill(&self) -> Filler {
        let path = self.mount.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        // What does not fit in long pieces fits in short ones.
        for bytes in [1 << 20, 4_096, 1] {
            while file.write_all(&vec![1; bytes]).is_ok() {}
        }
        // What was only promised room is there now.
        file.sync_all().unwrap();
        Filler(path)
    }

    /// Brings it back: the journal of ext4 is replayed. Nobody may have files open in it.
    pub fn restore(&mut self) {
        self.unmount();
        self.mount();
    }

    /// Mounts it.
    pub fn mount(&mut self) {
        fs::create_dir_all(&self.mount).unwrap();
        assert!(mounted(&self.file, &self.mount), "{} cannot be mounted", self.file.display());
        self.is_mounted = true;
        fs::set_permissions(&self.mount, fs::Permissions::from_mode(0o700)).unwrap();
    }

    /// Unmounts it, as soon as nobody uses it; its loop device goes with that.
    pub fn unmount(&mut self) {
        assert!(wait(|| unmounted(&self.mount)), "somebody uses {}", self.mount.display());
        self.is_mounted = false;
    }

    /// The file that holds it. To be copied while it is not mounted.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.is_mounted && !unmounted(&self.mount) {
            let _ = quiet(Command::new("umount").arg("-l").arg(&self.mount));
        }
    }
}

/// Unmounts and removes what processes have left that are no more.
fn sweep() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let ours = |path: &Path| {
        let owner =
            path.iter().find_map(|part| part.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        owner.is_some_and(|owner: u32| !Path::new("/proc").join(owner.to_string()).exists())
    };
    let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    for mount in mounted.filter(|path| ours(path)) {
        let _ = quiet(Command::new("umount").arg("-l").arg(mount));
    }
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if ours(Path::new(&entry.file_name())) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn make(file: &Path, mib: u64) -> bool {
    fs::File::create(file).and_then(|file| file.set_len(mib << 20)).is_ok()
        && quiet(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(file))
}

/// Tests that run at once may reach for the same loop device: one of them has to try again.
fn mounted(image: &Path, mount: &Path) -> bool {
    (0..TRIES).any(|_| {
        let is_mounted = quiet(Command::new("mount").args(["-o", "loop"]).arg(image).arg(mount));
        if !is_mounted {
            sleep(PAUSE);
        }
        is_mounted
    })
}

fn unmounted(mount: &Path) -> bool {
    quiet(Command::new("umount").arg(mount))
}

fn shut(mount: &Path, loss: Loss) -> bool {
    quiet(Command::new("python3").args(["-c", SHUTDOWN]).arg(mount).arg((loss as u8).to_string()))
}

fn quiet(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
