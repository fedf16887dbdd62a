use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    pin::pin,
};

use futures_util::StreamExt;
use tokio::{io::AsyncReadExt, net::UnixStream};

use super::{ListenError, admitted, bind};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_socket_is_for_its_owner_alone_and_so_is_a_folder_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/xds.sock");
    let _bound = bind(&path, None).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no other name is left");
}

#[tokio::test]
async fn a_socket_is_given_to_the_configured_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    let me = fs::metadata(folder.path()).unwrap().uid();
    let (owner, expected) = if me == 0 { (65534, 65534) } else { (me, me) };
    let _bound = bind(&path, Some(owner)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().uid(), expected);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (_listener, _file) = bind(&path, None).unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    assert!(matches!(bind(&path, None), Err(ListenError::InUse { .. })));
}

#[tokio::test]
async fn the_file_goes_with_its_server_but_not_with_an_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    let (first, first_file) = bind(&path, None).unwrap();
    drop(first);
    let (_second, second_file) = bind(&path, None).unwrap();
    drop(first_file);
    assert!(path.exists());
    drop(second_file);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_in_the_way_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    fs::write(&path, "precious").unwrap();
    let error = bind(&path, None).unwrap_err();
    assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn a_folder_that_others_may_write_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = bind(&folder.path().join("xds.sock"), None).unwrap_err();
    assert!(error.to_string().ends_with("may be written by others (mode 777); chmod 700 it"), "{error}");
}

#[tokio::test]
async fn a_user_who_is_not_allowed_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    let (listener, _file) = bind(&path, None).unwrap();
    let me = fs::metadata(&path).unwrap().uid();
    let mut strangers = pin!(admitted(listener, vec![me + 1], 8));

    let mut client = UnixStream::connect(&path).await.unwrap();
    let mut buffer = [0];
    tokio::select! {
        read = client.read(&mut buffer) => assert_eq!(read.unwrap_or(0), 0),
        _ = strangers.next() => panic!("the connection was let in"),
    }
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_until_one_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xds.sock");
    let (listener, _file) = bind(&path, None).unwrap();
    let me = fs::metadata(folder.path()).unwrap().uid();
    let mut let_in = pin!(admitted(listener, vec![me], 1));

    let _first = UnixStream::connect(&path).await.unwrap();
    let held = let_in.next().await.unwrap().unwrap();
    let mut second = UnixStream::connect(&path).await.unwrap();
    // The stream goes on to a third connection, which it lets in when the first has gone.
    let (read, ()) = tokio::join!(second.read_u8(), async {
        tokio::select! {
            biased;
            _ = let_in.next() => panic!("the second was let in"),
            () = tokio::task::yield_now() => {}
        }
    });
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    drop(held);
    let _third = UnixStream::connect(&path).await.unwrap();
    assert!(let_in.next().await.unwrap().is_ok());
}
