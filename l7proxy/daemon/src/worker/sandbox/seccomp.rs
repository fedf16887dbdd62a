//! The system calls that a worker may make.
//!
//! Three filters, of which the kernel takes the strictest answer:
//! - what is not listed in [`ALLOWED`] or [`rules`] fails with EPERM, and the kernel's audit log says so
//!   (`type=1326`), so that a call that a new library version makes is an error to be found, not a crash;
//! - what only an intruder calls ([`FATAL`]) kills the process;
//! - `clone3`, whose flags a filter cannot see, answers ENOSYS, upon which libc uses `clone`, whose flags
//!   it can: threads yes, processes no.
//!
//! The list was found by running the integration tests under `strace -f`, and reading what tokio, mio,
//! rustls, mimalloc and the standard library call on paths that tests do not reach.

use std::collections::BTreeMap;
use std::io;

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::sys;

/// Allowed whatever the arguments are.
const ALLOWED: &[libc::c_long] = &[
    // Descriptors and streams. `openat` is here since libc tries to open files now and then (locale,
    // time zone, /proc/self) and takes a refusal well: Landlock refuses.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_faccessat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_pipe2,
    libc::SYS_splice,
    libc::SYS_sendfile,
    // Sealed memory for the stored configuration.
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    // Sockets. Families are in `rules`.
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Memory. Executable memory is in `rules`.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    // Threads. Starting them is in `rules`.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    // Facts.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_capget,
];

/// Calls that exist on this architecture only.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// No honest worker makes these.
const FATAL: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
];

/// Why no filter was installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    /// seccompiler knows x86-64, aarch64 and riscv64.
    #[error("no system call filter can be made for this kind of processor")]
    Architecture(#[source] BackendError),
    /// A mistake in the lists of this file.
    #[error("the system call filter cannot be compiled")]
    Compile(#[source] BackendError),
    /// The kernel refused it.
    #[error("the kernel refuses a system call filter")]
    Apply(#[source] seccompiler::Error),
    /// The same, for those whose denials are logged.
    #[error("the kernel refuses a system call filter")]
    Install(#[source] io::Error),
}

/// Installs the filters for this thread and those it will start.
pub(super) fn install() -> Result<(), SeccompError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into().map_err(SeccompError::Architecture)?;
    let programs = programs(architecture, std::process::id()).map_err(SeccompError::Compile)?;
    sys::install_logging_filter(&programs.fatal).map_err(SeccompError::Install)?;
    // Not logged: libc tries it for each thread.
    seccompiler::apply_filter(&programs.not_there).map_err(SeccompError::Apply)?;
    // The last one, since it forbids installing more.
    sys::install_logging_filter(&programs.allowed).map_err(SeccompError::Install)?;
    Ok(())
}

/// The compiled filters.
struct Programs {
    fatal: BpfProgram,
    not_there: BpfProgram,
    allowed: BpfProgram,
}

fn programs(architecture: TargetArch, own_pid: u32) -> Result<Programs, BackendError> {
    let only = |calls: &[libc::c_long], action: SeccompAction| -> Result<BpfProgram, BackendError> {
        let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
        SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?.try_into()
    };
    let not_there = u32::try_from(libc::ENOSYS).expect("error numbers are positive");
    let denied = u32::try_from(libc::EPERM).expect("error numbers are positive");
    let (deny, allow) = (SeccompAction::Errno(denied), SeccompAction::Allow);
    Ok(Programs {
        fatal: only(FATAL, SeccompAction::KillProcess)?,
        not_there: only(&[libc::SYS_clone3], SeccompAction::Errno(not_there))?,
        allowed: SeccompFilter::new(rules(own_pid)?, deny, allow, architecture)?.try_into()?,
    })
}

/// What is allowed: call, and the arguments that it is allowed with (none listed: any).
fn rules(own_pid: u32) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    let value = |number: libc::c_int| u64::from(number.cast_unsigned());

    // No netlink, packet or vsock sockets.
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX];
    rules.insert(libc::SYS_socket, one_of(0, &families.map(value))?);
    rules.insert(libc::SYS_socketpair, one_of(0, &[value(libc::AF_UNIX)])?);

    // No code but what was loaded: memory is never made executable.
    let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(
            call,
            vec![SeccompRule::new(vec![SeccompCondition::new(2, Dword, MaskedEq(executable), 0)?])?],
        );
    }

    // Threads, not processes.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    rules.insert(
        libc::SYS_clone,
        vec![SeccompRule::new(vec![SeccompCondition::new(0, Qword, MaskedEq(thread), thread)?])?],
    );

    // Signals to itself only: `abort`.
    rules.insert(libc::SYS_tgkill, one_of(0, &[u64::from(own_pid)])?);
    rules.insert(libc::SYS_kill, one_of(0, &[u64::from(own_pid)])?);

    // Reading limits, not setting them.
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![SeccompCondition::new(2, Qword, Eq, 0)?])?]);

    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_GET_NO_NEW_PRIVS];
    rules.insert(libc::SYS_prctl, one_of(0, &names.map(value))?);

    // Blocking mode, close-on-exec, bytes waiting, and `isatty`.
    let controls = [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS];
    rules.insert(libc::SYS_ioctl, one_of(1, &controls)?);
    Ok(rules)
}

/// One rule for each value that the argument may have.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values
        .iter()
        .map(|value| SeccompRule::new(vec![SeccompCondition::new(argument, Dword, Eq, *value)?]))
        .collect()
}

#[cfg(test)]
mod tests;
