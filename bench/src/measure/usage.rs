//! What members cost the machine, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// What some processes have used since they started, summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// In user and kernel mode, over all threads.
    pub cpu: Duration,
    /// The sum of each one's greatest resident set so far.
    pub peak_rss_bytes: u64,
    /// The sum of the resident sets now.
    pub rss_bytes: u64,
    /// What they made the kernel send to disks.
    pub written_bytes: u64,
}

impl Usage {
    /// What this process has used.
    pub fn own() -> anyhow::Result<Usage> {
        Usage::of(&[std::process::id()])
    }

    /// What was used since, and the peak of it all.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            peak_rss_bytes: self.peak_rss_bytes,
            rss_bytes: self.rss_bytes,
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
            sum.written_bytes +=
                field(&read("io")?, "write_bytes:").context("no write_bytes in /proc/<pid>/io")?;
        }
        Ok(sum)
    }
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
    fn a_process_that_works_and_writes_is_seen_to() {
        let own = [std::process::id()];
        let before = Usage::of(&own).unwrap();
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
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
