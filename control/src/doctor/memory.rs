//! Pages.

use config::{Config, Memory};

use super::{Finding, Machine};

const HUGEPAGES: &str = "hugepages";

impl Machine {
    pub(super) fn memory(&self, config: Option<&Config>) -> Vec<Finding> {
        let info = self.read("/proc/meminfo").unwrap_or_default();
        let number = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().split(' ').next()?.parse::<u64>().ok()
        };
        let (total, free) = (number("HugePages_Total:"), number("HugePages_Free:"));
        let size = number("Hugepagesize:").unwrap_or(2048);
        let (total, free) = (total.unwrap_or(0), free.unwrap_or(0));
        let free_mib = free * size / 1024;
        let there = format!("{free} of {total} are free, of {size} KiB: {free_mib} MiB");
        let mounted = self.read("/proc/mounts").is_some_and(|mounts| {
            let mut kinds = mounts.lines().filter_map(|line| line.split(' ').nth(2));
            kinds.any(|kind| kind == "hugetlbfs")
        });
        let wanted = config.map(|config| {
            let process = &config.process;
            (process.memory, u64::from(process.memory_mib))
        });
        let pages = |mib: u64| (mib * 1024).div_ceil(size.max(1));
        let fix = |mib| {
            format!(
                "sysctl vm.nr_hugepages={} (and in /etc/sysctl.d to keep it), before memory is fragmented",
                total + pages(mib).saturating_sub(free)
            )
        };
        let pages = match wanted {
            Some((Memory::Hugepages, mib)) if free_mib < mib => Finding::fail(
                HUGEPAGES,
                format!("{there}, and memory_mib asks for {mib}"),
                fix(mib),
            ),
            Some((Memory::Anonymous, mib)) => Finding::warn(
                HUGEPAGES,
                "the configuration has memory = \"anonymous\": every packet costs some 40 to 70 cycles more",
                format!("{}, then memory = \"hugepages\" in [process]", fix(mib)),
            ),
            None if free == 0 => Finding::warn(
                HUGEPAGES,
                format!("{there}: packets cost more without"),
                fix(512),
            ),
            Some((Memory::Hugepages, _)) | None => Finding::ok(HUGEPAGES, there),
        };
        let needs_mount = matches!(wanted, Some((Memory::Hugepages, _)));
        let mount = if mounted || !needs_mount {
            Finding::ok(
                "hugetlbfs",
                if mounted {
                    "mounted"
                } else {
                    "not mounted, and not asked for"
                },
            )
        } else {
            Finding::fail(
                "hugetlbfs",
                "not mounted",
                "mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages",
            )
        };
        let thp = self.read("/sys/kernel/mm/transparent_hugepage/enabled");
        let chosen = thp.as_deref().and_then(|text| {
            let (_, rest) = text.split_once('[')?;
            Some(rest.split_once(']')?.0.to_owned())
        });
        let tables = match chosen.as_deref() {
            Some("never") => Finding::warn(
                "transparent hugepages",
                "never: workers' tables are on small pages, which costs 40 cycles and more with many mobiles",
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            ),
            Some(chosen) => Finding::ok("transparent hugepages", chosen),
            None => Finding::ok("transparent hugepages", "unknown to this kernel"),
        };
        vec![pages, mount, tables]
    }
}
