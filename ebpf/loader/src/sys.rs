//! System calls that aya and nix have no safe wrapper for.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands of bpf(2), `enum bpf_cmd` in `include/uapi/linux/bpf.h`.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` for BPF_OBJ_GET.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for BPF_LINK_UPDATE.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_link_info`, with the first field of the part that depends on the type.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    /// cgroup: its id (8 bytes); netns: its inode (4 bytes); tcx: the device's index (4 bytes).
    target: [u32; 2],
}

/// `enum bpf_link_type`.
const LINK_TYPE_CGROUP: u32 = 3;

fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a structure of the command's layout and of the size given; the kernel reads
    // and writes no more than that, and the pointers in it outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens a pinned object.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = ObjGet { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let descriptor = bpf(BPF_OBJ_GET, &mut attribute)?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Replaces a link's program; packets and calls see the old or the new one, never none.
///
/// # Errors
/// ENOLINK when what the link was attached to is gone.
pub(crate) fn update_link(link: &OwnedFd, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdate {
        link_fd: link.as_raw_fd().unsigned_abs(),
        new_prog_fd: program.as_raw_fd().unsigned_abs(),
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attribute).map(drop)
}

/// Takes a link's program off at once; removing the pin alone does so a moment later. What the link was
/// attached to may be gone already.
pub(crate) fn detach_link(link: &OwnedFd) -> io::Result<()> {
    let mut link_fd = link.as_raw_fd().unsigned_abs();
    bpf(BPF_LINK_DETACH, &mut link_fd).map(drop)
}

/// What a link is attached to: a cgroup's id, a network namespace's inode or a device's index; 0 when that
/// is gone.
pub(crate) fn link_target(link: &OwnedFd) -> io::Result<u64> {
    let mut info = LinkInfo::default();
    let mut attribute = InfoByFd {
        bpf_fd: link.as_raw_fd().unsigned_abs(),
        info_len: size_of::<LinkInfo>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute)?;
    let [low, high] = info.target.map(u64::from);
    // The cgroup's id is one number of 8 bytes on a little-endian machine, the only kind we build for.
    Ok(if info.kind == LINK_TYPE_CGROUP { low | high << 32 } else { low })
}

/// The kernel's cookie of the calling thread's network namespace.
///
/// # Errors
/// What socket(2) or getsockopt(2) say; SO_NETNS_COOKIE came with Linux 5.14.
pub fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the buffer has the length given, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}
