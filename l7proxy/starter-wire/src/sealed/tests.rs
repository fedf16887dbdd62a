use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use super::{SealedError, read_sealed, sealed_memfd, verify_sealed};

#[test]
fn sealed_bytes_read_back_and_cannot_be_changed() {
    let memory = sealed_memfd("test", |file| file.write_all(b"listeners and keys")).unwrap();
    assert_eq!(verify_sealed(memory.as_fd()).unwrap(), 18);
    let mut file = File::from(memory.try_clone().unwrap());
    assert!(file.write_all(b"changed").is_err());
    assert!(file.set_len(0).is_err());
    assert_eq!(read_sealed(memory).unwrap(), b"listeners and keys");
}

#[test]
fn unsealed_memory_and_files_are_refused() {
    let open = rustix::fs::memfd_create("open", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    assert!(matches!(verify_sealed(open.as_fd()), Err(SealedError::NotSealed)));
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(verify_sealed(file.as_fd()), Err(SealedError::NotSealed)));
}
