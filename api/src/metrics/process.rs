//! What the system knows of this process, read from /proc when somebody asks.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Clock ticks in a second, as /proc counts them: the same on every Linux that Rust knows.
const TICKS_PER_S: f64 = 100.0;

#[derive(Debug)]
pub(super) struct ProcessCollector {
    start_s: f64,
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        ProcessCollector {
            start_s: since.as_secs_f64(),
        }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> Result<(), fmt::Error> {
            // What cannot be read is left out rather than told wrong.
            let Some(value) = value else { return Ok(()) };
            ConstGauge::new(value).encode(encoder.encode_descriptor(
                name,
                help,
                None,
                MetricType::Gauge,
            )?)
        };
        let status = fs::read_to_string("/proc/self/status").ok();
        let kib = |name| status.as_deref().and_then(|status| kib_of(status, name));
        gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            kib("VmRSS:"),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory",
            kib("VmSize:"),
        )?;
        gauge("process_open_fds", "Open file descriptors", open_fds())?;
        gauge(
            "process_max_fds",
            "The most file descriptors that may be open",
            max_fds(),
        )?;
        gauge(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            Some(self.start_s),
        )?;
        if let Some(cpu) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(cpu_s)
        {
            let help = "User and system CPU time";
            let descriptor = encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                MetricType::Counter,
            )?;
            ConstCounter::new(cpu).encode(descriptor)?;
        }
        Ok(())
    }
}

/// A line like `VmRSS:    12345 kB`, in bytes.
fn kib_of(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

/// User and system time of /proc/self/stat. The name of the program, in parentheses, may contain anything.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

fn open_fds() -> Option<f64> {
    // One of them is the directory that is being read.
    Some((fs::read_dir("/proc/self/fd").ok()?.count() as f64 - 1.0).max(0.0))
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let stat = "42 (a) b ) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(cpu_s(stat), Some(3.0));
        assert_eq!(cpu_s("garbage"), None);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        assert_eq!(
            kib_of("Name: x\nVmRSS:\t   10 kB\n", "VmRSS:"),
            Some(10240.0)
        );
        assert_eq!(kib_of("Name: x\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_uses_memory_and_files() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(kib_of(&status, "VmRSS:").unwrap() > 0.0);
        assert!(open_fds().unwrap() >= 3.0);
        assert!(max_fds().unwrap() >= 3.0);
    }
}
