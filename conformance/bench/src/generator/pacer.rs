//! When each request is due.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::Turn;

/// Until the connections are made.
const LEAD: Duration = Duration::from_millis(50);

/// Hands out turns at an even rate, to each lane in its turn.
///
/// tokio's own timer counts milliseconds, which would send requests in bursts: a timer of the kernel's is
/// used.
pub(super) async fn run(
    rate: f64,
    duration: Duration,
    requests: usize,
    lanes: &mut [mpsc::UnboundedSender<Turn>],
) -> anyhow::Result<()> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .context("no timer")?;
    #[expect(deprecated, reason = "unsound for descriptors that somebody else may close; this one is owned")]
    let timer = AsyncFd::new(timer).context("no timer")?;
    let begin = Instant::now() + LEAD;
    let count = (duration.as_secs_f64() * rate) as u64;
    let mut next = 0;
    while next < count {
        let now = Instant::now();
        let due = begin + Duration::from_secs_f64(next as f64 / rate);
        if due > now {
            wait(&timer, due - now).await?;
            continue;
        }
        let lane = &lanes[next as usize % lanes.len()];
        // A lane that is closed has failed, and has said so.
        let _ = lane.send(Turn { intended: due, request: next as usize % requests });
        next += 1;
    }
    Ok(())
}

async fn wait(timer: &AsyncFd<OwnedFd>, time: Duration) -> anyhow::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()).max(1) },
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once).context("the timer cannot be set")?;
    let mut ready = timer.readable().await.context("the timer is gone")?;
    let mut expirations = [0; 8];
    // Nothing to read: it was woken for an earlier time, and the caller looks at the clock anyway.
    let _ = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
    Ok(())
}
