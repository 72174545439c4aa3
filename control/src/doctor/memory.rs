//! Pages.

use config::{Config, Memory};

use super::{Finding, Machine};

const HUGEPAGES: &str = "hugepages";

impl Machine {
    pub(super) fn memory(&self, config: Option<&Config>) -> Vec<Finding> {
        let info = self.read("/proc/meminfo").unwrap_or_default();
        let size = info.lines().find_map(|line| {
            let text = line.strip_prefix("Hugepagesize:")?.trim();
            text.split(' ').next()?.parse::<u64>().ok()
        });
        let size = size.unwrap_or(2048);
        let sizes = self.hugepages();
        let there: Vec<_> = (sizes.iter())
            .map(|(size, total, free)| format!("{free} of {total} are free, of {size} KiB"))
            .collect();
        let free_mib = sizes.iter().map(|(size, _, free)| size * free).sum::<u64>() / 1024;
        let there = format!("{}: {free_mib} MiB", there.join(", "));
        let of_size = sizes.iter().find(|(other, _, _)| *other == size);
        let total = of_size.map_or(0, |(_, total, _)| *total);
        let wanted = config.map(|config| {
            let process = &config.process;
            (process.memory, u64::from(process.memory_mib))
        });
        let pages = |mib: u64| (mib * 1024).div_ceil(size.max(1));
        let fix = |mib: u64| {
            format!(
                "sysctl vm.nr_hugepages={} (and in /etc/sysctl.d to keep it), before memory is fragmented",
                total + pages(mib.saturating_sub(free_mib))
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
            None if free_mib == 0 => Finding::warn(
                HUGEPAGES,
                format!("{there}: packets cost more without"),
                fix(512),
            ),
            Some((Memory::Hugepages, _)) | None => Finding::ok(HUGEPAGES, there),
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
        vec![pages, tables]
    }

    /// Hugepages of every size: KiB of one, how many there are, and how many of them are free. Nothing need be
    /// mounted: they are taken as anonymous files.
    fn hugepages(&self) -> Vec<(u64, u64, u64)> {
        let directory = "/sys/kernel/mm/hugepages";
        let of = |name: &String| {
            let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            let count = |file: &str| -> Option<u64> {
                let text = self.read(format!("{directory}/{name}/{file}"))?;
                text.trim().parse().ok()
            };
            Some((
                size.parse().ok()?,
                count("nr_hugepages")?,
                count("free_hugepages")?,
            ))
        };
        let mut sizes: Vec<_> = self.list(directory).iter().filter_map(of).collect();
        sizes.sort_unstable();
        sizes
    }
}
