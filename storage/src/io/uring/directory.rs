//! The log's directory: made durably when missing, its filesystem's name, what alignment its
//! device asks for, and the files in it.
//!
//! Alignment is asked of a file, because filesystems answer per file: a probe file is made and
//! removed. Called when storage starts; nothing here is on the commit path.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::super::Geometry;
use super::error::UringError;
use crate::buffer::Pool;

/// Smallest block, whatever the device would allow: a page, so that a block is never torn by
/// the page cache's own granularity and both halves of a 4 KiB-native device agree.
const MIN_BLOCK_BYTES: u32 = 4096;

const PROBE_PREFIX: &str = ".ringlog-alignment-probe";

/// An open directory and what is known of it.
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) filesystem: String,
    pub(super) geometry: Geometry,
    /// Alignments as the filesystem tells them: offsets, memory.
    pub(super) told: Option<(u32, u32)>,
}

impl Directory {
    /// Opens the directory, making it when missing, and finds out how to write there.
    pub(super) fn open(path: &Path, allow_buffered: bool) -> Result<Directory, UringError> {
        let failed = |attempt| {
            move |error: io::Error| UringError::Directory {
                attempt,
                path: path.to_owned(),
                source: error,
            }
        };
        create_durably(path).map_err(failed("create"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| failed("open")(error.into()))?;
        let filesystem =
            filesystem_name(fd.as_fd()).map_err(failed("ask for the filesystem of"))?;
        let found =
            probe_direct(fd.as_fd(), &filesystem).map_err(failed("make a probe file in"))?;
        let (geometry, told) = match found {
            Direct::Works { told } => (geometry_of(told), told),
            Direct::Not { .. } if allow_buffered => {
                let block_bytes = MIN_BLOCK_BYTES as usize;
                (
                    Geometry {
                        block_bytes,
                        memory_align: block_bytes,
                        direct: false,
                    },
                    None,
                )
            }
            Direct::Not { found } => {
                return Err(UringError::NoDirectIo {
                    path: path.to_owned(),
                    filesystem,
                    found,
                });
            }
        };
        Ok(Directory {
            fd,
            path: path.to_owned(),
            filesystem,
            geometry,
            told,
        })
    }

    /// Names and lengths of the plain files.
    pub(super) fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // A name that is not UTF-8 is none that a log gives.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string())
                && !name.starts_with(PROBE_PREFIX)
            {
                files.push((name, metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// A name of a file in the directory, as the kernel takes it.
pub(super) fn plain_name(name: &str) -> io::Result<CString> {
    let refused = |reason: &str| {
        let message = format!("file name {name:?}: {reason}; a log's files have plain names");
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(refused("not a plain name"));
    }
    CString::new(name).map_err(|_| refused("contains a NUL byte"))
}

/// A new directory's name is durable only when its parent is synced: without that a power cut
/// takes the whole log with it.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_durably(parent)?;
    match fs::create_dir(path) {
        Ok(()) => fs::File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

enum Direct {
    Works { told: Option<(u32, u32)> },
    Not { found: String },
}

fn geometry_of(told: Option<(u32, u32)>) -> Geometry {
    let (offset_align, memory_align) = told.unwrap_or((MIN_BLOCK_BYTES, MIN_BLOCK_BYTES));
    let block_bytes = offset_align
        .max(memory_align)
        .max(MIN_BLOCK_BYTES)
        .next_power_of_two();
    let memory_align = memory_align.max(1).next_power_of_two();
    Geometry {
        block_bytes: block_bytes as usize,
        memory_align: memory_align as usize,
        direct: true,
    }
}

fn probe_direct(dir: BorrowedFd<'_>, filesystem: &str) -> io::Result<Direct> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{PROBE_PREFIX}-{}-{number}", std::process::id());
    // A leftover of a killed process that had the same id.
    match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let result = match rustix::fs::openat(dir, &name, flags | OFlags::DIRECT, mode) {
        Ok(file) => match try_direct(file.as_fd(), filesystem, write_block) {
            Err(error) if is_full(&error) => probe_existing(dir, filesystem, error),
            tried => tried,
        },
        Err(error @ (Errno::NOSPC | Errno::DQUOT)) => {
            return probe_existing(dir, filesystem, error.into());
        }
        // Some filesystems make the file and then refuse the flag.
        Err(Errno::INVAL) => Ok(Direct::Not {
            found: "open with O_DIRECT: invalid argument".to_owned(),
        }),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => result,
        Err(error) => Err(error.into()),
    }
}

/// There is no room for a probe file: a file that is there is read instead, so that what it holds
/// can be served. `full` if there is none.
fn probe_existing(dir: BorrowedFd<'_>, filesystem: &str, full: io::Error) -> io::Result<Direct> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(dir, entry.file_name(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(_) => continue,
        };
        let found = rustix::fs::fstat(&file)?;
        let is_file = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
        if !is_file || found.st_size < i64::from(MIN_BLOCK_BYTES) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECT;
        return match rustix::fs::openat(dir, entry.file_name(), flags, Mode::empty()) {
            Ok(file) => try_direct(file.as_fd(), filesystem, read_block),
            Err(Errno::INVAL) => Ok(Direct::Not {
                found: "open with O_DIRECT: invalid argument".to_owned(),
            }),
            Err(error) => Err(error.into()),
        };
    }
    Err(full)
}

fn is_full(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(number, Some(Errno::NOSPC | Errno::DQUOT))
}

fn write_block(file: BorrowedFd<'_>, block: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::pwrite(file, block, 0)
}

fn read_block(file: BorrowedFd<'_>, block: &mut [u8]) -> Result<usize, Errno> {
    rustix::io::pread(file, block, 0)
}

fn try_direct(
    file: BorrowedFd<'_>,
    filesystem: &str,
    attempt: impl Fn(BorrowedFd<'_>, &mut [u8]) -> Result<usize, Errno>,
) -> io::Result<Direct> {
    let told = match rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) {
        Ok(statx) if statx.stx_mask & StatxFlags::DIOALIGN.bits() != 0 => {
            Some((statx.stx_dio_offset_align, statx.stx_dio_mem_align))
        }
        Ok(_) | Err(Errno::NOSYS | Errno::INVAL) => None,
        Err(error) => return Err(error.into()),
    };
    match told {
        Some((0, _) | (_, 0)) => {
            return Ok(Direct::Not {
                found: "statx says that direct I/O is not possible".into(),
            });
        }
        // Newer kernels let tmpfs take the flag and go through memory all the same.
        None if filesystem == "tmpfs" || filesystem == "ramfs" => {
            return Ok(Direct::Not {
                found: "its files live in memory".to_owned(),
            });
        }
        _ => {}
    }
    let block_bytes = geometry_of(told).block_bytes;
    let mut block = Pool::new(block_bytes, 0, block_bytes)
        .alloc(block_bytes)
        .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    match attempt(file, &mut block) {
        Ok(moved) if moved == block.len() => Ok(Direct::Works { told }),
        Ok(moved) => Ok(Direct::Not {
            found: format!("{moved} of {block_bytes} bytes went through"),
        }),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Direct::Not {
            found: format!("an aligned block of {block_bytes} bytes was refused"),
        }),
        Err(error) => Err(error.into()),
    }
}

fn filesystem_name(dir: BorrowedFd<'_>) -> io::Result<String> {
    let magic = rustix::fs::fstatfs(dir)?.f_type;
    // The magic is 32 bits wide; some architectures sign-extend it.
    let magic = magic as u32;
    let name = match magic {
        0x0000_ef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlay",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0xca45_1a4e => "bcachefs",
        0x0000_6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0x0000_4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0x7366_746e => "ntfs",
        0x7371_7368 => "squashfs",
        0x00c3_6400 => "ceph",
        0x0116_1970 => "gfs2",
        0x7461_636f => "ocfs2",
        0x3153_464a => "jfs",
        0x5265_4973 => "reiserfs",
        other => return Ok(format!("a filesystem of type {other:#010x}")),
    };
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_is_made_with_its_parents_and_left_without_probe_files() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let path = root.path().join("a/b/c");
        let directory = Directory::open(&path, true).expect("the directory is usable");
        assert_eq!(directory.list().expect("it can be listed"), []);
        assert_eq!(fs::read_dir(&path).expect("it is there").count(), 0);
        assert!(directory.geometry.block_bytes.is_power_of_two());
        assert!(directory.geometry.memory_align <= directory.geometry.block_bytes);
    }

    #[test]
    fn a_full_directory_is_probed_by_reading_what_is_there_and_an_empty_one_is_said_to_be_full() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let fd = fs::File::open(root.path()).expect("it can be opened");
        let full = || io::Error::from(Errno::NOSPC);
        let filesystem = filesystem_name(fd.as_fd()).expect("it has a name");
        fs::create_dir(root.path().join("folder")).expect("there is room");
        fs::write(root.path().join("short"), b"x").expect("there is room");
        let refused = probe_existing(fd.as_fd(), &filesystem, full()).err();
        assert!(is_full(&refused.expect("nothing can be read")));
        fs::write(root.path().join("1.segment"), vec![7; 64 << 10]).expect("there is room");
        let read = probe_existing(fd.as_fd(), &filesystem, full()).expect("a file can be read");
        let made = probe_direct(fd.as_fd(), &filesystem).expect("a file can be made");
        let works = |direct: &Direct| matches!(direct, Direct::Works { .. });
        assert_eq!(
            works(&read),
            works(&made),
            "reading and writing tell the same"
        );
        let content = fs::read(root.path().join("1.segment")).expect("it is there");
        assert_eq!(content, vec![7; 64 << 10], "nothing was written");
    }

    #[test]
    fn a_path_through_a_file_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().join("log");
        let error = Directory::open(&path, true)
            .err()
            .expect("it cannot be used")
            .to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }

    #[test]
    fn memory_filesystems_are_refused_by_name_and_taken_when_allowed() {
        let shm = Path::new("/dev/shm");
        let is_tmpfs = fs::File::open(shm)
            .is_ok_and(|dir| filesystem_name(dir.as_fd()).is_ok_and(|name| name == "tmpfs"));
        if !is_tmpfs {
            println!("skipped: /dev/shm is not a tmpfs here");
            return;
        }
        let Ok(root) = tempfile::tempdir_in(shm) else {
            println!("skipped: /dev/shm cannot be written here");
            return;
        };
        let error = Directory::open(root.path(), false)
            .err()
            .expect("it is refused")
            .to_string();
        for part in [
            "tmpfs",
            "--allow-buffered-io",
            &root.path().display().to_string(),
        ] {
            assert!(error.contains(part), "{error} names {part}");
        }
        let directory = Directory::open(root.path(), true).expect("allowed");
        assert!(!directory.geometry.direct);
    }

    #[test]
    fn names_with_separators_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            let error = plain_name(name).expect_err("not a plain name");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(plain_name("segment-1").is_ok());
    }

    #[test]
    fn blocks_are_at_least_a_page_and_as_large_as_the_device_asks() {
        let device_512 = geometry_of(Some((512, 4)));
        assert_eq!((device_512.block_bytes, device_512.memory_align), (4096, 4));
        assert_eq!(geometry_of(Some((16384, 512))).block_bytes, 16384);
        assert_eq!(geometry_of(None).block_bytes, 4096);
    }
}
