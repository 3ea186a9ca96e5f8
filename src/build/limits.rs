//! What this machine, or the container that we run in, has to offer. Nothing of it reaches a
//! key or an output.

use std::fs;

/// Slots to use when nobody says: the CPUs that this process may use.
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes to use when nobody says: half of what the machine or its control group has.
pub fn default_memory() -> u64 {
    let machine = {
        let info = rustix::system::sysinfo();
        (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
    };
    let group =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    group.unwrap_or(u64::MAX).min(machine) / 2
}

/// User and system time of this process so far, and of those that it has started and that have
/// ended.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9 + children_seconds().unwrap_or(0.0)
}

/// `cutime` and `cstime` of proc(5), the 13th and 14th fields after the state.
fn children_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name before it may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some((ticks(13)? + ticks(14)?) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The machine's name, for people to read; empty if it has none.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
