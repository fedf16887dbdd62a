//! One run of one executable.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::limits::Limits;
use super::outcome::{self, Outcome};
use crate::process;

/// How long a run goes on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    /// By the clock on the wall, always by the same way through the inputs: a gate that passed passes again.
    Wall(Duration),
    /// Time on a processor: the same work on a busy machine as on an idle one. By a new way each time.
    Cpu(Duration),
}

/// CPU time of one input that libFuzzer calls slow, unless told otherwise.
const SLOW: Duration = Duration::from_secs(10);

/// How often an input that seemed to hang is tried again before that is believed.
const TRIES: usize = 3;

/// How often the time of a run is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Where a target's inputs that are not kept yet are, from run to run.
pub(super) fn found_dir(limits: &Limits) -> PathBuf {
    process::target_dir().join("fuzz/corpus").join(limits.name)
}

/// Inputs in the repository.
pub(super) fn kept_dir(limits: &Limits) -> PathBuf {
    process::root().join("fuzz/corpus").join(limits.name)
}

fn artifacts_dir(limits: &Limits) -> PathBuf {
    process::root().join("fuzz/artifacts").join(limits.name)
}

/// Runs a target for so long, or until something is found.
pub(super) fn run(limits: &Limits, folder: &Path, length: Length) -> anyhow::Result<Outcome> {
    let (found, artifacts) = (found_dir(limits), artifacts_dir(limits));
    for folder in [&found, &artifacts, &kept_dir(limits)] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let before = outcome::files(&artifacts)?;
    let mut program = libfuzzer(limits, folder);
    let most = match length {
        Length::Wall(time) => {
            program.arg(format!("-max_total_time={}", time.as_secs())).arg("-seed=1");
            Duration::MAX
        }
        Length::Cpu(time) => time,
    };
    program.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
    // New inputs go to the first folder.
    program.args([&found, &kept_dir(limits)]);
    let log = process::target_dir().join("fuzz").join(format!("{}.log", limits.name));
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let (status, cpu) = finish(program.stdout(Stdio::null()).stderr(file), most)?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let mut findings = Vec::new();
    let mut was_slow = false;
    for path in outcome::files(&artifacts)?.into_iter().filter(|path| !before.contains(path)) {
        if is_for_its_time(&path) && !is_slow(limits, folder, &path)? {
            was_slow = true;
            fs::remove_file(&path)?;
        } else {
            findings.push(path);
        }
    }
    // A run that ended because of the machine has found nothing.
    let succeeded = status.success() || was_slow && findings.is_empty();
    Ok(Outcome::new(limits.name, &text, succeeded, findings, log).with_cpu(cpu))
}

/// The executable with the target's limits.
pub(super) fn libfuzzer(limits: &Limits, folder: &Path) -> Command {
    let mut program = process::command(&folder.join(limits.name).to_string_lossy());
    program.arg(format!("-max_len={}", limits.longest));
    program.arg(format!("-timeout={}", limits.seconds));
    program.arg(format!("-rss_limit_mb={}", limits.megabytes));
    program.arg(format!("-entropic={}", u8::from(limits.weighs)));
    if let Some(name) = limits.dictionary {
        let dictionary = process::root().join("fuzz/dictionaries").join(name);
        program.arg(format!("-dict={}", dictionary.display()));
    }
    program.stdin(Stdio::null());
    program
}

/// Whether an input was written because it took long, which libFuzzer measures on the wall.
fn is_for_its_time(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ["timeout-", "slow-unit-"].iter().any(|kind| name.starts_with(kind))
}

/// Whether an input takes long by itself, and not because others had the processor.
fn is_slow(limits: &Limits, folder: &Path, input: &Path) -> anyhow::Result<bool> {
    for _ in 0..TRIES {
        let mut program = libfuzzer(limits, folder);
        program.arg("-exact_artifact_path=/dev/null").arg(input).stdout(Stdio::null()).stderr(Stdio::null());
        let (status, cpu) = finish(&mut program, Duration::MAX)?;
        if status.success() || cpu >= SLOW {
            return Ok(cpu >= SLOW);
        }
    }
    // It never ends, or it dies, which is no better.
    Ok(true)
}

/// Waits for a program, asks it to end when it has had `most` of a processor, and returns what it had.
fn finish(program: &mut Command, most: Duration) -> anyhow::Result<(ExitStatus, Duration)> {
    let mut child = program.spawn().with_context(|| format!("cannot start {}", process::shown(program)))?;
    let pid = Pid::from_child(&child);
    let mut has_been_asked = false;
    loop {
        // What a process had is known until it is waited for.
        let has_ended = has_ended(pid)?;
        let cpu = cpu_time(&child)?;
        if has_ended {
            return Ok((child.wait()?, cpu));
        }
        if cpu >= most && !has_been_asked {
            // libFuzzer ends as if its time was over.
            rustix::process::kill_process(pid, Signal::USR1)?;
            has_been_asked = true;
        }
        std::thread::sleep(LOOK);
    }
}

fn has_ended(pid: Pid) -> anyhow::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(rustix::process::waitid(WaitId::Pid(pid), options)?.is_some())
}

/// Time that a process's first thread, which runs the inputs, was on a processor.
fn cpu_time(child: &Child) -> anyhow::Result<Duration> {
    let path = format!("/proc/{}/schedstat", child.id());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Ok(Duration::from_nanos(nanoseconds.with_context(|| format!("{path} has no times"))?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{finish, is_for_its_time};

    #[test]
    fn a_program_is_asked_to_end_when_it_has_had_its_processor_time() {
        let mut busy = Command::new("sh");
        busy.args(["-c", "trap 'exit 7' USR1; while :; do :; done"]).stdin(Stdio::null());
        let (status, cpu) = finish(&mut busy, Duration::from_millis(300)).expect("a shell runs");
        assert_eq!(status.code(), Some(7));
        assert!(cpu >= Duration::from_millis(300), "{cpu:?}");
    }

    #[test]
    fn waiting_is_not_processor_time() {
        let (status, cpu) = finish(Command::new("sleep").arg("1"), Duration::MAX).expect("sleep runs");
        assert!(status.success() && cpu < Duration::from_millis(900), "{cpu:?}");
    }

    #[test]
    fn only_inputs_that_took_long_are_tried_again() {
        assert!(is_for_its_time(Path::new("a/timeout-1")) && is_for_its_time(Path::new("a/slow-unit-1")));
        assert!(!is_for_its_time(Path::new("a/crash-1")) && !is_for_its_time(Path::new("a/oom-1")));
    }
}
