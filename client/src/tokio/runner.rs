//! The task that reads for everyone, writes what the socket did not take, and makes lost connections
//! anew. It ends when nobody holds the board any more.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};
use std::task::Poll;

use switchboard_transport::{Fds, Stream};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::driver::{Awaits, Shared, establish};
use crate::session::Inbox;

/// How much is read before others get a turn.
const READS_PER_TURN: u32 = 16;

/// Leads for this board from now on. In a runtime.
pub(super) fn start(board: &Arc<Shared>) {
    board.lock().link.is_led_by_task = true;
    tokio::spawn(run(Arc::downgrade(board)));
}

async fn run(board: Weak<Shared>) {
    loop {
        let Some(shared) = board.upgrade() else { return };
        let (stream, inbox) = {
            let mut state = shared.lock();
            (Arc::clone(&state.link.stream), state.inbox.take())
        };
        drop(shared);
        if let Some(inbox) = inbox {
            let why = read(&board, stream, inbox).await;
            let Some(shared) = board.upgrade() else { return };
            let mut state = shared.lock();
            state.lose(&why);
            shared.release(state);
        }
        if !connect(&board).await {
            return;
        }
    }
}

/// Reads until the connection ends, and says why.
async fn read(board: &Weak<Shared>, stream: Arc<Stream>, mut inbox: Inbox) -> String {
    let readiness = match readiness(&stream) {
        Ok(readiness) => readiness,
        Err(error) => return error.to_string(),
    };
    loop {
        if let Err(error) = until_readable(board, &readiness).await {
            return error.to_string();
        }
        for _ in 0..READS_PER_TURN {
            // SPEC 2.8: no descriptors belong to any frame; what comes is closed.
            let mut fds = Fds::new();
            let got = readiness.try_io(Interest::READABLE, || stream.recv(inbox.space(), &mut fds));
            match got {
                Ok(got) if got.bytes == 0 => return "the broker closed it".into(),
                Ok(got) => inbox.filled(got.bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return "the broker closed it".into();
                }
                Err(error) => return error.to_string(),
            }
            let Some(shared) = board.upgrade() else { return String::new() };
            let mut state = shared.lock();
            state.take_frames(inbox, Awaits::Nothing);
            let back = state.inbox.take();
            shared.write_and_release(state);
            match back {
                Some(back) => inbox = back,
                // Lost: the state knows why.
                None => return String::new(),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// The runtime's view of the socket, by a descriptor of its own. It makes the socket non-blocking,
/// which is how everything here uses it.
fn readiness(stream: &Stream) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Waits until there is something to read; writes meanwhile whatever waits to be written.
async fn until_readable(board: &Weak<Shared>, readiness: &UnixStream) -> io::Result<()> {
    poll_fn(|task| {
        if let Some(shared) = board.upgrade() {
            let mut state = shared.lock();
            state.link.writer_task = Some(task.waker().clone());
            while state.has_output() && !state.output.is_writing && state.link.is_up {
                drop(state);
                match readiness.poll_write_ready(task) {
                    Poll::Ready(ready) => ready?,
                    // This task is woken when there is room.
                    Poll::Pending => return readiness.poll_read_ready(task),
                }
                let _ = readiness.try_io(Interest::WRITABLE, || {
                    let (state, full) = shared.write(shared.lock());
                    shared.release(state);
                    if full { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                });
                state = shared.lock();
                state.link.writer_task = Some(task.waker().clone());
            }
        }
        readiness.poll_read_ready(task)
    })
    .await
}

/// Makes a connection anew; `false` if there will be none.
async fn connect(board: &Weak<Shared>) -> bool {
    loop {
        let Some(shared) = board.upgrade() else { return false };
        let pause = {
            let mut state = shared.lock();
            if state.link.is_up {
                return true;
            }
            if !state.link.reconnects || state.link.is_closed {
                return false;
            }
            state.link.is_connecting = true;
            state.pause(&shared.config.reconnect)
        };
        let config = shared.config.clone();
        drop(shared);
        tokio::time::sleep(pause).await;
        // It waits for a handshake, which is quick, but not ours to promise.
        let established = tokio::task::spawn_blocking(move || establish(&config)).await;
        let Some(shared) = board.upgrade() else { return false };
        let mut state = shared.lock();
        match established {
            Ok(established) => state.install(established),
            // The runtime is going down.
            Err(_) => return false,
        }
        shared.write_and_release(state);
    }
}
