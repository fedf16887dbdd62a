//! What processes and the machine have used, read before and after.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::{Context, bail};

/// What a process and its descendants have used since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// On a core, user and system together, by the scheduler's own clock.
    pub(crate) cpu: Duration,
    /// Of it in user mode, in clock ticks.
    pub(crate) user_ticks: u64,
    /// Of it in the kernel, in clock ticks.
    pub(crate) system_ticks: u64,
    /// Times that a thread went to sleep by itself.
    pub(crate) sleeps: u64,
}

impl Usage {
    /// Of `root` and all that it started.
    ///
    /// # Errors
    /// The root process has ended.
    pub(crate) fn of_tree(root: u32) -> anyhow::Result<Self> {
        let mut used = Self::default();
        for process in tree(root)? {
            // One that ends while we read is not one that serves.
            if let Ok(usage) = Self::of_process(process) {
                used = used + usage;
            }
        }
        if used.cpu.is_zero() {
            bail!("process {root} has ended");
        }
        Ok(used)
    }

    fn of_process(process: u32) -> anyhow::Result<Self> {
        let mut used = Self::default();
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?.path();
            // One that has ended since does no work that we measure; the others of its process do.
            let Ok(schedule) = fs::read_to_string(thread.join("schedstat")) else { continue };
            let nanoseconds = schedule.split(' ').next().context("schedstat is empty")?.parse()?;
            used.cpu += Duration::from_nanos(nanoseconds);
            let status = fs::read_to_string(thread.join("status")).unwrap_or_default();
            let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            used.sleeps += sleeps.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The second field is a name in parentheses that may hold anything.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = after_name.split_ascii_whitespace().skip(11).map(str::parse);
        used.user_ticks = fields.next().context("stat is short")??;
        used.system_ticks = fields.next().context("stat is short")??;
        Ok(used)
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            user_ticks: self.user_ticks + other.user_ticks,
            system_ticks: self.system_ticks + other.system_ticks,
            sleeps: self.sleeps + other.sleeps,
        }
    }
}

impl std::ops::Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
        }
    }
}

/// A process with its descendants, itself first.
pub(crate) fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(process);
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// What the whole machine has spent, in clock ticks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    /// Doing anything.
    pub(crate) busy: u64,
    /// Wanting to, while the host ran somebody else.
    pub(crate) stolen: u64,
    /// All of it.
    pub(crate) total: u64,
}

impl Machine {
    /// Since boot.
    ///
    /// # Errors
    /// /proc/stat cannot be read.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> =
            line.split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; what follows is counted in user already.
        let [user, nice, system, idle, iowait, irq, softirq, stolen, ..] = ticks[..] else {
            bail!("/proc/stat has an unknown form");
        };
        let busy = user + nice + system + irq + softirq;
        Ok(Self { busy, stolen, total: busy + idle + iowait + stolen })
    }

    /// What happened since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            busy: self.busy - before.busy,
            stolen: self.stolen - before.stolen,
            total: self.total - before.total,
        }
    }

    /// The share of all time that the host took away.
    pub(crate) fn stolen_share(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.stolen as f64 / self.total as f64 }
    }
}

/// Memory of a process with its descendants that nobody else would give back, in bytes: what is shared with
/// others counts by its share (PSS).
///
/// # Errors
/// The process has ended, or belongs to somebody else.
pub(crate) fn memory(root: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for process in tree(root)? {
        sum += memory_of(process)?;
    }
    Ok(sum)
}

/// The same of one process alone.
///
/// # Errors
/// See [`memory`].
pub(crate) fn memory_of(process: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let pss = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Ok(pss.with_context(|| format!("{path} has no Pss"))? * 1024)
}

/// [`memory_of`] each, with the name of its program.
///
/// # Errors
/// See [`memory`].
pub(crate) fn memory_by_process(processes: &[u32]) -> anyhow::Result<Vec<(String, u64)>> {
    let mut all = Vec::new();
    for process in processes {
        let name = fs::read_to_string(format!("/proc/{process}/comm"))?.trim().to_owned();
        all.push((name, memory_of(*process)?));
    }
    Ok(all)
}

/// Memory files that a process with its descendants holds open, in bytes; each counts once. They belong to no
/// mapping, so [`memory`] leaves them out.
///
/// # Errors
/// The process has ended, or belongs to somebody else.
pub(crate) fn sealed_memory(root: u32) -> anyhow::Result<u64> {
    let mut files = HashMap::new();
    for process in tree(root)? {
        for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
            let path = entry?.path();
            let target = fs::read_link(&path).unwrap_or_default();
            let is_memory = target.to_string_lossy().starts_with("/memfd:");
            // Closed meanwhile is as good as never open.
            if is_memory && let Ok(file) = fs::metadata(&path) {
                files.insert(file.ino(), file.len());
            }
        }
    }
    Ok(files.values().sum())
}
