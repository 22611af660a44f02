//! A limit on the CPU time of a process, by a control group of the kernel, of either version. Needs root.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::Result;

/// The time in which a process may use its share, in microseconds: short, so that no call waits for long.
const PERIOD: u32 = 20_000;

/// A control group. Dropping the value removes it, once its process has ended.
#[derive(Debug)]
pub(crate) struct CpuLimit(PathBuf);

impl CpuLimit {
    /// Holds a process to this many thousandths of a core.
    pub(crate) fn new(process: u32, thousandths: u32) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let first = Path::new("/sys/fs/cgroup/cpu");
        let is_first = first.is_dir();
        let root = if is_first { first } else { Path::new("/sys/fs/cgroup") };
        let group = root.join(format!("imagestore-bench-{}-{number}", std::process::id()));
        fs::create_dir(&group)
            .map_err(|error| format!("cannot make {}: {error}", group.display()))?;
        let limit = Self(group);
        let quota = PERIOD / 1000 * thousandths;
        if is_first {
            limit.write("cpu.cfs_period_us", &PERIOD.to_string())?;
            limit.write("cpu.cfs_quota_us", &quota.to_string())?;
        } else {
            limit.write("cpu.max", &format!("{quota} {PERIOD}"))?;
        }
        limit.write("cgroup.procs", &process.to_string())?;
        Ok(limit)
    }

    fn write(&self, name: &str, value: &str) -> Result<()> {
        let file = self.0.join(name);
        let wrong = |error| format!("cannot write {value} to {}: {error}", file.display());
        Ok(fs::write(&file, value).map_err(wrong)?)
    }
}

impl Drop for CpuLimit {
    fn drop(&mut self) {
        // A group whose process has not ended stays, and limits nothing else.
        fs::remove_dir(&self.0).ok();
    }
}
