//! On which CPU the block device's completions arrive (`/proc/interrupts`).
//!
//! A completion is handled where its interrupt lands, and on a virtual disk with one queue that is
//! one CPU for the whole machine: whatever else computes there delays every acknowledgement.

use super::finding::{Finding, Text};

const SETTING: &str = "device interrupts";

/// A share of one CPU from which on the others hardly count.
const ONE_CPU: f64 = 0.9;

/// One interrupt of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// What it is for, as the driver calls it.
    pub name: String,
    /// How often it came, by CPU as the table numbers them.
    pub counts: Vec<(u32, u64)>,
}

/// The interrupts that complete requests of a device. `parent` is the name of the directory behind
/// `/sys/block/*/device`: `virtio1` or `nvme0`; the driver calls its interrupts after it.
#[must_use]
pub fn of_device(table: &str, parent: &str) -> Vec<Interrupt> {
    let mut lines = table.lines();
    let cpus: Vec<u32> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("CPU")?.parse().ok())
        .collect();
    let found = lines.filter_map(|line| parse(line, &cpus));
    found.filter(|one| completes(&one.name, parent)).collect()
}

fn parse(line: &str, cpus: &[u32]) -> Option<Interrupt> {
    let (number, rest) = line.split_once(':')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let counts = words.get(..cpus.len())?;
    let counts: Option<Vec<u64>> = counts.iter().map(|word| word.parse().ok()).collect();
    Some(Interrupt {
        number: number.trim().parse().ok()?,
        name: (*words.get(cpus.len()..)?.last()?).to_owned(),
        counts: cpus.iter().copied().zip(counts?).collect(),
    })
}

/// Whether an interrupt of this name completes requests: not the configuration's, not NVMe's
/// queue 0, which carries administration.
fn completes(name: &str, parent: &str) -> bool {
    let Some(queue) = name.strip_prefix(parent) else {
        return false;
    };
    match (queue.strip_prefix("-req"), queue.strip_prefix('q')) {
        (Some(_), _) => true,
        (_, Some(number)) => number.parse::<u32>().is_ok_and(|number| number > 0),
        _ => false,
    }
}

/// Judges where completions arrive.
#[must_use]
pub fn spread(table: Text<'_>, parent: Text<'_>) -> Finding {
    let (table, parent) = match (table, parent) {
        (Ok(table), Ok(parent)) => (table, parent),
        (Err(obstacle), _) | (_, Err(obstacle)) => return Finding::unknown(SETTING, obstacle),
    };
    let interrupts = of_device(table, parent);
    let mut by_cpu: Vec<(u32, u64)> = Vec::new();
    for (cpu, count) in interrupts.iter().flat_map(|one| &one.counts) {
        match by_cpu.iter_mut().find(|(known, _)| known == cpu) {
            Some((_, sum)) => *sum += count,
            None => by_cpu.push((*cpu, *count)),
        }
    }
    let all: u64 = by_cpu.iter().map(|(_, count)| count).sum();
    let Some(&(busiest, most)) = by_cpu.iter().max_by_key(|(_, count)| *count) else {
        let obstacle = format!("no interrupt in /proc/interrupts is called after {parent}");
        return Finding::unknown(SETTING, obstacle);
    };
    if all == 0 {
        return Finding::unknown(SETTING, format!("{parent} has had none so far"));
    }
    let share = most as f64 / all as f64;
    let value = format!(
        "{} queues of {parent}; CPU {busiest} took {:.0} % of {all}",
        interrupts.len(),
        share * 100.0
    );
    if by_cpu.len() == 1 || share < ONE_CPU {
        return Finding::ok(
            SETTING,
            value,
            "completions arrive where there is room for them",
        );
    }
    let numbers: Vec<String> = interrupts
        .iter()
        .map(|one| one.number.to_string())
        .collect();
    Finding::advice(
        SETTING,
        value,
        format!(
            "keep other work off CPU {busiest} (taskset, cpuset); where the device has several \
             queues, spread them with /proc/irq/{}/smp_affinity_list",
            numbers.join(",")
        ),
        "every durable write of every core completes on that CPU: what computes there delays \
         all acknowledgements",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::finding::Verdict;

    const VIRTIO: &str = "\
           CPU0       CPU1       
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 35:          0          1 PCI-MSIX-0000:00:02.0   0-edge      virtio1-config
 36:          0     561472 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0
 38:          0       3756 PCI-MSIX-0000:00:03.0   1-edge      virtio11-req.0
LOC:     290988     348021   Local timer interrupts
ERR:          0
";

    const NVME: &str = "\
            CPU0       CPU2
  40:        100          0  PCI-MSI 1-edge      nvme0q0
  41:       5000          0  PCI-MSI 2-edge      nvme0q1
  42:          0       4000  PCI-MSI 3-edge      nvme0q2
  43:       7777          0  PCI-MSI 3-edge      nvme1q1
";

    #[test]
    fn only_interrupts_that_complete_the_devices_requests_are_counted() {
        let found = of_device(VIRTIO, "virtio1");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].number, 36);
        assert_eq!(found[0].counts, [(0, 0), (1, 561_472)]);
        let queues: Vec<u32> = of_device(NVME, "nvme0")
            .iter()
            .map(|one| one.number)
            .collect();
        assert_eq!(queues, [41, 42]);
    }

    #[test]
    fn one_cpu_for_all_completions_is_named_and_an_even_spread_is_well() {
        let finding = spread(Ok(VIRTIO), Ok("virtio1"));
        assert_eq!(finding.verdict, Verdict::Advice);
        assert!(finding.advice.unwrap_or_default().contains("off CPU 1"));
        let finding = spread(Ok(NVME), Ok("nvme0"));
        assert_eq!(finding.verdict, Verdict::Ok);
        assert!(
            finding
                .value
                .unwrap_or_default()
                .contains("CPU 0 took 56 % of 9000")
        );
    }

    #[test]
    fn a_device_without_interrupts_of_its_name_is_unknown() {
        for (table, parent) in [(Ok(VIRTIO), Ok("host0")), (Err("gone"), Ok("virtio1"))] {
            assert_eq!(spread(table, parent).verdict, Verdict::Unknown);
        }
        assert_eq!(spread(Ok(""), Ok("virtio1")).verdict, Verdict::Unknown);
    }
}
