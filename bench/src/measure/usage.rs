//! What members cost the machine, from `/proc`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

/// What some processes have used since they started, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// In user and kernel mode, over all threads.
    pub cpu: Duration,
    /// The sum of each one's greatest resident set, since it started or was told to [`forget_peaks`].
    pub peak_rss_bytes: u64,
    /// The sum of the resident sets now.
    pub rss_bytes: u64,
    /// Of that, what is not of files that are mapped.
    pub anonymous_bytes: u64,
    /// What they made the kernel send to disks.
    pub written_bytes: u64,
}

impl Usage {
    /// What this process has used.
    pub fn own() -> anyhow::Result<Usage> {
        let mut usage = Usage::of(&[std::process::id()])?;
        // Not in ticks of ten milliseconds, which is much for a client that needs little. What threads used that have
        // ended is not in it; ours last.
        let mut nanos = 0;
        for task in fs::read_dir("/proc/self/task")? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let used = text
                .split_ascii_whitespace()
                .next()
                .and_then(|used| used.parse::<u64>().ok());
            nanos += used.context("/proc/<pid>/schedstat is not as expected")?;
        }
        usage.cpu = Duration::from_nanos(nanos);
        Ok(usage)
    }

    /// What was used since, and the peak of it all.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            peak_rss_bytes: self.peak_rss_bytes,
            rss_bytes: self.rss_bytes,
            anonymous_bytes: self.anonymous_bytes,
            written_bytes: self.written_bytes.saturating_sub(before.written_bytes),
        }
    }

    /// Reads the counters of processes, all of which must run.
    pub fn of(pids: &[u32]) -> anyhow::Result<Usage> {
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        let mut sum = Usage::default();
        for pid in pids {
            let read = |file: &str| {
                let path = format!("/proc/{pid}/{file}");
                fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
            };
            let ticks = cpu_ticks(&read("stat")?).context("/proc/<pid>/stat is not as expected")?;
            sum.cpu += Duration::from_millis(ticks * 1000 / ticks_per_second);
            let status = read("status")?;
            let size =
                |name| field(&status, name).context("a size is missing in /proc/<pid>/status");
            sum.peak_rss_bytes += 1024 * size("VmHWM:")?;
            sum.rss_bytes += 1024 * size("VmRSS:")?;
            sum.anonymous_bytes += 1024 * size("RssAnon:")?;
            sum.written_bytes +=
                field(&read("io")?, "write_bytes:").context("no write_bytes in /proc/<pid>/io")?;
        }
        Ok(sum)
    }
}

/// Makes peaks count from now, as Linux has it in proc_pid_clear_refs(5).
pub fn forget_peaks(pids: &[u32]) -> anyhow::Result<()> {
    for pid in pids {
        let path = format!("/proc/{pid}/clear_refs");
        fs::write(&path, "5").with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// What a process has in memory, a page that several have being shared among them. None if it has ended.
pub fn pss_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(1024 * field(&text, "Pss:")?)
}

/// The program that a process runs.
pub fn program(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The processes that a process has started, and that those have started.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        parents.extend(parent(&stat).map(|parent| (parent, child)));
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(parent, _)| *parent == above)
                .map(|(_, child)| *child),
        );
        next += 1;
    }
    found.remove(0);
    found
}

/// The fourth field.
fn parent(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// utime and stime, fields 14 and 15; the second field, the name, may hold anything up to its last parenthesis.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_user_and_kernel_time() {
        assert_eq!(
            cpu_ticks("7 (a) b) S 4 5 6 7 8 9 10 11 12 13 140 15 16 17"),
            Some(155)
        );
        assert_eq!(cpu_ticks("7 (a) S 4"), None);
    }

    #[test]
    fn a_childs_child_is_a_descendant() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 60 & echo started; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 8];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        let found = descendants(std::process::id());
        assert!(found.contains(&child.id()), "{found:?}");
        let below = descendants(child.id());
        assert_eq!(below.len(), 1, "the sleep");
        assert!(pss_bytes(child.id()).unwrap() > 0);
        let sleep = rustix::process::Pid::from_raw(below[0] as i32).unwrap();
        rustix::process::kill_process(sleep, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_that_works_and_writes_is_seen_to() {
        let own = [std::process::id()];
        let before = Usage::of(&own).unwrap();
        let mut file = tempfile::tempfile_in(".").unwrap();
        std::io::Write::write_all(&mut file, &vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        let mut number = 1_u64;
        while Usage::of(&own).unwrap().cpu == before.cpu {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        let after = Usage::of(&own).unwrap();
        assert!(
            after.written_bytes >= before.written_bytes + (1 << 20),
            "{before:?} {after:?}"
        );
        assert!(after.peak_rss_bytes > 1 << 20);
    }
}
