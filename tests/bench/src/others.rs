//! How busy the machine was with other work while the bench ran: on two cores shared with a compiler,
//! the table is about the compiler. Read from /proc, in clock ticks: all work less our own.

use rustix::process::{WaitOptions, set_child_subreaper, wait};

/// A look at the clock ticks, to compare with a later one.
pub struct Others {
    busy: u64,
    idle: u64,
    own: u64,
}

impl Others {
    /// Looks. Whatever our children leave behind becomes our child, so that its time counts as ours.
    pub fn watch() -> Others {
        // It cannot fail since Linux 3.4; where it did, a launcher's children would count as others.
        let _ = set_child_subreaper(rustix::process::Pid::from_raw(1));
        Others::now()
    }

    fn now() -> Others {
        let machine = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        // cpu user nice system idle iowait irq softirq steal
        let ticks: Vec<&str> =
            machine.lines().next().unwrap_or_default().split_whitespace().skip(1).collect();
        let at = |index: usize| ticks.get(index).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // After the name, which is in brackets, utime, stime, cutime and cstime are fields 11 to 14.
        let own = own.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
        Others {
            busy: at(0) + at(1) + at(2) + at(5) + at(6) + at(7),
            idle: at(3) + at(4),
            own: own.filter_map(|word| word.parse::<u64>().ok()).sum(),
        }
    }

    /// The share of all processors' time that others used since then.
    pub fn share(&self) -> f64 {
        let now = Others::now();
        let busy = now.busy - self.busy;
        let others = busy.saturating_sub(now.own - self.own);
        others as f64 / ((busy + now.idle - self.idle) as f64).max(1.0)
    }
}

/// Waits for what our children left behind and has ended. Only between turns: nobody else waits then.
pub fn reap_orphans() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
