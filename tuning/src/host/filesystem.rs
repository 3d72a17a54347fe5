//! The filesystem: which one it is, how it was mounted, and what alignment direct I/O asks for.

use super::finding::Finding;

const MOUNT: &str = "filesystem";
const ALIGNMENT: &str = "direct I/O";

/// Options with which a flush does not reach the device, or O_DIRECT goes through the page cache.
const HARMFUL: [(&str, &str); 4] = [
    (
        "nobarrier",
        "fsync and O_DSYNC return before the device's cache is flushed: a power cut takes acknowledged events",
    ),
    (
        "barrier=0",
        "fsync and O_DSYNC return before the device's cache is flushed: a power cut takes acknowledged events",
    ),
    (
        "data=journal",
        "every byte is written twice, and O_DIRECT goes through the page cache",
    ),
    (
        "sync",
        "every write waits for its metadata, also where the log does not ask for it",
    ),
];

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Major and minor number of the device, as `8:1`.
    pub device: String,
    /// Type.
    pub kind: String,
    /// Options of the mount and of the filesystem, in one list.
    pub options: Vec<String>,
}

/// The mount of a device. The last one counts: it hides those before it.
#[must_use]
pub fn mount_of(mountinfo: &str, device: &str) -> Option<Mount> {
    mountinfo
        .lines()
        .filter_map(parse)
        .rfind(|mount| mount.device == device)
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: optional
/// fields end with a dash.
fn parse(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.split(' ').collect();
    let (of_mount, of_filesystem) = (front.get(5)?, back.get(2)?);
    let options = of_mount.split(',').chain(of_filesystem.split(','));
    Some(Mount {
        device: (*front.get(2)?).to_owned(),
        kind: (*back.first()?).to_owned(),
        options: options.map(str::to_owned).collect(),
    })
}

/// Judges how the filesystem was mounted.
#[must_use]
pub fn mount(found: Result<Mount, &str>) -> Finding {
    let mount = match found {
        Ok(mount) => mount,
        Err(obstacle) => return Finding::unknown(MOUNT, obstacle),
    };
    let value = format!("{} ({})", mount.kind, mount.options.join(","));
    let harmful = HARMFUL
        .iter()
        .find(|(option, _)| mount.options.iter().any(|other| other == option));
    if let Some((option, harm)) = harmful {
        return Finding::advice(MOUNT, value, format!("mount it without {option}"), *harm);
    }
    match mount.kind.as_str() {
        "ext4" | "xfs" => Finding::ok(
            MOUNT,
            value,
            "writes into pre-written space change no metadata: one request and its flush",
        ),
        "btrfs" | "zfs" | "bcachefs" | "f2fs" => Finding::advice(
            MOUNT,
            value,
            "put the data directory on ext4 or XFS",
            "it copies on write: a segment written again moves, and each durable write commits \
             metadata too",
        ),
        _ => Finding::unknown(MOUNT, format!("{value}: measured on ext4 and XFS only")),
    }
}

/// Judges what the filesystem says of direct I/O: the alignment of offsets and of memory
/// (`statx`), or why it has none.
#[must_use]
pub fn direct_io(block_bytes: usize, told: Option<(u32, u32)>) -> Finding {
    match told {
        Some((offset, memory)) => Finding::ok(
            ALIGNMENT,
            format!("offsets {offset}, memory {memory} bytes; blocks of {block_bytes}"),
            "what the log writes is aligned for the device",
        ),
        None => Finding::ok(
            ALIGNMENT,
            format!("works; alignment not told; blocks of {block_bytes}"),
            "kernels before 6.1 do not tell; 4096 bytes suit every device in use",
        ),
    }
}

/// Direct I/O, or the ring it is tried with, could not be had.
#[must_use]
pub fn no_direct_io(obstacle: &str) -> Finding {
    Finding::unknown(ALIGNMENT, obstacle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    const MOUNTINFO: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,resuid=65534
25 22 0:22 / /proc rw,nosuid - proc proc rw
30 22 8:1 / /old rw - ext4 /dev/sda1 rw
31 22 8:1 / /data rw,noatime master:1 shared:2 - ext4 /dev/sda1 rw,nobarrier
";

    #[test]
    fn the_last_mount_of_a_device_is_found_with_all_its_options() {
        let mount = mount_of(MOUNTINFO, "8:1").expect("mounted");
        assert_eq!(mount.kind, "ext4");
        assert_eq!(mount.options, ["rw", "noatime", "rw", "nobarrier"]);
        assert_eq!(mount_of(MOUNTINFO, "9:9"), None);
    }

    #[test]
    fn a_mount_that_swallows_flushes_is_named() {
        let judge = |device| mount(mount_of(MOUNTINFO, device).ok_or("not mounted"));
        let finding = judge("8:1");
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(
            finding
                .reason
                .contains("a power cut takes acknowledged events")
        );
        assert_eq!(judge("254:0").verdict, Verdict::Ok);
        assert_eq!(judge("9:9").verdict, Verdict::Unknown);
    }

    #[test]
    fn filesystems_that_copy_on_write_are_advised_against_and_strangers_not_judged() {
        let of = |kind: &str| {
            mount(Ok(Mount {
                device: "0:1".to_owned(),
                kind: kind.to_owned(),
                options: vec!["rw".to_owned()],
            }))
        };
        assert_eq!(of("btrfs").verdict, Verdict::Advice);
        assert_eq!(of("ntfs").verdict, Verdict::Unknown);
    }
}
