//! Whether a process can be whom it is to be, and give up what it does not need.

use config::{Config, Seccomp};

use super::{Finding, Machine};
use crate::confinement::user::{Obstacle, obstacle};

impl Machine {
    pub(super) fn confinement(&self, config: Option<&Config>) -> Vec<Finding> {
        let wanted = config.map_or(Seccomp::Refuse, |config| config.process.seccomp);
        let mut findings = vec![self.filters(wanted)];
        if let Some((config, user)) = config.and_then(|c| Some((c, c.process.user.as_ref()?))) {
            findings.push(match obstacle(config) {
                Some(Obstacle { found, fix }) => Finding::fail("user", found, fix),
                None => Finding::ok("user", format!("a process that root starts becomes {user}")),
            });
        }
        findings
    }

    fn filters(&self, wanted: Seccomp) -> Finding {
        const CHECK: &str = "system calls";
        if wanted == Seccomp::Off {
            return Finding::ok(CHECK, "not filtered, as [process] seccomp says");
        }
        let actions = self.read("/proc/sys/kernel/seccomp/actions_avail");
        let actions = actions.unwrap_or_default();
        if actions.split_whitespace().any(|action| action == "errno") {
            return Finding::ok(CHECK, "filtered by the kernel, for each kind of thread");
        }
        Finding::warn(
            CHECK,
            "this kernel does not filter them: threads keep all",
            "a kernel with CONFIG_SECCOMP_FILTER, or seccomp = \"off\" in [process]",
        )
    }
}
