//! What every transport must do, checked on real sockets. No sleeps, no upper bounds on time.

use std::fs;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use switchboard_transport::{
    BindError, BindOptions, ConnectError, Credentials, FDS_MAX, Fds, FileLock, Interest, Listener, LockError,
    PeerExit, Poller, Ready, Reaper, Stream, Waker, connect, directories, exit_of, limits, peer_pidfd,
    process, random_seed, spawn,
};

fn send(stream: &Stream, bytes: &[u8]) -> usize {
    stream.send(&[IoSlice::new(bytes)], &[]).expect("room in a fresh socket")
}

fn recv(stream: &Stream, buffer: &mut [u8]) -> (usize, Fds, bool) {
    let mut fds = Fds::new();
    let received = stream.recv_wait(buffer, &mut fds).expect("something to receive");
    (received.bytes, fds, received.truncated)
}

fn wait(poller: &mut Poller) -> Vec<Ready> {
    let mut ready = Vec::new();
    while ready.is_empty() {
        poller.wait(&mut ready, None).expect("a poller waits");
    }
    ready
}

fn look(poller: &mut Poller) -> Vec<Ready> {
    let mut ready = Vec::new();
    poller.wait(&mut ready, Some(Duration::ZERO)).expect("a poller looks");
    ready
}

/// An open descriptor that holds `text`.
fn file_of(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    io::Seek::rewind(&mut file).expect("rewound");
    file.into()
}

fn text_of(fd: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(fd).read_to_string(&mut text).expect("readable");
    text
}

#[test]
fn bytes_cross_in_order_whatever_the_pieces() {
    let (one, other) = Stream::pair().expect("a pair");
    let sent = one.send(&[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")], &[]).expect("sent");
    assert_eq!(sent, 5);
    let mut buffer = [0; 3];
    assert_eq!(recv(&other, &mut buffer).0, 3);
    assert_eq!(&buffer, b"abc");
    assert_eq!(recv(&other, &mut buffer).0, 2);
    assert_eq!(&buffer[..2], b"de");
}

#[test]
fn nothing_to_read_and_no_room_are_told_without_waiting() {
    let (one, other) = Stream::pair().expect("a pair");
    let mut fds = Fds::new();
    let error = other.recv(&mut [0; 8], &mut fds).expect_err("nothing was sent");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

    one.set_send_buffer(4096).expect("a small buffer");
    let chunk = [7; 65536];
    let mut sent = 0;
    loop {
        match one.send(&[IoSlice::new(&chunk)], &[]) {
            Ok(bytes) => sent += bytes,
            Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        assert!(sent < 64 << 20, "a socket that never fills");
    }
    assert!(!one.wait(Interest::WRITE, Some(Duration::ZERO)).expect("polled").writable);
    let mut buffer = vec![0; 65536];
    while sent > 0 {
        sent -= recv(&other, &mut buffer).0;
    }
    assert!(one.wait(Interest::WRITE, None).expect("polled").writable);
}

#[test]
fn a_receive_time_out_ends_a_blocking_receive() {
    let (_one, other) = Stream::pair().expect("a pair");
    other.set_receive_timeout(Some(Duration::ZERO)).expect("set");
    let error = other.recv_wait(&mut [0; 8], &mut Fds::new()).expect_err("nothing was sent");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn the_end_of_a_stream_is_read_and_a_send_to_nobody_is_an_error_not_a_signal() {
    let (one, other) = Stream::pair().expect("a pair");
    send(&one, b"last");
    drop(one);
    let mut buffer = [0; 8];
    assert_eq!(recv(&other, &mut buffer).0, 4);
    assert_eq!(recv(&other, &mut buffer).0, 0);
    let error = other.send(&[IoSlice::new(b"x")], &[]).expect_err("nobody is there");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn descriptors_travel_in_order_with_the_bytes_they_were_sent_with() {
    let (one, other) = Stream::pair().expect("a pair");
    send(&one, b"before");
    let files: Vec<OwnedFd> = (0..FDS_MAX).map(|number| file_of(&format!("file {number}"))).collect();
    let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    assert_eq!(one.send(&[IoSlice::new(b"with")], &borrowed).expect("sent"), 4);
    send(&one, b"after");

    let mut buffer = [0; 64];
    let (mut bytes, mut before_fds) = (Vec::new(), None);
    let mut arrived = Fds::new();
    while bytes.len() < 15 {
        let received = other.recv_wait(&mut buffer, &mut arrived).expect("received");
        assert!(!received.truncated);
        if !arrived.is_empty() && before_fds.is_none() {
            before_fds = Some(bytes.len());
        }
        bytes.extend_from_slice(&buffer[..received.bytes]);
    }
    assert_eq!(bytes, b"beforewithafter");
    assert!(before_fds.expect("they arrived") <= 6, "descriptors come with or before their first byte");
    assert_eq!(arrived.len(), FDS_MAX);
    assert_eq!(arrived.take(1).into_iter().map(text_of).collect::<Vec<_>>(), ["file 0"]);
    let rest: Vec<String> = arrived.into_iter().map(text_of).collect();
    assert_eq!(rest.first().map(String::as_str), Some("file 1"));
    assert_eq!(rest.len(), FDS_MAX - 1);
}

#[test]
fn more_descriptors_than_allowed_are_reported() {
    let (one, other) = Stream::pair().expect("a pair");
    // Our own send refuses, so a peer's is imitated with the bare system call.
    let files: Vec<OwnedFd> = (0..FDS_MAX + 1).map(|_| file_of("")).collect();
    let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX + 1))];
    let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
    assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&borrowed)));
    let parts = [IoSlice::new(b"x")];
    rustix::net::sendmsg(&one, &parts, &mut control, rustix::net::SendFlags::empty()).expect("sent");

    let (bytes, fds, truncated) = recv(&other, &mut [0; 8]);
    assert!(truncated, "{bytes} bytes, {} descriptors", fds.len());
    let reaper = Reaper::start().expect("a thread");
    fds.into_iter().for_each(|fd| reaper.close(fd).expect("room in the queue"));
}

#[test]
fn a_poller_reports_by_token_until_it_was_read() {
    let mut poller = Poller::new().expect("a poller");
    let (one, other) = Stream::pair().expect("a pair");
    poller.add(&other, 42, Interest::READ).expect("added");
    assert_eq!(look(&mut poller), []);
    send(&one, b"xy");
    let ready = Ready { token: 42, readable: true, writable: false, hangup: false };
    assert_eq!(wait(&mut poller), [ready]);
    assert_eq!(recv(&other, &mut [0; 1]).0, 1);
    assert_eq!(wait(&mut poller), [ready], "level-triggered: one byte is left");
    assert_eq!(recv(&other, &mut [0; 1]).0, 1);
    assert_eq!(look(&mut poller), []);
}

#[test]
fn a_poller_follows_changed_interest() {
    let mut poller = Poller::new().expect("a poller");
    let (one, other) = Stream::pair().expect("a pair");
    send(&one, b"x");
    poller.add(&other, 1, Interest::NONE).expect("added");
    assert_eq!(look(&mut poller), []);
    poller.modify(&other, 2, Interest::BOTH).expect("modified");
    assert_eq!(wait(&mut poller), [Ready { token: 2, readable: true, writable: true, hangup: false }]);
    poller.remove(&other).expect("removed");
    assert_eq!(look(&mut poller), []);
}

#[test]
fn a_hang_up_is_seen_while_reading_is_paused() {
    let mut poller = Poller::new().expect("a poller");
    let (one, other) = Stream::pair().expect("a pair");
    poller.add(&other, 1, Interest::NONE).expect("added");
    send(&one, b"unread");
    drop(one);
    assert_eq!(wait(&mut poller), [Ready { token: 1, readable: true, writable: false, hangup: true }]);
}

#[test]
fn a_wait_never_ends_before_its_time_out() {
    let mut poller = Poller::new().expect("a poller");
    let mut ready = Vec::new();
    let timeout = Duration::from_micros(1_300);
    let start = switchboard_transport::clock::monotonic_ns();
    poller.wait(&mut ready, Some(timeout)).expect("waited");
    let waited = switchboard_transport::clock::monotonic_ns() - start;
    assert!(u128::from(waited) >= timeout.as_nanos(), "{waited} ns");
}

#[test]
fn a_waker_wakes_a_poller_and_a_stream_wait_from_another_thread() {
    let mut poller = Poller::new().expect("a poller");
    let waker = Waker::new().expect("a waker");
    let (_one, other) = Stream::pair().expect("a pair");
    poller.add(&waker, 9, Interest::READ).expect("added");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            waker.wake();
            waker.wake();
        });
        assert_eq!(wait(&mut poller)[0].token, 9);
    });
    assert!(other.wait_or_woken(Interest::READ, &waker, None).expect("polled").woken);
    assert!(!other.wait_or_woken(Interest::READ, &waker, Some(Duration::ZERO)).expect("polled").woken);
    assert_eq!(look(&mut poller), []);
}

#[test]
fn a_listener_knows_who_connects() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let listener = Listener::bind(&path, BindOptions { mode: 0o666 }).expect("bound");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o666, "whatever the umask");
    assert!(listener.accept().expect("looked").is_none());

    let client = connect(&path).expect("connected");
    let (served, who) = listener.accept().expect("accepted").expect("a connection waits");
    assert_eq!(
        (who.uid, who.gid, who.pid),
        (process::effective_uid(), process::effective_gid(), process::id())
    );
    assert!(who.exe().expect("we run").contains("conformance"));
    assert_eq!(
        Credentials::of(&client).expect("known").pid,
        process::id(),
        "the client knows its broker, too"
    );
    send(&served, b"hello");
    assert_eq!(recv(&client, &mut [0; 8]).0, 5);
}

#[test]
fn a_socket_is_gone_and_its_lock_free_after_its_listener() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    for _ in 0..2 {
        drop(Listener::bind(&path, BindOptions::default()).expect("bound"));
        assert!(!path.exists());
    }
    assert!(matches!(connect(&path), Err(ConnectError::NoSocket { .. })));
}

#[test]
fn a_live_socket_is_refused_with_its_holder() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let _listener = Listener::bind(&path, BindOptions::default()).expect("bound");
    let error = Listener::bind(&path, BindOptions::default()).expect_err("it is taken");
    assert!(matches!(error, BindError::Held { pid, .. } if pid == Some(process::id())), "{error:?}");
    let message = error.to_string();
    assert!(
        message.contains(&format!("process {}", process::id())) && message.contains("--socket"),
        "{message}"
    );
    connect(&path).expect("the first one still listens");
}

#[test]
fn a_live_socket_whose_listener_has_no_lock_is_refused_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let _foreign = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let error = Listener::bind(&path, BindOptions::default()).expect_err("somebody listens");
    assert!(matches!(error, BindError::Held { pid, .. } if pid == Some(process::id())), "{error:?}");
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    fs::write(&path, "precious").expect("written");
    assert!(matches!(Listener::bind(&path, BindOptions::default()), Err(BindError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&path).expect("still there"), "precious");
}

#[test]
fn a_path_too_long_for_a_socket_is_said_so() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(103)));
    let error = Listener::bind(&path, BindOptions::default()).expect_err("too long");
    assert!(error.to_string().contains("has 108 bytes, a socket's path may have 107"), "{error}");
    assert!(matches!(connect(&path), Err(ConnectError::PathTooLong { length: 108, .. })));
    let missing = Path::new("/nonexistent-directory/s");
    assert!(matches!(Listener::bind(missing, BindOptions::default()), Err(BindError::NoDirectory { .. })));
}

#[test]
fn an_inherited_socket_serves_and_is_not_unlinked() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let bound = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let listener = Listener::from_fd(bound.into()).expect("adopted");
    let _client = connect(&path).expect("connected");
    assert!(listener.accept().expect("accepted").is_some());
    assert!(listener.accept().expect("looked").is_none(), "it does not block");
    drop(listener);
    assert!(path.exists());
    assert!(matches!(connect(&path), Err(ConnectError::NobodyListens { .. })));

    let (one, _other) = Stream::pair().expect("a pair");
    let error = Listener::from_fd(one.into()).expect_err("a connection is no listener");
    assert!(error.to_string().contains("does not listen"), "{error}");
}

/// Not a test of its own: what the next test runs in a child, and kills.
#[test]
#[ignore = "run by a_stale_socket_is_replaced_after_an_unclean_death"]
fn child_that_listens_until_killed() {
    let path = std::env::var_os("SWITCHBOARD_TEST_SOCKET").expect("given by the parent");
    let _listener = Listener::bind(Path::new(&path), BindOptions::default()).expect("bound");
    println!("\nlistening");
    io::stdout().flush().expect("flushed");
    // Nobody writes: this lasts until the kill.
    let _ = io::stdin().read(&mut [0]);
}

#[test]
fn a_stale_socket_is_replaced_after_an_unclean_death() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let mut child = spawn::Spawn::new(std::env::current_exe().expect("we run"));
    child
        .command()
        .args(["--exact", "child_that_listens_until_killed", "--ignored", "--nocapture"])
        .env("SWITCHBOARD_TEST_SOCKET", &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = child.spawn().expect("spawned");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.any(|line| line.expect("text") == "listening"), "the child listens");

    let error = Listener::bind(&path, BindOptions::default()).expect_err("the child has it");
    assert!(matches!(error, BindError::Held { pid, .. } if pid == Some(child.id())), "{error:?}");

    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(matches!(connect(&path), Err(ConnectError::NobodyListens { .. })));
    let _listener = Listener::bind(&path, BindOptions::default()).expect("the socket was stale");
    connect(&path).expect("and is live again");
}

#[test]
fn a_lock_excludes_and_says_who_holds_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lock");
    let lock = FileLock::take(&path).expect("free");
    let error = FileLock::take(&path).expect_err("taken");
    assert!(matches!(error, LockError::Held { pid } if pid == Some(process::id())), "{error:?}");
    drop(lock);
    FileLock::take(&path).expect("free again");
}

#[test]
fn a_child_is_killed_when_its_parent_ends() {
    // The kernel's parent is a thread: one that ends without waiting for its child is enough.
    let mut pipe = std::thread::spawn(|| {
        let mut child = spawn::Spawn::new("sleep");
        child.command().arg("1000").stdout(Stdio::piped());
        child.spawn().expect("spawned").stdout.take().expect("piped")
    })
    .join()
    .expect("the thread ended");
    // Read to its end: which comes when the child is gone.
    assert_eq!(pipe.read(&mut [0; 8]).expect("readable"), 0);
}

#[test]
fn a_group_is_killed_with_its_grandchildren() {
    let mut child = spawn::Spawn::new("sh");
    child.own_group();
    child.command().args(["-c", "sleep 1000 & echo started; wait"]).stdout(Stdio::piped());
    let mut child = child.spawn().expect("spawned");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("text");
    assert_eq!(line, "started\n");
    spawn::kill_group(&child).expect("killed");
    assert_eq!(output.read(&mut [0; 8]).expect("readable"), 0, "the grandchild held the pipe, too");
    child.wait().expect("reaped");
}

#[test]
fn a_childs_limits_and_user_are_as_asked() {
    let mut child = spawn::Spawn::new("sh");
    child.limit(spawn::Limit::OpenFiles, 33);
    if process::effective_uid() == 0 {
        child.identity(65534, 65534);
    }
    child.command().args(["-c", "ulimit -n; id -u"]).stdout(Stdio::piped());
    let output = child.spawn().expect("spawned").wait_with_output().expect("ended");
    let uid = if process::effective_uid() == 0 { 65534 } else { process::effective_uid() };
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("33\n{uid}\n"));
}

#[test]
fn a_dead_peers_exit_status_is_told_where_the_kernel_knows() {
    let (ours, theirs) = Stream::pair().expect("a pair");
    drop(theirs);
    // A socket pair's peer is this process, which runs: nothing to tell.
    if let Some(pidfd) = peer_pidfd(&ours) {
        assert_eq!(exit_of(&pidfd), None);
    }
    let mut child = spawn::Spawn::new("sh");
    child.command().args(["-c", "read line; exit 7"]).stdin(Stdio::piped());
    let mut child = child.spawn().expect("spawned");
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("a pidfd");
    assert_eq!(exit_of(&pidfd), None, "it runs");
    drop(child.stdin.take());
    child.wait().expect("reaped");
    assert!(matches!(exit_of(&pidfd), None | Some(PeerExit::Code(7))), "{:?}", exit_of(&pidfd));
}

#[test]
fn a_private_directory_is_ours_and_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let path = directory.path().join("p");
    directories::ensure_private(&path).expect("made");
    assert_eq!(mode(&path), 0o700);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("opened for reading");
    directories::ensure_private(&path).expect("closed again");
    assert_eq!(mode(&path), 0o700);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("opened for writing");
    let error = directories::ensure_private(&path).expect_err("anything may be inside");
    assert!(error.to_string().contains("0777"), "{error}");

    let link = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path(), &link).expect("linked");
    assert!(matches!(
        directories::ensure_private(&link),
        Err(directories::DirectoryError::NotADirectory { .. })
    ));
    let error = directories::check_private(directory.path(), 12345).expect_err("not theirs");
    assert!(matches!(error, directories::DirectoryError::Foreign { us: 12345, .. }), "{error:?}");
}

#[test]
fn seeds_differ() {
    assert_ne!(random_seed().expect("random"), random_seed().expect("random"));
}

#[test]
fn the_limit_of_open_files_is_never_lowered() {
    let raised = limits::raise_open_files();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert_eq!(limit.current, limit.maximum);
    assert!(limit.current.is_none_or(|current| current <= raised));
    assert!(limits::cpus() >= 1);
}
