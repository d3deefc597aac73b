//! What the kernel says of this process.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// Figures of the process; `None` where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    /// Memory that is in RAM, bytes.
    pub(super) resident: Option<u64>,
    /// Memory that is addressed, bytes.
    pub(super) addressed: Option<u64>,
    /// Time on a processor, seconds.
    pub(super) cpu: Option<f64>,
    /// Start, seconds since 1970.
    pub(super) started: Option<f64>,
    /// Open file descriptors.
    pub(super) descriptors: Option<u64>,
    /// Most of them.
    pub(super) most_descriptors: Option<u64>,
}

impl Process {
    /// Blocks for as long as it takes to count the descriptors.
    pub(super) fn look() -> Process {
        let mut process = Process { descriptors: descriptors(), most_descriptors: limit(), ..Process::default() };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            // The name in brackets may have spaces and brackets; the third field follows it.
            let fields: Vec<&str> =
                stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
            let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
            process.cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) / ticks);
            process.started = field(22).zip(boot()).map(|(since, boot)| boot + since / ticks);
        }
        if let Ok(statm) = fs::read_to_string("/proc/self/statm") {
            let pages = |at| statm.split(' ').nth(at).and_then(|pages| pages.parse::<u64>().ok());
            let bytes = |pages: u64| pages.saturating_mul(rustix::param::page_size() as u64);
            (process.addressed, process.resident) = (pages(0).map(bytes), pages(1).map(bytes));
        }
        process
    }
}

/// When the system started, seconds since 1970.
fn boot() -> Option<f64> {
    let up: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - up)
}

/// Newer kernels say it as the directory's size.
fn descriptors() -> Option<u64> {
    const DIR: &str = "/proc/self/fd";
    match fs::metadata(DIR).map(|metadata| metadata.len()) {
        Ok(0) | Err(_) => fs::read_dir(DIR).ok().map(|entries| entries.count() as u64),
        Ok(count) => Some(count),
    }
}

fn limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let process = Process::look();
        assert!(process.resident.unwrap() > 1 << 20 && process.addressed.unwrap() >= process.resident.unwrap());
        assert!(process.cpu.unwrap() >= 0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - process.started.unwrap();
        assert!((-2.0..3600.0).contains(&age), "{age}");
        let files: Vec<_> = (0..50).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(process.most_descriptors.unwrap() > descriptors().unwrap());
        assert!(descriptors().unwrap() >= 50 + 3);
        drop(files);
    }
}
